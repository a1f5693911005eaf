"""Who may call what: every route of the service, by each kind of caller, over HTTP."""

import dataclasses
import itertools
import json
import re
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy

from evaluator.season import schema
from evaluator.season.accounts import INVITATION, INVITED, Accounts
from evaluator.season.config import Season
from evaluator.season.database import Database
from evaluator.season.ledger import Ledger
from evaluator.season.store import Store
from evaluator.web.app import make_app
from evaluator.web.limiting import GUESSES
from tests.support.season import enter, put_zip, scored, write_season
from tests.support.serving import Service, encoded
from tests.support.workers import wait

OURS, THEIRS = "Ёжики", "Коты «Ё» 🐈"
NOBODY, MEMBER, REVOKED, EXPIRED, ORGANIZER = "nobody", "member", "revoked", "expired", "organizer"

# Whom a route is for, by how its path begins: the longest that fits. A route that none fits fails the tests.
FOR_ALL, FOR_TEAMS, FOR_ORGANIZERS = {NOBODY, MEMBER, ORGANIZER}, {MEMBER}, {ORGANIZER}
WHOM = {
    "/api/openapi.json": FOR_ALL,
    "/api/docs": FOR_ALL,
    "/api/v1/season": FOR_ALL,
    "/api/v1/board": FOR_ALL,
    "/api/v1/me": FOR_ALL,
    "/api/v1/submissions": FOR_TEAMS,
    "/api/v1/choice": FOR_TEAMS,
    "/api/v1/tokens": FOR_TEAMS,
    "/api/v1/name": FOR_TEAMS,
    "/api/v1/uploads": FOR_TEAMS,
    "/api/v1/organizer": FOR_ORGANIZERS,
    "/organizer": FOR_ORGANIZERS,
    "/": FOR_ALL,
    "/board": FOR_ALL,
    "/rules": FOR_ALL,
    "/send": FOR_ALL,
    "/signin": FOR_ALL,
    "/signout": FOR_ALL,
    "/join": FOR_ALL,
    "/private": FOR_ALL,
    "/prizes": FOR_ALL,
    "/static": FOR_ALL,
    "/teams": FOR_ALL,
    "/team": FOR_TEAMS,
    "/submissions": {MEMBER, ORGANIZER},
}
_addresses = itertools.count()
GONE = 999_999  # a number that nothing has


@dataclasses.dataclass(frozen=True)
class Things:
    """What a team has, by the names of parameters of paths."""

    values: dict[str, str]

    def fill(self, path: str) -> str:
        return re.sub(r"\{(\w+)(?::\w+)?\}", lambda found: self.values[found[1]], path)


@dataclasses.dataclass(frozen=True)
class Served:
    """A service of a season with two teams that have sent something, and headers of its callers."""

    service: Service
    headers: dict[str, dict[str, str]]
    ours: Things
    theirs: Things
    nothing: Things
    secrets: list[str]  # of theirs, which nobody else may be told

    def call(self, method: str, path: str, caller: str, **given: Any) -> httpx2.Response:
        """Each call from another address, so that none waits for others' mistakes."""
        number = next(_addresses)
        own = {"X-Forwarded-For": f"198.18.{number // 256}.{number % 256}"}
        with httpx2.Client(base_url=self.service.url, trust_env=False, verify=False, timeout=300) as client:
            headers = own | self.headers[caller] | given.pop("headers", {})
            with client.stream(method, path, headers=headers, **given) as answer:
                if "event-stream" not in answer.headers.get("Content-Type", ""):  # which never ends
                    answer.read()
                return answer


