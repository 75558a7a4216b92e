"""The tables of the shipped datasets, and how far imports are.

The columns are written out, not taken from the declarations: those change later, and this migration must not.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _datasets()
    _imports()


def downgrade() -> None:
    for table in (
        "import_rejects",
        "import_checkpoints",
        "bookings",
        "users",
        "parameters",
        "experiments",
        "papers",
        "terms",
    ):
        op.drop_table(table)


def _json() -> TypeEngine[Any]:
    return sa.JSON().with_variant(JSONB(), "postgresql")


def _datasets() -> None:
    op.create_table(
        "terms",
        sa.Column("term", sa.Text(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("short_definition", sa.Text()),
        sa.Column("category", sa.Text()),
        sa.Column("subcategory", sa.Text()),
        sa.Column("types", sa.Text()),
        sa.Column("characteristics", sa.Text()),
        sa.Column("advantages", sa.Text()),
        sa.Column("disadvantages", sa.Text()),
        sa.Column("applications", sa.Text()),
        sa.Column("examples", sa.Text()),
        sa.Column("formula", sa.Text()),
        sa.Column("related_terms", sa.Text()),
        sa.Column("synonyms", sa.Text()),
        sa.Column("difficulty", sa.Text()),
        sa.Column("year_introduced", sa.BigInteger()),
        sa.Column("source_url", sa.Text()),
        sa.PrimaryKeyConstraint("term", name="pk_terms"),
    )
    op.create_table(
        "papers",
        sa.Column("paper_id", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("authors", sa.Text()),
        sa.Column("abstract", sa.Text()),
        sa.Column("journal", sa.Text()),
        sa.Column("year", sa.BigInteger()),
        sa.Column("published_on", sa.Date()),
        sa.Column("doi", sa.Text()),
        sa.Column("url", sa.Text()),
        sa.Column("keywords", sa.Text()),
        sa.Column("citations", sa.BigInteger()),
        sa.Column("open_access", sa.Boolean()),
        sa.Column("details", _json()),
        sa.PrimaryKeyConstraint("paper_id", name="pk_papers"),
    )
    op.create_table(
        "experiments",
        sa.Column("experiment_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text()),
        sa.Column("status", sa.Text()),
        sa.Column("researcher", sa.Text()),
        sa.Column("system", sa.Text()),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("metrics", _json()),
        sa.Column("notes", sa.Text()),
        sa.PrimaryKeyConstraint("experiment_id", name="pk_experiments"),
    )
    op.create_table(
        "parameters",
        sa.Column("experiment_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("unit", sa.Text()),
        sa.Column("uncertainty", sa.Double()),
        sa.Column("minimum", sa.Double()),
        sa.Column("maximum", sa.Double()),
        sa.Column("category", sa.Text()),
        sa.Column("source", sa.Text()),
        sa.Column("measured_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("experiment_id", "name", name="pk_parameters"),
    )
    op.create_table(
        "users",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("name", sa.Text()),
        sa.Column("role", sa.Text()),
        sa.Column("organisation", sa.Text()),
        sa.Column("language", sa.Text()),
        sa.Column("active", sa.Boolean()),
        sa.Column("joined_at", sa.DateTime(timezone=True)),
        sa.Column("last_seen_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("user_id", name="pk_users"),
    )
    op.create_table(
        "bookings",
        sa.Column("booking_id", sa.Text(), nullable=False),
        sa.Column("customer_name", sa.Text(), nullable=False),
        sa.Column("customer_email", sa.Text()),
        sa.Column("customer_phone", sa.Text()),
        sa.Column("service", sa.Text()),
        sa.Column("pickup_location", sa.Text()),
        sa.Column("dropoff_location", sa.Text()),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("passengers", sa.BigInteger()),
        sa.Column("price", sa.Double()),
        sa.Column("currency", sa.Text()),
        sa.Column("status", sa.Text()),
        sa.Column("paid", sa.Boolean()),
        sa.Column("booked_at", sa.DateTime(timezone=True)),
        sa.Column("notes", sa.Text()),
        sa.PrimaryKeyConstraint("booking_id", name="pk_bookings"),
    )


def _imports() -> None:
    op.create_table(
        "import_checkpoints",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("read", sa.BigInteger(), nullable=False),
        sa.Column("inserted", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("skipped", sa.BigInteger(), nullable=False),
        sa.Column("rejected", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("result", sa.Text()),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="pk_import_checkpoints"),
    )
    op.create_index("ix_import_checkpoints_updated_at", "import_checkpoints", ["updated_at"])
    op.create_table(
        "import_rejects",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("row_number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("mistake", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("column_name", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "row_number", "mistake", name="pk_import_rejects"),
    )
