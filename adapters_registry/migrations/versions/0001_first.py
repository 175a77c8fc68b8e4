"""Tenants, keys, adapters with their versions, history, audit."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_row_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_time = sa.DateTime(timezone=True)


def upgrade() -> None:
    meta = op.create_table(
        "registry_meta",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_registry_meta_one_row")),
        sa.PrimaryKeyConstraint("id", name="pk_registry_meta"),
    )
    op.bulk_insert(meta, [{"id": 1, "revision": 0}])
    _tenants_and_keys()
    _adapters_and_versions()
    _journals()


def _tenants_and_keys() -> None:
    op.create_table(
        "tenants",
        sa.Column("id", _row_id, nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("created_at", _time, nullable=False),
        sa.Column("deleted_at", _time),
        sa.Column("purge_at", _time),
        sa.Column("purged_at", _time),
        sa.Column("revision", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("id", name="pk_tenants"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_tenants_living_name",
        "tenants",
        ["name"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index("ix_tenants_revision", "tenants", ["revision"])
    op.create_table(
        "keys",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("tenant_id", _row_id, nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("created_at", _time, nullable=False),
        sa.Column("expires_at", _time),
        sa.Column("last_used_at", _time),
        sa.Column("revoked_at", _time),
        sa.PrimaryKeyConstraint("id", name="pk_keys"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_keys_tenant_id"),
    )
    op.create_index("ix_keys_tenant_id", "keys", ["tenant_id"])


def _adapters_and_versions() -> None:
    op.create_table(
        "adapters",
        sa.Column("id", _row_id, nullable=False),
        sa.Column("tenant_id", _row_id, nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("live", sa.Integer()),
        sa.Column("next_number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_adapters"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_adapters_tenant_id"),
        sa.UniqueConstraint("tenant_id", "name", name="uq_adapters_tenant_id_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "versions",
        sa.Column("adapter_id", _row_id, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("warnings", sa.Text(), nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("files", sa.Text(), nullable=False),
        sa.Column("lineage", sa.Text(), nullable=False),
        sa.Column("verdict", sa.String(16)),
        sa.Column("evaluation", sa.Text()),
        sa.Column("proof_state", sa.String(16), nullable=False),
        sa.Column("proof", sa.Text()),
        sa.Column("created_at", _time, nullable=False),
        sa.Column("created_by", sa.String(100), nullable=False),
        sa.Column("deleted_at", _time),
        sa.CheckConstraint("number >= 1", name=op.f("ck_versions_number_from_one")),
        sa.CheckConstraint(
            "state IN ('candidate', 'passed', 'rejected', 'live', 'retired', 'deleted')",
            name=op.f("ck_versions_known_state"),
        ),
        sa.CheckConstraint(
            "verdict IN ('passed', 'rejected')", name=op.f("ck_versions_known_verdict")
        ),
        sa.CheckConstraint(
            "proof_state IN ('unproved', 'proved', 'inert')",
            name=op.f("ck_versions_known_proof_state"),
        ),
        sa.PrimaryKeyConstraint("adapter_id", "number", name="pk_versions"),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name="fk_versions_adapter_id"),
    )
    op.create_index("ix_versions_digest", "versions", ["digest"])
    op.create_index(
        "uq_versions_one_live",
        "versions",
        ["adapter_id"],
        unique=True,
        sqlite_where=sa.text("state = 'live'"),
        postgresql_where=sa.text("state = 'live'"),
    )


def _journals() -> None:
    op.create_table(
        "history",
        sa.Column("id", _row_id, nullable=False),
        sa.Column("adapter_id", _row_id, nullable=False),
        sa.Column("at", _time, nullable=False),
        sa.Column("actor", sa.String(100), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("from_version", sa.Integer()),
        sa.Column("to_version", sa.Integer()),
        sa.Column("reason", sa.Text()),
        sa.Column("forced", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_history"),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name="fk_history_adapter_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_history_adapter_id", "history", ["adapter_id"])
    op.create_table(
        "audit",
        sa.Column("id", _row_id, nullable=False),
        sa.Column("at", _time, nullable=False),
        sa.Column("actor", sa.String(100), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("tenant", sa.String(63)),
        sa.Column("target", sa.String(200), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
        sqlite_autoincrement=True,
    )