def routes(found: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """Method and path of each route of an application."""
    for route in found:
        if (router := getattr(route, "original_router", None)) is not None:
            yield from routes(router.routes)
        elif getattr(route, "methods", None):
            for method in sorted(route.methods - {"HEAD"}):
                yield method, route.path


def whom(path: str, method: str = "GET") -> set[str]:
    if method == "OPTIONS":  # what the service can do; browsers ask so, too
        return FOR_ALL
    fitting = [begin for begin in WHOM if path == begin or path.startswith(f"{begin}/")]
    assert fitting, f"say in WHOM whom {path} is for"
    return WHOM[max(fitting, key=len)]


def made(folder: Path) -> Season:
    """A season that takes submissions now."""
    season = write_season(
        folder / "season",
        "sqlite:///season.sqlite3",
        start="2020-01-01",
        end="2090-01-01",
        choose_until="2090-01-01",
        valid_a_day="100",
    )
    Database(season.url, season.folder).migrate()
    return season


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Season:
    return made(tmp_path_factory.mktemp("access"))


@pytest.fixture(scope="module")
def served(rules: Season, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    ledger = Ledger(rules, Database(rules.url, rules.folder))
    accounts = Accounts(ledger)
    things: list[Things] = []
    secrets: list[str] = []
    for team in (OURS, THEIRS):
        id = ledger.add_team(team).id
        sent = dataclasses.replace(put_zip(rules, team, 0.5), name=f"секрет команды {id}.zip")
        submission = enter(ledger, team, sent, scored(0.25 * id))
        (run,) = [state.run for state in ledger.states() if state.submission.id == submission]
        for name in ("report.html", "log.txt"):
            path = Store(rules.folder).run(run) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"секрет прогона команды {id}", encoding="utf-8")
        token, secret = accounts.make(team, f"секретный ноутбук {id}", "Судья")
        _, invitation = accounts.make(team, f"секретное приглашение {id}", "Судья", _later(), INVITED)
        values = {"submission": submission, "team": id, "token": token.id, "secret": invitation, "run": run}
        values |= {"change": 1, "name": "public", "digest": "0", "test_set": "public", "what": "runs"}
        values["path"] = "teams/add"
        things.append(Things({name: str(value) for name, value in values.items()}))
        secrets = [f"секрет команды {id}", f"секрет прогона команды {id}", f"ноутбук {id}", secret, invitation]
        secrets.append(sent.digest)
        if team == OURS:
            member = secret
    _, organizers = accounts.make(None, "Судья", "root")
    ended, revoked = accounts.make(OURS, "потерянный", "Судья")
    accounts.revoke(ended.id, "Судья", "потерян")
    cookie = accounts.sign_in(member)
    assert cookie is not None
    with ledger.database.write() as connection:
        connection.execute(sqlalchemy.update(schema.session).values(expires_at=datetime(2020, 1, 1, tzinfo=UTC)))
    service = Service(rules, tmp_path_factory.mktemp("log") / "serve.log").start()
    bearer = {
        name: {"Authorization": f"Bearer {secret}"}
        for name, secret in ((MEMBER, member), (ORGANIZER, organizers), (REVOKED, revoked))
    }
    try:
        place = httpx2.post(
            f"{service.url}/api/v1/uploads",
            headers={
                "Authorization": f"Bearer {accounts.make(THEIRS, 'загрузка', 'Судья')[1]}",
                "Tus-Resumable": "1.0.0",
                "Upload-Length": "1000",
                "Upload-Metadata": encoded(filename="секретная загрузка.zip", sha256="0" * 64),
            },
            trust_env=False,
        ).headers.get("Location", "/none")
        upload = {"id": place.rsplit("/", 1)[1]}
        yield Served(
            service,
            bearer | {NOBODY: {}, EXPIRED: {"Cookie": f"fbc={cookie}"}},
            things[0],
            Things(things[1].values | upload),
            Things({name: str(GONE) for name in things[0].values} | {"id": "0" * len(upload["id"])}),
            secrets,
        )
    finally:
        service.end()


# What tus wants to be said.
TUS = {
    "Tus-Resumable": "1.0.0",
    "Upload-Length": "3",
    "Upload-Offset": "0",
    "Upload-Metadata": encoded(filename="a.zip", sha256="0" * 64),
}


def content(method: str, path: str) -> dict[str, Any]:
    """The rest of a request for a route, as far as it needs to be right to be let in."""
    if path.startswith("/api/v1/uploads"):
        of_patch = {"Content-Type": "application/offset+octet-stream"} if method in ("PATCH", "POST") else {}
        return {"headers": TUS | of_patch}
    return {"json": {}} if method in ("POST", "PUT") and path.startswith("/api/") else {}


def _later() -> datetime:
    return datetime.now(UTC) + INVITATION


def test_every_route_lets_in_whom_it_is_for_and_nobody_else(served: Served, rules: Season) -> None:
    found = sorted(set(routes(make_app(rules.path).routes)))
    assert len(found) > 10
    wrong = []
    for method, path in found:
        if (method, path) == ("POST", "/signin"):  # lets in whoever shows a token, which no caller does here
            continue
        allowed = whom(path, method)
        for caller in (NOBODY, MEMBER, REVOKED, EXPIRED, ORGANIZER):
            answer = served.call(method, served.nothing.fill(path), caller, **content(method, path))
            is_let_in = answer.status_code not in (401, 403) and "/signin" not in answer.headers.get("Location", "")
            # A cookie that holds no more is as none; a token that holds no more is told so, wherever it is read at all.
            wanted = (NOBODY if caller in (EXPIRED, REVOKED) else caller) in allowed
            is_refused = caller == REVOKED and answer.status_code == 401
            if (is_let_in != wanted and not (wanted and is_refused)) or answer.status_code >= 500:
                wrong.append(f"{caller}: {method} {path}: {answer.status_code}")
    assert not wrong, "\n".join(wrong)


def test_what_is_anothers_is_as_what_is_not_there(served: Served, rules: Season) -> None:
    """The same status, headers and words but for the number, whatever is asked of it, and in the same way."""
    compared = 0
    for method, path in sorted(set(routes(make_app(rules.path).routes))):
        if MEMBER not in whom(path, method) or NOBODY in whom(path, method) or "{" not in path:
            continue
        theirs = served.call(method, served.theirs.fill(path), MEMBER, **content(method, path))
        nothing = served.call(method, served.nothing.fill(path), MEMBER, **content(method, path))
        assert theirs.status_code == nothing.status_code and theirs.status_code in (404, 405), f"{method} {path}"
        assert _words(theirs) == _words(nothing), f"{method} {path}"
        assert {k: v for k, v in theirs.headers.items() if k not in ("date", "content-length")} == {
            k: v for k, v in nothing.headers.items() if k not in ("date", "content-length")
        }
        compared += 1
    assert compared >= 3


def _words(answer: httpx2.Response) -> str:
    return re.sub(r"\d+", "N", answer.text)


def test_nothing_of_another_team_is_in_any_answer(served: Served, rules: Season) -> None:
    for method, path in sorted(set(routes(make_app(rules.path).routes))):
        if method != "GET" or whom(path) == FOR_ORGANIZERS:
            continue
        for things in (served.ours, served.theirs):
            if any(f"{{{name}" in path for name in ("secret",)):
                continue  # who has an invitation may see what it is to
            try:
                filled = things.fill(path)
            except KeyError:
                continue
            for caller in (NOBODY, MEMBER):
                answer = served.call(method, filled, caller, follow_redirects=True)
                text = answer.text if answer.is_closed and answer.is_stream_consumed else ""
                for secret in served.secrets:
                    assert secret not in text and json.dumps(secret)[1:-1] not in text, f"{caller}: {filled}: {secret}"


def test_answers_are_kept_by_no_cache_and_have_their_headers(served: Served) -> None:
    for path in ("/api/v1/me", "/api/v1/submissions", "/api/v1/board", "/nothing"):
        answer = served.call("GET", path, MEMBER)
        assert answer.headers["Cache-Control"] == "no-store" and "ETag" not in answer.headers
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff" and "server" not in answer.headers
        assert "Strict-Transport-Security" not in answer.headers
    secure = served.call("GET", "/api/v1/me", MEMBER, headers={"X-Forwarded-Proto": "https"})
    assert "max-age" in secure.headers["Strict-Transport-Security"]


def test_a_browsers_change_needs_its_token_against_forged_requests(served: Served, rules: Season) -> None:
    ledger = Ledger(rules, Database(rules.url, rules.folder))
    accounts = Accounts(ledger)
    _, secret = accounts.make(OURS, "браузер", "Судья")
    cookie = accounts.sign_in(secret)
    assert cookie is not None
    signed_in = {"Cookie": f"fbc={cookie}"}
    new = {"json": {"name": "ещё"}}
    before = len(accounts.tokens(OURS))
    for headers in ({}, {"X-CSRF-Token": "0" * 64}, {"X-CSRF-Token": "ё"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = served.call("POST", "/api/v1/tokens", NOBODY, headers=signed_in | _bytes(headers), **new)
        assert answer.status_code == 403 and "reload" in answer.json()["detail"]
    assert len(accounts.tokens(OURS)) == before
    from evaluator.web.access import Caller

    own = Caller(None, cookie).csrf
    answer = served.call("POST", "/api/v1/tokens", NOBODY, headers=signed_in | {"X-CSRF-Token": own}, **new)
    assert answer.status_code == 201 and len(accounts.tokens(OURS)) == before + 1
    elsewhere = signed_in | {"X-CSRF-Token": own, "Sec-Fetch-Site": "same-site"}
    assert served.call("POST", "/api/v1/tokens", NOBODY, headers=elsewhere, **new).status_code == 403


def _bytes(headers: dict[str, str]) -> dict[str, Any]:
    return {name: value.encode() for name, value in headers.items()}


def test_who_guesses_waits_and_who_was_let_in_does_not(tmp_path: Path) -> None:
    season = made(tmp_path)
    ledger = Ledger(season, Database(season.url, season.folder))
    ledger.add_team(OURS)
    _, secret = Accounts(ledger).make(OURS, "перед угадыванием", "Судья")
    _, late = Accounts(ledger).make(OURS, "после угадывания", "Судья")
    service = Service(season, tmp_path / "log").start()
    try:
        with httpx2.Client(base_url=service.url, trust_env=False, timeout=300) as client:

            def ask(token: str) -> httpx2.Response:
                return client.get("/api/v1/me", headers={"Authorization": f"Bearer {token}"})

            assert ask(secret).status_code == 200
            answers = [ask(f"fbc_{number}").status_code for number in range(GUESSES.amount + 5)]
            assert answers[0] == 401 and answers[-1] == 429 and set(answers) == {401, 429}
            refused = ask(late)
            assert refused.status_code == 429 and 1 <= int(refused.headers["Retry-After"]) <= 60
            assert ask(secret).status_code == 200
    finally:
        service.end()


def test_bodies_are_small_and_need_not_be_read_to_be_refused(served: Served) -> None:
    large = {"content": b'{"name": "' + b"x" * (2 << 20) + b'"}', "headers": {"Content-Type": "application/json"}}
    try:
        answer = served.call("POST", "/api/v1/tokens", MEMBER, **large)
    except httpx2.HTTPError:  # the connection ended before all was sent
        return
    assert answer.status_code == 413 and "bytes" in answer.json()["detail"]


def test_a_name_of_another_scheme_is_refused(served: Served) -> None:
    secret = served.headers[MEMBER]["Authorization"].split()[1]
    for said in (f"Basic {secret}", secret, "Bearer", f"bearer  {secret} x", f"Token {secret}"):
        answer = served.call("GET", "/api/v1/me", NOBODY, headers={"Authorization": said})
        assert answer.status_code == 401, said
    assert served.call("GET", "/api/v1/me", NOBODY, headers={"Authorization": f"bearer {secret}"}).status_code == 200


def test_many_who_ask_at_once_have_what_is_there(served: Served, rules: Season) -> None:
    ledger = Ledger(rules, Database(rules.url, rules.folder))
    found: list[int] = []

    def ask() -> None:
        found.append(len(served.call("GET", "/api/v1/submissions", MEMBER).json()))

    for number in range(3):
        before = len(ledger.states(OURS))
        enter(ledger, OURS, f"ещё {number}", scored(0.1))
        wait(lambda before=before: len(served.call("GET", "/api/v1/submissions", MEMBER).json()) > before)
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(found) == {before + 1}
        found.clear()
