"""The tables.

History is only ever appended to, and triggers of the database refuse anything else: teams, submissions, runs, events,
results, scores, choices, what organizers changed, editions with what was scored again, and the tokens of who comes over
the web. Others, in
migrations/versions/, refuse totals and scores that cannot be, and to change what a test set's results have in common.
What a run or a submission is now follows from its events, and what holds of teams, submissions and rules from
season.toml and the changes (`changes.py`). Two tables change and shrink: `job`, the queue itself, a row for each run
that has not ended, with the lease of the worker that has it; and `session`, a row for each browser that is signed in.

A change here needs a migration beside it (migrations/versions) and its name in `REVISION`.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
)

REVISION = "0006"

# What can happen to a run, and after what. The step is the event's place in the run's life; a run has at most one event
# of each, so of two that would end it, or begin it, one fails.
STEPS = {"queued": 0, "running": 1, "done": 2, "lost": 2, "interrupted": 2, "cancelled": 2}
AFTER = {
    None: ("queued",),
    "queued": ("running", "cancelled"),
    "running": ("done", "lost", "interrupted", "cancelled"),
}

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


class Moment(TypeDecorator[datetime]):
    """A moment in UTC, to the microsecond. SQLite knows no time zones, so there it is stored without."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To the database. Raises `ValueError` for a moment without a time zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"the moment {value} has no time zone")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """From the database, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _id() -> Column[Any]:
    return Column("id", Integer, primary_key=True)


team = Table(
    "team",
    metadata,
    _id(),
    Column("name", String, nullable=False),
    Column("key", String, nullable=False, unique=True),  # the name as names are compared
    Column("created_at", Moment, nullable=False),
)

submission = Table(
    "submission",
    metadata,
    _id(),
    Column("team_id", ForeignKey("team.id"), nullable=False),
    Column("digest", String(64), nullable=False),  # SHA-256 of the ZIP, which is kept under this name
    Column("name", String, nullable=False),  # of the file that was sent
    Column("bytes", BigInteger, nullable=False),
    Column("image", String, nullable=False),
    Column("submitted_at", Moment, nullable=False),
    Column("day", Date, nullable=False),  # of the season: the attempt is one of this day's
    UniqueConstraint("team_id", "digest"),
    Index(None, "team_id", "day"),
)

run = Table(
    "run",
    metadata,
    _id(),
    Column("submission_id", ForeignKey("submission.id"), nullable=False),
    Column("test_set", ForeignKey("test_set.name"), nullable=False),
    Column("failures", Integer, nullable=False),  # of infrastructure, in a row before this run
    Index(None, "submission_id", "test_set"),
)

event = Table(
    "event",
    metadata,
    Column("run_id", ForeignKey("run.id"), primary_key=True),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("kind", String, nullable=False),
    Column("at", Moment, nullable=False),
    Column("verdict", String),  # of `done`, and whose fault it is; null is nobody's
    Column("fault", String),
    Column("detail", JSON, nullable=False),
    CheckConstraint(
        " OR ".join(f"(step = {step} AND kind = '{kind}')" for kind, step in STEPS.items()), name="step_of_kind"
    ),
    CheckConstraint("(kind = 'done') = (verdict IS NOT NULL)", name="verdict_of_done"),
)

result = Table(
    "result",
    metadata,
    Column("run_id", ForeignKey("run.id"), primary_key=True, autoincrement=False),
    Column("submission_id", ForeignKey("submission.id"), nullable=False),
    Column("test_set", ForeignKey("test_set.name"), nullable=False),
    Column("total", Float(53), nullable=False),
    Column("edition_id", ForeignKey("edition.id")),  # that it was made for; null: the test set's first
    UniqueConstraint("submission_id", "test_set"),  # this is what an attempt is charged for: once
    Index(None, "test_set"),
)

score = Table(
    "score",
    metadata,
    Column("run_id", ForeignKey("result.run_id"), primary_key=True, autoincrement=False),
    Column("task", Integer, primary_key=True, autoincrement=False),
    Column("value", Float(53), nullable=False),
)

choice = Table(
    "choice",
    metadata,
    _id(),
    Column("team_id", ForeignKey("team.id"), nullable=False, index=True),
    Column("at", Moment, nullable=False),
    Column("by", String),  # who of the team, where that is known
)

chosen = Table(
    "chosen",
    metadata,
    Column("choice_id", ForeignKey("choice.id"), primary_key=True, autoincrement=False),
    Column("submission_id", ForeignKey("submission.id"), primary_key=True, autoincrement=False),
)

