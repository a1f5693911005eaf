"""The first tables, the triggers that keep history as it is, and the two test sets."""

import sqlalchemy as sa
from alembic import op

from evaluator.season.schema import Moment

revision = "0001"
down_revision = None

HISTORY = ("team", "submission", "run", "event", "result", "score", "choice", "chosen")
KINDS = {"queued": 0, "running": 1, "done": 2, "lost": 2, "interrupted": 2, "cancelled": 2}


def upgrade() -> None:
    """From the version before."""
    op.create_table(
        "team",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_team"),
        sa.UniqueConstraint("key", name="uq_team_key"),
    )
    op.create_table(
        "submission",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("team_id", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("image", sa.String, nullable=False),
        sa.Column("submitted_at", Moment, nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_submission"),
        sa.ForeignKeyConstraint(["team_id"], ["team.id"], name="fk_submission_team_id"),
        sa.UniqueConstraint("team_id", "digest", name="uq_submission_team_id_digest"),
    )
    op.create_index("ix_submission_team_id_day", "submission", ["team_id", "day"])
    sets = op.create_table(
        "test_set",
        sa.Column("name", sa.String, nullable=False),
        sa.Column("data_digest", sa.String(64)),
        sa.Column("weights", sa.JSON(none_as_null=True)),
        sa.PrimaryKeyConstraint("name", name="pk_test_set"),
    )
    op.bulk_insert(sets, [{"name": "public"}, {"name": "private"}])
    op.create_table(
        "run",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("submission_id", sa.Integer, nullable=False),
        sa.Column("test_set", sa.String, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_run"),
        sa.ForeignKeyConstraint(["submission_id"], ["submission.id"], name="fk_run_submission_id"),
        sa.ForeignKeyConstraint(["test_set"], ["test_set.name"], name="fk_run_test_set"),
    )
    op.create_index("ix_run_submission_id_test_set", "run", ["submission_id", "test_set"])
    steps = " OR ".join(f"(step = {step} AND kind = '{kind}')" for kind, step in KINDS.items())
    op.create_table(
        "event",
        sa.Column("run_id", sa.Integer, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.Column("verdict", sa.String),
        sa.Column("fault", sa.String),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "step", name="pk_event"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_event_run_id"),
        sa.CheckConstraint(steps, name=op.f("ck_event_step_of_kind")),
        sa.CheckConstraint("(kind = 'done') = (verdict IS NOT NULL)", name=op.f("ck_event_verdict_of_done")),
    )
    op.create_table(
        "result",
        sa.Column("run_id", sa.Integer, nullable=False),
        sa.Column("submission_id", sa.Integer, nullable=False),
        sa.Column("test_set", sa.String, nullable=False),
        sa.Column("total", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name="pk_result"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_result_run_id"),
        sa.ForeignKeyConstraint(["submission_id"], ["submission.id"], name="fk_result_submission_id"),
        sa.ForeignKeyConstraint(["test_set"], ["test_set.name"], name="fk_result_test_set"),
        sa.UniqueConstraint("submission_id", "test_set", name="uq_result_submission_id_test_set"),
    )
    op.create_index("ix_result_test_set", "result", ["test_set"])
    op.create_table(
        "score",
        sa.Column("run_id", sa.Integer, nullable=False),
        sa.Column("task", sa.Integer, nullable=False),
        sa.Column("value", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "task", name="pk_score"),
        sa.ForeignKeyConstraint(["run_id"], ["result.run_id"], name="fk_score_run_id"),
    )
    op.create_table(
        "choice",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("team_id", sa.Integer, nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_choice"),
        sa.ForeignKeyConstraint(["team_id"], ["team.id"], name="fk_choice_team_id"),
    )
    op.create_index("ix_choice_team_id", "choice", ["team_id"])
    op.create_table(
        "chosen",
        sa.Column("choice_id", sa.Integer, nullable=False),
        sa.Column("submission_id", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("choice_id", "submission_id", name="pk_chosen"),
        sa.ForeignKeyConstraint(["choice_id"], ["choice.id"], name="fk_chosen_choice_id"),
        sa.ForeignKeyConstraint(["submission_id"], ["submission.id"], name="fk_chosen_submission_id"),
    )
    op.create_table(
        "job",
        sa.Column("run_id", sa.Integer, nullable=False),
        sa.Column("submission_id", sa.Integer, nullable=False),
        sa.Column("available_at", Moment, nullable=False),
        sa.Column("token", sa.String(32)),
        sa.Column("worker", sa.String),
        sa.Column("expires_at", Moment),
        sa.PrimaryKeyConstraint("run_id", name="pk_job"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_job_run_id"),
        sa.ForeignKeyConstraint(["submission_id"], ["submission.id"], name="fk_job_submission_id"),
        sa.CheckConstraint("(token IS NULL) = (expires_at IS NULL)", name=op.f("ck_job_lease")),
    )
    op.create_index("ix_job_submission_id_run_id", "job", ["submission_id", "run_id"])
    _keep_history()


def _keep_history() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for table in HISTORY:
            for change in ("UPDATE", "DELETE"):
                op.execute(
                    f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} BEGIN"
                    f" SELECT RAISE(ABORT, 'history is never rewritten: {table}'); END"
                )
        return
    op.execute(
        "CREATE FUNCTION history_is_kept() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'history is never rewritten: %', TG_TABLE_NAME; END $$"
    )
    for table in HISTORY:
        op.execute(
            f"CREATE TRIGGER {table}_is_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION history_is_kept()"
        )
