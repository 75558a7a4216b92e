"""The product's database: connections, datasets, migrations."""

from shared.database.engine import begin_write, connect, describe_error

__all__ = ["begin_write", "connect", "describe_error"]
