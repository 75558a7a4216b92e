"""The only reader of the environment.

Everything else receives a :class:`Settings`, so that what a process does can be told from one frozen object.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.failures.scrubbing import remember_secret

#: a Unix socket path longer than this does not fit into sockaddr_un on every platform (Linux 108, macOS 104)
_SOCKET_PATH_LIMIT = 100

#: where to reach on this machine what listens on every address
_LOOPBACKS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound to them here


class _KeepsSecrets(BaseSettings):
    """Settings whose secrets are scrubbed from what is kept of failures."""

    def model_post_init(self, _context: Any, /) -> None:
        """Take note of the secrets."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, SecretStr):
                remember_secret(value.get_secret_value())


class Settings(_KeepsSecrets):
    """What one process of Callboard is told by its environment.

    Fields with a ``CALLBOARD_`` variable are Callboard's own; the others keep the names that operators know from
    elsewhere (``REDIS_URL``, ``DATABASE_URL``, ``PORT`` …).
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True, env_ignore_empty=True)

    #: folder for everything that must survive a restart on a single machine
    data_dir: Path = Field(Path(".data"), validation_alias="CALLBOARD_DATA_DIR")
    #: port of the HTTP API
    port: int = Field(8000, validation_alias="PORT", ge=1, le=65535)
    #: address the API listens on; loopback, so that nothing is open to a network unless asked
    host: str = Field("127.0.0.1", validation_alias="CALLBOARD_HOST")
    #: admin key; made on the first start when not given
    admin_key: SecretStr | None = Field(None, validation_alias="CALLBOARD_ADMIN_KEY")
    #: base URL that clients of the API use
    api_url_override: str | None = Field(None, validation_alias="CALLBOARD_URL")
    #: prefix of every Redis key
    namespace: str = Field("cb", validation_alias="CALLBOARD_NAMESPACE", pattern=r"^[A-Za-z0-9_-]{1,32}$")

    #: false: there is no queue server; jobs run at once, in the process that submits them
    queue_enabled: bool = Field(True, validation_alias="QUEUE_ENABLED")
    redis_url_override: SecretStr | None = Field(None, validation_alias="REDIS_URL")
    redis_host: str | None = Field(None, validation_alias="REDIS_HOST")
    redis_port: int = Field(6379, validation_alias="REDIS_PORT")
    redis_password: SecretStr | None = Field(None, validation_alias="REDIS_PASSWORD")
    redis_db: int = Field(0, validation_alias="REDIS_DB", ge=0)

    #: SQLAlchemy URL; SQLite in the data folder by default
    database_url_override: SecretStr | None = Field(None, validation_alias="DATABASE_URL")
    #: a Python file or folder of files that declare further datasets
    datasets_path: Path | None = Field(None, validation_alias="CALLBOARD_DATASETS")

    #: which family this worker process serves; ``all`` serves every one
    worker_family: str = Field("all", validation_alias="WORKER_FAMILY")
    #: package whose sub-packages are the job families
    families_package: str = Field("services.workers.families", validation_alias="CALLBOARD_FAMILIES")
    #: how long a worker may be silent before its jobs are given to another, in seconds
    lease_s: float = Field(30.0, validation_alias="CALLBOARD_LEASE_S", gt=0.2, le=3600)

    #: address that a worker's health probes listen on; loopback, so that nothing is open to a network unless asked
    health_host: str = Field("127.0.0.1", validation_alias="WORKER_HEALTH_HOST")
    #: port of the first process's probes, the next process has the next port; 0 listens on none
    health_port: int = Field(0, validation_alias="WORKER_HEALTH_PORT", ge=0, le=65000)
    #: how long jobs may wait while threads are idle and nothing is fetched, before a worker counts as stuck, in seconds
    health_stuck_s: float = Field(30.0, validation_alias="WORKER_HEALTH_STUCK_S", ge=0.5, le=3600)

    #: largest file that ``POST /api/v1/files`` takes, in bytes
    max_upload_bytes: int = Field(200 * 1024 * 1024, validation_alias="CALLBOARD_MAX_UPLOAD_BYTES", gt=0)
    #: processes of the API
    api_workers: int = Field(1, validation_alias="CALLBOARD_API_WORKERS", ge=1, le=64)
    #: requests that one process of the API serves at once; three quarters of them may be event streams
    api_threads: int = Field(64, validation_alias="CALLBOARD_API_THREADS", ge=4, le=4096)
    #: an event stream with nothing to say gives a sign of life this often, in seconds
    heartbeat_s: float = Field(15.0, validation_alias="CALLBOARD_HEARTBEAT_S", ge=0.1, le=300)
    #: how long ``POST /api/admin/import`` waits for a small file before it answers as for a large one, in seconds
    import_wait_s: float = Field(120.0, validation_alias="CALLBOARD_IMPORT_WAIT_S", ge=0, le=3600)

    #: ``json`` for machines, ``console`` for people
    log_format: str = Field("console", validation_alias="CALLBOARD_LOG_FORMAT", pattern="^(json|console)$")
    log_level: str = Field("INFO", validation_alias="CALLBOARD_LOG_LEVEL")

    @model_validator(mode="after")
    def _check_inline(self) -> Settings:
        if not self.queue_enabled and self.api_workers > 1:
            raise ValueError(
                "QUEUE_ENABLED=false keeps jobs in the memory of one process: leave CALLBOARD_API_WORKERS at 1."
            )
        return self

    @cached_property
    def redis_is_embedded(self) -> bool:
        """Whether no Redis was configured, so that ``make run`` brings its own."""
        return self.redis_url_override is None and self.redis_host is None

    @cached_property
    def embedded_socket(self) -> Path:
        """Where the embedded server listens: in the data folder, or in a private place where that path is too long."""
        path = self.data_dir.absolute() / "valkey" / "valkey.sock"
        if len(str(path)) <= _SOCKET_PATH_LIMIT:
            return path
        digest = hashlib.sha256(str(path).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"callboard-{os.getuid()}-{digest}" / "valkey.sock"

    @cached_property
    def redis_url(self) -> str:
        """Where the queue server is. May hold a password: never log it."""
        if self.redis_url_override is not None:
            return self.redis_url_override.get_secret_value()
        if self.redis_host is not None:
            auth = f":{quote(self.redis_password.get_secret_value(), safe='')}@" if self.redis_password else ""
            host = f"[{self.redis_host}]" if ":" in self.redis_host else self.redis_host
            return f"redis://{auth}{host}:{self.redis_port}/{self.redis_db}"
        return f"unix://{quote(str(self.embedded_socket))}?db={self.redis_db}"

    @cached_property
    def database_url(self) -> str:
        """Where the product's tables are. May hold a password: never log it."""
        if self.database_url_override is not None:
            return self.database_url_override.get_secret_value()
        return f"sqlite:///{self.data_dir.absolute() / 'callboard.db'}"

    @cached_property
    def local_url(self) -> str:
        """Base URL under which the API answers on this machine, whatever the world calls it."""
        host = _LOOPBACKS.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @cached_property
    def api_url(self) -> str:
        """Base URL that clients of the API use."""
        return (self.api_url_override or self.local_url).rstrip("/")

    @cached_property
    def storage_dir(self) -> Path:
        """Folder of the local object storage."""
        return self.data_dir.absolute() / "files"

    @cached_property
    def admin_key_path(self) -> Path:
        """Where an admin key that was made on the first start is kept (mode 600)."""
        return self.data_dir.absolute() / "admin.key"


class FamilySettings(_KeepsSecrets):
    """Base of what a family's ``settings.py`` reads from the environment; the subclass gives its ``env_prefix``."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True, env_ignore_empty=True)


@lru_cache(maxsize=1)
def load_settings() -> Settings:
    """Read the environment once; later calls return the same object.

    Raises:
        pydantic.ValidationError: if a variable has a value that makes no sense.
    """
    return Settings()
