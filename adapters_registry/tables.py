"""The registry's tables, for SQLite and PostgreSQL alike.

A tenant that is deleted keeps its row: names of tenants are unique among the living only, and a
tenant made anew under an old name is another row, to which nothing of the old one belongs. Until
`purge_at` its adapters keep theirs too, so that the deletion can be undone.
"""

import json
from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)


class UtcTime(TypeDecorator[datetime]):
    """An aware time. SQLite forgets the zone, so all times are stored as UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class JsonText(TypeDecorator[object]):
    """JSON kept as ASCII text: the same on every database, for NUL and half surrogates too."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: object, dialect: Dialect) -> str | None:
        return json.dumps(value, sort_keys=True) if value is not None else None

    def process_result_value(self, value: str | None, dialect: Dialect) -> object:
        return json.loads(value) if value is not None else None


# SQLite numbers rows by itself only in a column that is INTEGER to the letter.
_RowId = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

registry_meta = Table(
    "registry_meta",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)

tenants = Table(
    "tenants",
    metadata,
    Column("id", _RowId, primary_key=True),
    Column("name", String(63), nullable=False),
    Column("policy", JsonText, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("deleted_at", UtcTime),
    # Until then the deletion can be undone; its versions are deleted later.
    Column("purge_at", UtcTime),
    Column("purged_at", UtcTime),
    # The registry's, after the last change of the tenant or of anything that belongs to it.
    Column("revision", BigInteger, nullable=False, server_default=text("0"), index=True),
    Index(
        "uq_tenants_living_name",
        "name",
        unique=True,
        sqlite_where=text("deleted_at IS NULL"),
        postgresql_where=text("deleted_at IS NULL"),
    ),
    sqlite_autoincrement=True,
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("tenant_id", ForeignKey("tenants.id"), nullable=False, index=True),
    Column("name", String(100), nullable=False),
    Column("scopes", JsonText, nullable=False),
    Column("secret_sha256", LargeBinary(32), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime),
    Column("last_used_at", UtcTime),
    Column("revoked_at", UtcTime),
)

adapters = Table(
    "adapters",
    metadata,
    Column("id", _RowId, primary_key=True),
    Column("tenant_id", ForeignKey("tenants.id"), nullable=False),
    Column("name", String(63), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("live", Integer),
    Column("next_number", Integer, nullable=False),
    UniqueConstraint("tenant_id", "name"),
    sqlite_autoincrement=True,
)

versions = Table(
    "versions",
    metadata,
    Column("adapter_id", ForeignKey("adapters.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(64), nullable=False, index=True),
    Column("state", String(16), nullable=False),
    Column("rank", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("warnings", JsonText, nullable=False),
    Column("profile", JsonText, nullable=False),
    Column("summary", JsonText, nullable=False),
    Column("files", JsonText, nullable=False),
    Column("lineage", JsonText, nullable=False),
    Column("verdict", String(16)),
    Column("evaluation", JsonText),
    Column("proof_state", String(16), nullable=False),
    Column("proof", JsonText),
    Column("created_at", UtcTime, nullable=False),
    Column("created_by", String(100), nullable=False),
    Column("deleted_at", UtcTime),
    CheckConstraint("number >= 1", name="number_from_one"),
    CheckConstraint(
        "state IN ('candidate', 'passed', 'rejected', 'live', 'retired', 'deleted')",
        name="known_state",
    ),
    CheckConstraint("verdict IN ('passed', 'rejected')", name="known_verdict"),
    CheckConstraint("proof_state IN ('unproved', 'proved', 'inert')", name="known_proof_state"),
    Index(
        "uq_versions_one_live",
        "adapter_id",
        unique=True,
        sqlite_where=text("state = 'live'"),
        postgresql_where=text("state = 'live'"),
    ),
)

history = Table(
    "history",
    metadata,
    Column("id", _RowId, primary_key=True),
    Column("adapter_id", ForeignKey("adapters.id"), nullable=False, index=True),
    Column("at", UtcTime, nullable=False),
    Column("actor", String(100), nullable=False),
    Column("action", String(32), nullable=False),
    Column("from_version", Integer),
    Column("to_version", Integer),
    Column("reason", Text),
    Column("forced", Boolean, nullable=False),
    sqlite_autoincrement=True,
)

audit = Table(
    "audit",
    metadata,
    Column("id", _RowId, primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("actor", String(100), nullable=False),
    Column("action", String(32), nullable=False),
    Column("tenant", String(63)),
    Column("target", String(200), nullable=False),
    Column("detail", JsonText, nullable=False),
    sqlite_autoincrement=True,
)
