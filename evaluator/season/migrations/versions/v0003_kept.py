"""History and what results have in common stay as they are whatever SQL says, and totals are the formula's."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

# What a row of history may have in common with no other.
KEYS = {
    "team": (("id",), ("key",)),
    "submission": (("id",), ("team_id", "digest")),
    "run": (("id",),),
    "event": (("run_id", "step"),),
    "result": (("run_id",), ("submission_id", "test_set")),
    "score": (("run_id", "task"),),
    "choice": (("id",),),
    "chosen": (("choice_id", "submission_id"),),
}
KEPT = "history is never rewritten"
FIRST = "the first result sets what results of a test set have in common, and nothing changes it after"
TOTAL = "a total must be in the range of the formula, from half of it below 0"
VALUE = "a score must be in -1..1"

# Published: of a score at most half is a cosine, which can be negative. The margin is for sums in another order.
IN_RANGE = "NEW.total BETWEEN -0.5 * weights AND weights * 1.000000001"


def upgrade() -> None:
    """From the version before."""
    if op.get_bind().dialect.name == "sqlite":
        _sqlite()
    else:
        _postgresql()


def _sqlite() -> None:
    """INSERT OR REPLACE removes rows, and no trigger hears of it unless the connection has asked for that."""
    for table, keys in KEYS.items():
        # The number that SQLite gives each row is a key, too. Before it is given it reads as -1.
        same = " OR ".join(
            " AND ".join(f"{column} = NEW.{column}" for column in columns) for columns in (*keys, ("rowid",))
        )
        exists = f"EXISTS (SELECT 1 FROM {table} WHERE {same})"
        _refuse(f"{table}_no_replace", f"BEFORE INSERT ON {table}", exists, KEPT)
        _refuse(f"{table}_numbers", f"AFTER INSERT ON {table}", "NEW.rowid < 1", "numbers begin at 1")
    exists = "EXISTS (SELECT 1 FROM test_set WHERE name = NEW.name OR rowid = NEW.rowid)"
    _refuse("test_set_no_replace", "BEFORE INSERT ON test_set", exists, FIRST)
    _refuse("test_set_numbers", "AFTER INSERT ON test_set", "NEW.rowid < 1", "numbers begin at 1")
    _refuse("test_set_no_delete", "BEFORE DELETE ON test_set", "1", FIRST)
    changed = "OLD.data_digest IS NOT NULL OR OLD.name <> NEW.name OR OLD.rowid <> NEW.rowid"
    _refuse("test_set_no_update", "BEFORE UPDATE ON test_set", changed, FIRST)
    # Texts and blobs, which SQLite takes for any column, are greater than all numbers.
    weights = "SELECT SUM(value) AS weights FROM test_set, json_each(test_set.weights) WHERE name = NEW.test_set"
    outside = f"NOT COALESCE((SELECT {IN_RANGE} FROM ({weights})), 0)"
    _refuse("result_in_range", "BEFORE INSERT ON result", outside, TOTAL)
    _refuse("score_in_range", "BEFORE INSERT ON score", "NOT COALESCE(NEW.value BETWEEN -1 AND 1, 0)", VALUE)


def _refuse(name: str, what: str, when: str, why: str) -> None:
    op.execute(sa.text(f"CREATE TRIGGER {name} {what} WHEN {when} BEGIN SELECT RAISE(ABORT, '{why}'); END"))


def _postgresql() -> None:
    _function("test_set_is_kept", f"RAISE EXCEPTION '{FIRST}'")
    op.execute(
        "CREATE TRIGGER test_set_stays BEFORE DELETE OR TRUNCATE ON test_set"
        " FOR EACH STATEMENT EXECUTE FUNCTION test_set_is_kept()"
    )
    op.execute(
        "CREATE TRIGGER test_set_is_set_once BEFORE UPDATE ON test_set FOR EACH ROW"
        " WHEN (OLD.data_digest IS NOT NULL OR OLD.name <> NEW.name) EXECUTE FUNCTION test_set_is_kept()"
    )
    # NaN is greater than all numbers here.
    weights = "SELECT SUM(value::float8) AS weights FROM test_set, json_each_text(weights) WHERE name = NEW.test_set"
    outside = f"NOT COALESCE((SELECT {IN_RANGE} FROM ({weights}) AS formula), false)"
    _function("total_is_in_range", f"IF {outside} THEN RAISE EXCEPTION '{TOTAL}'; END IF; RETURN NEW")
    op.execute(
        "CREATE TRIGGER result_in_range BEFORE INSERT ON result FOR EACH ROW EXECUTE FUNCTION total_is_in_range()"
    )
    _function("score_is_in_range", f"RAISE EXCEPTION '{VALUE}'")
    op.execute(
        "CREATE TRIGGER score_in_range BEFORE INSERT ON score FOR EACH ROW"
        " WHEN (NOT COALESCE(NEW.value BETWEEN -1 AND 1, false)) EXECUTE FUNCTION score_is_in_range()"
    )


def _function(name: str, body: str) -> None:
    op.execute(sa.text(f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; END $$"))
