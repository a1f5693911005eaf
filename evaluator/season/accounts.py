"""Who comes to a season over the web: tokens of teams and of organizers, invitations, and browsers that are signed in.

A secret is shown once, to who gets it; what is kept is its SHA-256, which is enough for 256 random bits. Tokens and
invitations are never changed or removed: one that ends has a row that says when, by whom and why.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, delete, insert, select

from evaluator.core.errors import DataError, show
from evaluator.core.validation import ONE_LINE, is_line
from evaluator.season import schema
from evaluator.season.ledger import Ledger, Refused, Team, queries

PREFIX = "fbc_"  # of tokens, so that people and programs that look for secrets know one
MAX_NAME = 100  # characters of a token's name
MAX_DAYS = 3650  # that a token can be made for
MAX_TOKENS = 50  # of a team, in force at a time
SESSION = timedelta(hours=12)
INVITATION = timedelta(days=7)

Kind = Literal["token", "invitation"]
TOKEN: Kind = "token"
INVITED: Kind = "invitation"

_token = schema.token
_end = schema.token_end
_session = schema.session
_COLUMNS = tuple(_token.c[name] for name in ("id", "team_id", "name", "kind", "at", "by", "expires_at"))


@dataclass(frozen=True)
class Token:
    """A token or an invitation without its secret. `team` is the team's number, None an organizer's; `ended_at` and
    `ended_by` are those of one that was revoked or used.
    """

    id: int
    team: int | None
    name: str
    kind: Kind
    at: datetime
    by: str
    expires_at: datetime | None
    ended_at: datetime | None = None
    ended_by: str | None = None

    def holds(self, now: datetime) -> bool:
        """Whether it lets somebody in."""
        return self.ended_at is None and (self.expires_at is None or now < self.expires_at)

    def to_json(self) -> dict[str, Any]:
        """As `season tokens --json` and the API have it."""
        moments = {name: getattr(self, name) for name in ("at", "expires_at", "ended_at")}
        return {
            "id": self.id,
            "name": self.name,
            "kind": self.kind,
            "by": self.by,
            "ended_by": self.ended_by,
        } | {name: None if moment is None else moment.isoformat() for name, moment in moments.items()}


@dataclass(frozen=True)
class Holder:
    """Who has shown a secret: the token, and the team that its holder is of now; None an organizer."""

    token: Token
    team: Team | None

    @property
    def by(self) -> str:
        """Who it is, for the record."""
        return self.token.name if self.team is None else f"{self.token.name}, {self.team.name}"


class Accounts:
    """The tokens and sessions of a season's ledger, with its clock."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    # --- tokens ---

    def make(
        self, team: str | None, name: str, by: str, expires_at: datetime | None = None, kind: Kind = TOKEN
    ) -> tuple[Token, str]:
        """Make a token of a team, or an organizer's, or an invitation to one; returns it and its secret.

        Raises `DataError` for a name that is none, `Refused` where there is no such team, it has too many, or the time
        is over by then.
        """
        values: dict[str, Any] = {"name": _checked(name), "by": by, "expires_at": expires_at, "kind": kind}
        with self._ledger.moment(write=True) as (connection, view, now):
            id = None if team is None else view.find(team).id
            if expires_at is not None and expires_at <= now:
                raise Refused(f"token {show(name)}: it would end at once, at {expires_at.isoformat()}")
            if sum(token.holds(now) for token in self._read(connection, _token.c.team_id == id)) >= MAX_TOKENS:
                raise Refused(f"there are {MAX_TOKENS} tokens in force already; revoke those that nobody uses")
            return self._enter(connection, values | {"team_id": id, "at": now})

    def tokens(self, team: str | None) -> list[Token]:
        """Those of a team, or the organizers', by number; those too that hold no more. Raises `Refused` where there is
        no such team.
        """
        with self._ledger.moment() as (connection, view, _):
            parts: Any = [] if team is None else view.standing.parts(view.find(team).id)
            return self._read(connection, _token.c.team_id.in_(parts) if parts else _token.c.team_id.is_(None))

    def revoke(self, id: int, by: str, reason: str, team: str | None = None) -> Token:
        """End a token or an invitation, and sign out who came with it; where `team` is given, one of that team's.

        Raises `Refused` where there is no such token, or it has ended.
        """
        for key, text in (("by", by), ("reason", reason)):
            if not is_line(text):
                raise DataError(f"{key} must be {ONE_LINE}, not {show(text)}")
        with self._ledger.moment(write=True) as (connection, view, now):
            found = self._read(connection, _token.c.id == id, lock=True)
            parts = None if team is None else view.standing.parts(view.find(team).id)
            if not found or (parts is not None and found[0].team not in parts):
                raise Refused(f"there is no token {id}")
            if found[0].ended_at is not None:
                raise Refused(f"token {id} has ended already")
            self._end(connection, found[0], now, by, reason)
            return self._read(connection, _token.c.id == id)[0]

    def holder(self, secret: str) -> Holder | None:
        """Who has this token; None where nobody has, or it has ended."""
        return self._find(secret, TOKEN)

    # --- invitations ---

    def invitation(self, secret: str) -> Holder | None:
        """What an invitation is to; None where it is none, was used, or has ended."""
        return self._find(secret, INVITED)

    def accept(self, secret: str, name: str) -> tuple[Token, str]:
        """Use an invitation up: the token of this name, and its secret.

        Raises `DataError` for a name that is none, `Refused` where the invitation holds no more.
        """
        name = _checked(name)
        with self._ledger.moment(write=True) as (connection, view, now):
            found = self._holding(connection, _digest(secret), INVITED, now, lock=True)
            if found is None:
                raise Refused("this invitation was used, was withdrawn, or has expired; ask for another one")
            self._end(connection, found, now, name, "used")
            values: dict[str, Any] = {"name": name, "by": found.by, "expires_at": None, "kind": TOKEN}
            return self._enter(connection, values | {"team_id": found.team, "at": now})

    # --- sessions ---

    def sign_in(self, secret: str) -> str | None:
        """The secret of a new session for who has this token; None where nobody has. What has expired is removed."""
        with self._ledger.moment(write=True) as (connection, _, now):
            token = self._holding(connection, _digest(secret), TOKEN, now)
            if token is None:
                return None
            connection.execute(delete(_session).where(_session.c.expires_at <= now))
            made = secrets.token_urlsafe(32)
            values = {"digest": _digest(made), "token_id": token.id, "at": now, "expires_at": now + SESSION}
            connection.execute(insert(_session).values(values))
            return made

    def session(self, secret: str) -> Holder | None:
        """Who is signed in with this cookie; None where nobody is, or the token has ended since."""
        with self._ledger.moment() as (connection, view, now):
            its = (_session.c.digest == _digest(secret), _session.c.expires_at > now)
            id = connection.execute(select(_session.c.token_id).where(*its)).scalar()
            token = None if id is None else next(iter(self._read(connection, _token.c.id == id)))
            if token is None or not token.holds(now):
                return None
            return Holder(token, None if token.team is None else view.of(token.team))

    def sign_out(self, secret: str) -> None:
        """End a session."""
        with self._ledger.moment(write=True) as (connection, _, _now):
            connection.execute(delete(_session).where(_session.c.digest == _digest(secret)))

    # ---

    def _find(self, secret: str, kind: Kind) -> Holder | None:
        with self._ledger.moment() as (connection, view, now):
            token = self._holding(connection, _digest(secret), kind, now)
            if token is None:
                return None
            return Holder(token, None if token.team is None else view.of(token.team))

    def _holding(
        self, connection: Connection, digest: str, kind: Kind, now: datetime, lock: bool = False
    ) -> Token | None:
        found = self._read(connection, _token.c.digest == digest, lock)
        return next((token for token in found if token.kind == kind and token.holds(now)), None)

    def _read(self, connection: Connection, where: ColumnElement[bool], lock: bool = False) -> list[Token]:
        """With `lock` nobody else ends one of them before the transaction has ended."""
        if lock:
            connection.execute(queries.for_update(select(_token.c.id).where(where)))
        ended = select(*_COLUMNS, _end.c.at, _end.c.by).outerjoin(_end, _end.c.token_id == _token.c.id)
        return [Token(*tuple(row)) for row in connection.execute(ended.where(where).order_by(_token.c.id))]

    def _enter(self, connection: Connection, values: dict[str, Any]) -> tuple[Token, str]:
        secret = PREFIX + secrets.token_urlsafe(32)
        id = connection.execute(
            insert(_token).values(values | {"digest": _digest(secret)}).returning(_token.c.id)
        ).scalar_one()
        return self._read(connection, _token.c.id == id)[0], secret

    def _end(self, connection: Connection, token: Token, now: datetime, by: str, reason: str) -> None:
        connection.execute(insert(_end).values(token_id=token.id, at=now, by=by, reason=reason))
        connection.execute(delete(_session).where(_session.c.token_id == token.id))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _checked(name: str) -> str:
    name = name.strip()
    if not is_line(name) or len(name) > MAX_NAME:
        raise DataError(f"name {show(name)}: must be {ONE_LINE}, of at most {MAX_NAME} characters")
    return name
