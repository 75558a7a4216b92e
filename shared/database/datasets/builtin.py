"""The datasets that come with Callboard. Their tables are made by the migrations."""

from __future__ import annotations

from shared.database.datasets.declaration import Column, ColumnType, Dataset

_INTEGER, _NUMBER, _BOOLEAN = ColumnType.INTEGER, ColumnType.NUMBER, ColumnType.BOOLEAN
_DATE, _DATETIME, _JSON = ColumnType.DATE, ColumnType.DATETIME, ColumnType.JSON

TERMS = Dataset(
    name="terms",
    description="A glossary: one row a term.",
    key=("term",),
    columns=(
        Column("term", nullable=False, max_length=200, aliases=("name", "title"), description="The term itself."),
        Column("definition", nullable=False, max_length=20_000, aliases=("full_definition", "description")),
        Column("short_definition", max_length=500, aliases=("summary", "short_description")),
        Column("category", max_length=200, aliases=("main_category",)),
        Column("subcategory", max_length=200, aliases=("sub_category",)),
        Column("types", max_length=5_000, aliases=("type", "kinds"), description="Kinds of it, parted by ';'."),
        Column("characteristics", max_length=5_000, aliases=("properties",), description="Parted by ';'."),
        Column("advantages", max_length=5_000, aliases=("pros", "strengths")),
        Column("disadvantages", max_length=5_000, aliases=("cons", "limitations")),
        Column("applications", max_length=5_000, aliases=("use_cases", "uses")),
        Column("examples", max_length=5_000, aliases=("example",)),
        Column("formula", max_length=2_000, aliases=("equation",)),
        Column("related_terms", max_length=2_000, aliases=("related", "see_also"), description="Parted by ';'."),
        Column("synonyms", max_length=1_000, aliases=("also_known_as",), description="Parted by ';'."),
        Column(
            "difficulty", choices=("beginner", "intermediate", "advanced"), max_length=20, aliases=("difficulty_level",)
        ),
        Column("year_introduced", _INTEGER, minimum=1600, maximum=2200, aliases=("year", "introduced")),
        Column("source_url", max_length=2_000, aliases=("url", "link", "source")),
    ),
)

PAPERS = Dataset(
    name="papers",
    description="Scientific papers.",
    key=("paper_id",),
    columns=(
        Column("paper_id", nullable=False, max_length=200, aliases=("id",)),
        Column("title", nullable=False, max_length=2_000),
        Column("authors", max_length=10_000, aliases=("author",), description="Parted by ';'."),
        Column("abstract", max_length=50_000, aliases=("summary",)),
        Column("journal", max_length=1_000, aliases=("venue", "publication")),
        Column("year", _INTEGER, minimum=1500, maximum=2200, aliases=("publication_year",)),
        Column("published_on", _DATE, aliases=("published", "publication_date")),
        Column("doi", max_length=300),
        Column("url", max_length=2_000, aliases=("link",)),
        Column("keywords", max_length=5_000, aliases=("tags",), description="Parted by ';'."),
        Column("citations", _INTEGER, minimum=0, aliases=("citation_count", "cited_by")),
        Column("open_access", _BOOLEAN),
        Column("details", _JSON, aliases=("metadata",), description="Anything further."),
    ),
)

EXPERIMENTS = Dataset(
    name="experiments",
    description="Experiments and how they went.",
    key=("experiment_id",),
    columns=(
        Column("experiment_id", nullable=False, max_length=200, aliases=("id",)),
        Column("name", nullable=False, max_length=500, aliases=("title",)),
        Column("description", max_length=20_000),
        Column("status", choices=("planned", "running", "completed", "failed", "cancelled"), max_length=20),
        Column("researcher", max_length=300, aliases=("owner",)),
        Column("system", max_length=300, aliases=("model", "setup"), description="What it was carried out on."),
        Column("started_at", _DATETIME, aliases=("start", "started")),
        Column("ended_at", _DATETIME, aliases=("end", "ended", "finished")),
        Column("metrics", _JSON, aliases=("results",)),
        Column("notes", max_length=20_000, aliases=("comment", "comments")),
    ),
)

PARAMETERS = Dataset(
    name="parameters",
    description="Measured or chosen values of an experiment.",
    key=("experiment_id", "name"),
    columns=(
        Column("experiment_id", nullable=False, max_length=200, aliases=("experiment",)),
        Column("name", nullable=False, max_length=300, aliases=("parameter",)),
        Column("value", _NUMBER, nullable=False),
        Column("unit", max_length=60, aliases=("units",)),
        Column("uncertainty", _NUMBER, minimum=0, aliases=("error", "standard_deviation")),
        Column("minimum", _NUMBER, aliases=("min", "lower_bound")),
        Column("maximum", _NUMBER, aliases=("max", "upper_bound")),
        Column("category", max_length=200),
        Column("source", max_length=2_000, aliases=("reference",)),
        Column("measured_at", _DATETIME, aliases=("measured",)),
    ),
)

USERS = Dataset(
    name="users",
    description="People who use the product.",
    key=("user_id",),
    columns=(
        Column("user_id", nullable=False, max_length=200, aliases=("id",)),
        Column("email", nullable=False, max_length=320, aliases=("e-mail", "email_address", "mail")),
        Column("name", max_length=300, aliases=("full_name",)),
        Column("role", choices=("member", "editor", "admin"), max_length=20),
        Column("organisation", max_length=300, aliases=("organization", "company")),
        Column("language", max_length=20, aliases=("locale",)),
        Column("active", _BOOLEAN, aliases=("is_active", "enabled")),
        Column("joined_at", _DATETIME, aliases=("created_at", "registered_at")),
        Column("last_seen_at", _DATETIME, aliases=("last_login", "last_login_at")),
    ),
)

BOOKINGS = Dataset(
    name="bookings",
    description="Bookings of transfers and tours.",
    key=("booking_id",),
    columns=(
        Column("booking_id", nullable=False, max_length=200, aliases=("id", "reference", "booking_reference")),
        Column("customer_name", nullable=False, max_length=300, aliases=("customer", "name")),
        Column("customer_email", max_length=320, aliases=("email",)),
        Column("customer_phone", max_length=60, aliases=("phone", "telephone")),
        Column("service", max_length=300, aliases=("tour", "service_name")),
        Column("pickup_location", max_length=500, aliases=("pickup", "from")),
        Column("dropoff_location", max_length=500, aliases=("dropoff", "to", "destination")),
        Column("starts_at", _DATETIME, nullable=False, aliases=("start", "pickup_time", "date")),
        Column("passengers", _INTEGER, minimum=1, maximum=1_000, aliases=("pax", "guests")),
        Column("price", _NUMBER, minimum=0, aliases=("amount", "total")),
        Column("currency", max_length=3),
        Column("status", choices=("pending", "confirmed", "completed", "cancelled"), max_length=20),
        Column("paid", _BOOLEAN, aliases=("is_paid",)),
        Column("booked_at", _DATETIME, aliases=("created_at",)),
        Column("notes", max_length=20_000, aliases=("comment", "comments")),
    ),
)

DATASETS: tuple[Dataset, ...] = (TERMS, PAPERS, EXPERIMENTS, PARAMETERS, USERS, BOOKINGS)