# What an organizer changed, and why; `changes.py` has the kinds, and what they say in `detail`.
change = Table(
    "change",
    metadata,
    _id(),
    Column("at", Moment, nullable=False),
    Column("by", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("team_id", ForeignKey("team.id")),
    Column("submission_id", ForeignKey("submission.id")),
    Column("test_set", ForeignKey("test_set.name")),
    Column("detail", JSON, nullable=False),
    Column("reason", String, nullable=False),
    Column("undoes", ForeignKey("change.id"), unique=True),
)

# What results of a test set have in common. The first result sets that of the first edition, and nothing changes it
# after. Of later ones each is a row of `edition`, which a change brought.
test_set = Table(
    "test_set",
    metadata,
    Column("name", String, primary_key=True),
    Column("data_digest", String(64)),
    Column("weights", JSON(none_as_null=True)),
    Column("labels", JSON(none_as_null=True)),  # why no score is the leaderboard's, such as encoders that stand in
    Column("competition", String(64)),  # its digest; null of what older versions set, whose seasons were all of one
    Column("best", Float),  # of all scores of its tasks; null: 1
    Column("evaluator", String(64)),  # the digest of the code that scored; null of what older versions set
)

edition = Table(
    "edition",
    metadata,
    _id(),
    Column("change_id", ForeignKey("change.id"), nullable=False),
    Column("test_set", ForeignKey("test_set.name"), nullable=False),
    Column("data_digest", String(64), nullable=False),
    Column("weights", JSON, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("competition", String(64), nullable=False),
    Column("best", Float, nullable=False),
    Column("evaluator", String(64)),
    Index(None, "test_set"),
)

# A submission that has a result gets another one in each later edition: of what its run `run_id` had answered, or of
# another run. `edition_id` null is the first edition, for one whose result is of a later one.
rescored = Table(
    "rescored",
    metadata,
    _id(),
    Column("edition_id", ForeignKey("edition.id")),
    Column("test_set", ForeignKey("test_set.name"), nullable=False),
    Column("submission_id", ForeignKey("submission.id"), nullable=False),
    Column("run_id", ForeignKey("run.id"), nullable=False),
    Column("total", Float(53), nullable=False),
    UniqueConstraint("submission_id", "test_set", "edition_id"),
    Index(None, "test_set"),
)

rescored_score = Table(
    "rescored_score",
    metadata,
    Column("rescored_id", ForeignKey("rescored.id"), primary_key=True, autoincrement=False),
    Column("task", Integer, primary_key=True, autoincrement=False),
    Column("value", Float(53), nullable=False),
)

# What lets somebody in: a token of a team's member or, without a team, of an organizer; or an invitation, for which its
# holder gets such a token. Secrets are not kept, their SHA-256 is.
token = Table(
    "token",
    metadata,
    _id(),
    Column("team_id", ForeignKey("team.id"), index=True),
    Column("name", String, nullable=False),  # of the person or the machine
    Column("kind", String, nullable=False),
    Column("digest", String(64), nullable=False, unique=True),
    Column("at", Moment, nullable=False),
    Column("by", String, nullable=False),
    Column("expires_at", Moment),
    CheckConstraint("kind IN ('token', 'invitation')", name="kind"),
)

# A token that was revoked, an invitation that was used.
token_end = Table(
    "token_end",
    metadata,
    Column("token_id", ForeignKey("token.id"), primary_key=True, autoincrement=False),
    Column("at", Moment, nullable=False),
    Column("by", String, nullable=False),
    Column("reason", String, nullable=False),
)

HISTORY = (
    team,
    submission,
    run,
    event,
    result,
    score,
    choice,
    chosen,
    change,
    edition,
    rescored,
    rescored_score,
    token,
    token_end,
)

job = Table(
    "job",
    metadata,
    Column("run_id", ForeignKey("run.id"), primary_key=True, autoincrement=False),
    Column("submission_id", ForeignKey("submission.id"), nullable=False),
    Column("available_at", Moment, nullable=False),
    Column("token", String(32)),  # of the lease; null while the run waits
    Column("worker", String),
    Column("expires_at", Moment),
    CheckConstraint("(token IS NULL) = (expires_at IS NULL)", name="lease"),
    Index(None, "submission_id", "run_id"),
)

# A browser that is signed in, by the SHA-256 of its cookie.
session = Table(
    "session",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("token_id", ForeignKey("token.id"), nullable=False, index=True),
    Column("at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
)
