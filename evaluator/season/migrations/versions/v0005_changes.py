"""What organizers change, and editions: later versions of what a test set's results have in common, and the results
that were scored again for them.
"""

import sqlalchemy as sa
from alembic import op

from evaluator.season.schema import Moment

revision = "0005"
down_revision = "0004"

# What a row of these may have in common with no other.
KEYS = {
    "change": (("id",), ("undoes",)),
    "edition": (("id",),),
    "rescored": (("id",), ("submission_id", "test_set", "edition_id")),
    "rescored_score": (("rescored_id", "task"),),
}
KEPT = "history is never rewritten"
TOTAL = "a total must be in the range of the formula, from half of it below 0"
VALUE = "a score must be at most the best one of the competition, and not further below 0"

# As in 0004, of the edition, or else of the test set.
IN_RANGE = "NEW.total BETWEEN -0.5 * most AND most * 1.000000001"
PINNED = (
    "SELECT weights, best FROM edition WHERE id = NEW.edition_id"
    " UNION ALL SELECT weights, best FROM test_set WHERE name = NEW.test_set AND NEW.edition_id IS NULL"
)
BEST = "COALESCE(best, 1)"
OF_RESCORED = (
    f"SELECT {BEST} AS most FROM rescored LEFT JOIN edition ON edition.id = rescored.edition_id"
    " WHERE rescored.id = NEW.rescored_id"
)
OF_RUN = (
    "SELECT COALESCE(edition.best, test_set.best, 1) AS most FROM run JOIN test_set ON run.test_set = test_set.name"
    " LEFT JOIN result ON result.run_id = run.id LEFT JOIN edition ON edition.id = result.edition_id"
    " WHERE run.id = NEW.run_id"
)


def upgrade() -> None:
    """From the version before."""
    op.create_table(
        "change",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("team_id", sa.Integer),
        sa.Column("submission_id", sa.Integer),
        sa.Column("test_set", sa.String),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("undoes", sa.Integer),
        sa.PrimaryKeyConstraint("id", name="pk_change"),
        sa.ForeignKeyConstraint(["team_id"], ["team.id"], name="fk_change_team_id"),
        sa.ForeignKeyConstraint(["submission_id"], ["submission.id"], name="fk_change_submission_id"),
        sa.ForeignKeyConstraint(["test_set"], ["test_set.name"], name="fk_change_test_set"),
        sa.ForeignKeyConstraint(["undoes"], ["change.id"], name="fk_change_undoes"),
        sa.UniqueConstraint("undoes", name="uq_change_undoes"),
    )
    op.create_table(
        "edition",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("change_id", sa.Integer, nullable=False),
        sa.Column("test_set", sa.String, nullable=False),
        sa.Column("data_digest", sa.String(64), nullable=False),
        sa.Column("weights", sa.JSON, nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("competition", sa.String(64), nullable=False),
        sa.Column("best", sa.Float, nullable=False),
        sa.Column("evaluator", sa.String(64)),
        sa.PrimaryKeyConstraint("id", name="pk_edition"),
        sa.ForeignKeyConstraint(["change_id"], ["change.id"], name="fk_edition_change_id"),
        sa.ForeignKeyConstraint(["test_set"], ["test_set.name"], name="fk_edition_test_set"),
    )
    op.create_index("ix_edition_test_set", "edition", ["test_set"])
    op.create_table(
        "rescored",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("edition_id", sa.Integer),
        sa.Column("test_set", sa.String, nullable=False),
        sa.Column("submission_id", sa.Integer, nullable=False),
        sa.Column("run_id", sa.Integer, nullable=False),
        sa.Column("total", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rescored"),
        sa.ForeignKeyConstraint(["edition_id"], ["edition.id"], name="fk_rescored_edition_id"),
        sa.ForeignKeyConstraint(["test_set"], ["test_set.name"], name="fk_rescored_test_set"),
        sa.ForeignKeyConstraint(["submission_id"], ["submission.id"], name="fk_rescored_submission_id"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_rescored_run_id"),
        sa.UniqueConstraint(
            "submission_id", "test_set", "edition_id", name="uq_rescored_submission_id_test_set_edition_id"
        ),
    )
    op.create_index("ix_rescored_test_set", "rescored", ["test_set"])
    op.create_table(
        "rescored_score",
        sa.Column("rescored_id", sa.Integer, nullable=False),
        sa.Column("task", sa.Integer, nullable=False),
        sa.Column("value", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("rescored_id", "task", name="pk_rescored_score"),
        sa.ForeignKeyConstraint(["rescored_id"], ["rescored.id"], name="fk_rescored_score_rescored_id"),
    )
    op.add_column("test_set", sa.Column("evaluator", sa.String(64)))
    if op.get_bind().dialect.name == "sqlite":
        # Not op.add_column, which would make the table anew for the foreign key, without its triggers.
        op.execute(
            "ALTER TABLE result ADD COLUMN edition_id INTEGER CONSTRAINT fk_result_edition_id REFERENCES edition"
        )
        _sqlite()
    else:
        op.add_column("result", sa.Column("edition_id", sa.Integer))
        op.create_foreign_key("fk_result_edition_id", "result", "edition", ["edition_id"], ["id"])
        _postgresql()


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
    weights = f"SELECT SUM(value) * MAX({BEST}) AS most FROM ({PINNED}) AS pinned, json_each(pinned.weights)"
    op.execute("DROP TRIGGER result_in_range")
    op.execute("DROP TRIGGER score_in_range")
    for table, condition, why in (
        ("result", f"SELECT {IN_RANGE} FROM ({weights})", TOTAL),
        ("rescored", f"SELECT {IN_RANGE} FROM ({weights})", TOTAL),
        ("score", f"SELECT NEW.value BETWEEN -most AND most FROM ({OF_RUN})", VALUE),
        ("rescored_score", f"SELECT NEW.value BETWEEN -most AND most FROM ({OF_RESCORED})", VALUE),
    ):
        _refuse(f"{table}_in_range", f"BEFORE INSERT ON {table}", f"NOT COALESCE(({condition}), 0)", why)


def _refuse(name: str, what: str, when: str, why: str) -> None:
    op.execute(sa.text(f"CREATE TRIGGER {name} {what} WHEN {when} BEGIN SELECT RAISE(ABORT, '{why}'); END"))


def _postgresql() -> None:
    for table in KEYS:
        op.execute(
            f"CREATE TRIGGER {table}_is_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION history_is_kept()"
        )
    pinned = PINNED.replace("weights,", "weights::text,")  # a union needs types that can be compared
    weights = (
        f"SELECT SUM(value::float8) * MAX({BEST}) AS most FROM ({pinned}) AS pinned,"
        " json_each_text(pinned.weights::json)"
    )
    in_range = f"SELECT {IN_RANGE} FROM ({weights}) AS formula"
    _function("total_is_in_range", in_range, TOTAL)
    _function("score_is_in_range", f"SELECT NEW.value BETWEEN -most AND most FROM ({OF_RUN}) AS formula", VALUE)
    _function("rescored_is_in_range", f"SELECT NEW.value BETWEEN -most AND most FROM ({OF_RESCORED}) AS formula", VALUE)
    for table, function in (("rescored", "total_is_in_range"), ("rescored_score", "rescored_is_in_range")):
        op.execute(
            f"CREATE TRIGGER {table}_in_range BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {function}()"
        )


def _function(name: str, condition: str, why: str) -> None:
    refuse = f"IF NOT COALESCE(({condition}), false) THEN RAISE EXCEPTION '{why}'; END IF; RETURN NEW"
    op.execute(
        sa.text(f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {refuse}; END $$")
    )
