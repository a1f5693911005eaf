"""Who comes over the web: tokens of teams and organizers, browsers that are signed in, and who of a team chose."""

import sqlalchemy as sa
from alembic import op

from evaluator.season.schema import Moment

revision = "0006"
down_revision = "0005"

# As in 0005.
KEYS = {"token": (("id",), ("digest",)), "token_end": (("token_id",),)}
KEPT = "history is never rewritten"


def upgrade() -> None:
    """From the version before."""
    op.create_table(
        "token",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("team_id", sa.Integer),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("expires_at", Moment),
        sa.PrimaryKeyConstraint("id", name="pk_token"),
        sa.ForeignKeyConstraint(["team_id"], ["team.id"], name="fk_token_team_id"),
        sa.UniqueConstraint("digest", name="uq_token_digest"),
        sa.CheckConstraint("kind IN ('token', 'invitation')", name=op.f("ck_token_kind")),
    )
    op.create_index("ix_token_team_id", "token", ["team_id"])
    op.create_table(
        "token_end",
        sa.Column("token_id", sa.Integer, nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("token_id", name="pk_token_end"),
        sa.ForeignKeyConstraint(["token_id"], ["token.id"], name="fk_token_end_token_id"),
    )
    op.create_table(
        "session",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("token_id", sa.Integer, nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.Column("expires_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_session"),
        sa.ForeignKeyConstraint(["token_id"], ["token.id"], name="fk_session_token_id"),
    )
    op.create_index("ix_session_token_id", "session", ["token_id"])
    op.add_column("choice", sa.Column("by", sa.String))
    if op.get_bind().dialect.name == "sqlite":
        _sqlite()
    else:
        for table in KEYS:
            op.execute(
                f"CREATE TRIGGER {table}_is_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
                " FOR EACH STATEMENT EXECUTE FUNCTION history_is_kept()"
            )


def _sqlite() -> None:
    for table, keys in KEYS.items():
        for change in ("UPDATE", "DELETE"):
            _refuse(f"{table}_no_{change.lower()}", f"BEFORE {change} ON {table}", "1", f"{KEPT}: {table}")
        same = " OR ".join(
            " AND ".join(f"{column} = NEW.{column}" for column in columns) for columns in (*keys, ("rowid",))
        )
        _refuse(
            f"{table}_no_replace", f"BEFORE INSERT ON {table}", f"EXISTS (SELECT 1 FROM {table} WHERE {same})", KEPT
        )
        _refuse(f"{table}_numbers", f"AFTER INSERT ON {table}", "NEW.rowid < 1", "numbers begin at 1")


def _refuse(name: str, what: str, when: str, why: str) -> None:
    op.execute(sa.text(f"CREATE TRIGGER {name} {what} WHEN {when} BEGIN SELECT RAISE(ABORT, '{why}'); END"))
