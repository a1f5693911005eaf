"""Which competition's scores a test set's results are, and the best score that one of its tasks can have."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

TOTAL = "a total must be in the range of the formula, from half of it below 0"
VALUE = "a score must be at most the best one of the competition, and not further below 0"

# Until then all seasons were of one competition, whose best score is 1. As in 0003, with the best score.
IN_RANGE = "NEW.total BETWEEN -0.5 * most AND most * 1.000000001"
BEST = "COALESCE(best, 1)"
OF_RUN = f"SELECT {BEST} AS most FROM test_set JOIN run ON run.test_set = test_set.name WHERE run.id = NEW.run_id"


def upgrade() -> None:
    """From the version before."""
    op.add_column("test_set", sa.Column("competition", sa.String(64)))
    op.add_column("test_set", sa.Column("best", sa.Float))
    if op.get_bind().dialect.name == "sqlite":
        _sqlite()
    else:
        _postgresql()


def _sqlite() -> None:
    weights = (
        f"SELECT SUM(value) * MAX({BEST}) AS most FROM test_set, json_each(test_set.weights) WHERE name = NEW.test_set"
    )
    inside = {
        "result": (f"SELECT {IN_RANGE} FROM ({weights})", TOTAL),
        "score": (f"SELECT NEW.value BETWEEN -most AND most FROM ({OF_RUN})", VALUE),
    }
    for table, (condition, why) in inside.items():
        op.execute(f"DROP TRIGGER {table}_in_range")
        op.execute(
            sa.text(
                f"CREATE TRIGGER {table}_in_range BEFORE INSERT ON {table} WHEN NOT COALESCE(({condition}), 0)"
                f" BEGIN SELECT RAISE(ABORT, '{why}'); END"
            )
        )


def _postgresql() -> None:
    weights = (
        f"SELECT SUM(value::float8) * MAX({BEST}) AS most FROM test_set, json_each_text(weights)"
        " WHERE name = NEW.test_set"
    )
    _replace("total_is_in_range", f"SELECT {IN_RANGE} FROM ({weights}) AS formula", TOTAL)
    op.execute("DROP TRIGGER score_in_range ON score")
    _replace("score_is_in_range", f"SELECT NEW.value BETWEEN -most AND most FROM ({OF_RUN}) AS formula", VALUE)
    op.execute("CREATE TRIGGER score_in_range BEFORE INSERT ON score FOR EACH ROW EXECUTE FUNCTION score_is_in_range()")


def _replace(name: str, condition: str, why: str) -> None:
    refuse = f"IF NOT COALESCE(({condition}), false) THEN RAISE EXCEPTION '{why}'; END IF; RETURN NEW"
    op.execute(
        sa.text(f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {refuse}; END $$")
    )
