"""What somebody tries who means ill, and what goes on in a service for weeks: each shown on the real thing."""

import asyncio
import socket
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from limits import parse

from evaluator.core.errors import DataError
from evaluator.season import PRIVATE, PUBLIC, actions, waiting
from evaluator.season.accounts import INVITED, Holder
from evaluator.season.database import Database
from evaluator.season.ledger import Ledger, Team
from evaluator.season.organize import Organizer
from evaluator.season.site.pages import Pages
from evaluator.season.store import Store
from evaluator.web import api, limiting, live, mine, pages
from evaluator.web.access import Caller
from evaluator.web.problems import Problem
from evaluator.web.protocol import ACCEPTED
from evaluator.web.receiving import Incoming, Info, Receiving
from evaluator.web.team import own_run, team_stamp
from evaluator.web.watching import Watch
from tests.support import demo_season
from tests.support.data import build_data
from tests.support.organizer import CAT, HEDGEHOGS, Desk, serving
from tests.support.season import TASK, Clock, archive, enter, failed, scored, write_season
from tests.support.serving import Service, status
from tests.support.uploads import open_again, served_season
from tests.support.workers import SECONDS

# --- streams of news ---


@pytest.mark.parametrize("path", ["/team/live", "/organizer/live"])
def test_a_stream_of_news_ends_when_its_token_is_revoked(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(live, "HOLDS_SECONDS", 0.1)
    token, secret = desk.accounts.make(CAT if path.startswith("/team") else None, "ноутбук", "Судья")
    with desk.caller(secret) as client, client.stream("GET", path) as answer:
        news = answer.iter_text()
        assert "changed" in next(news)
        desk.accounts.revoke(token.id, "Судья", "потерян")
        assert "changed" not in "".join(news)  # it ends, in order


def test_a_stream_ends_when_its_session_does(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "HOLDS_SECONDS", 0.1)
    cookie = desk.accounts.sign_in(desk.accounts.make(CAT, "ноутбук", "Судья")[1])
    assert cookie is not None
    with desk.caller(None) as client, client.stream("GET", "/team/live", headers={"Cookie": f"fbc={cookie}"}) as answer:
        news = answer.iter_text()
        assert "changed" in next(news)
        desk.accounts.sign_out(cookie)
        assert "changed" not in "".join(news)


def test_a_stream_of_a_team_that_is_merged_says_so_and_ends(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "HOLDS_SECONDS", 0.1)
    _, secret = desk.accounts.make(CAT, "ноутбук", "Судья")
    with desk.caller(secret) as client, client.stream("GET", "/team/live") as answer:
        news = answer.iter_text()
        assert "changed" in next(news)
        desk.change("teams/merge", team=CAT, into=HEDGEHOGS)
        "".join(news)  # whole, whether or not it said that the page is another


def test_nobody_keeps_any_number_of_streams(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST_STREAMS", 3)
    _, secret = desk.accounts.make(CAT, "ноутбук", "Судья")
    host, _, port = desk.url.removeprefix("http://").partition(":")
    request = f"GET /board/live HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    open_ones = []
    for _ in range(3):
        connection = socket.create_connection((host, int(port)), timeout=300)
        connection.sendall(request)
        while b"changed" not in connection.recv(65536):
            pass
        open_ones.append(connection)
    with desk.caller(None) as client:
        refused = client.get("/board/live")
        assert refused.status_code == 429 and "streams" in refused.text
    with desk.caller(secret) as client, client.stream("GET", "/board/live") as answer:  # somebody else
        assert answer.status_code == 200
    for connection in open_ones:
        connection.close()
    while True:  # there is room as soon as the service has seen it
        with desk.caller(None) as client, client.stream("GET", "/board/live") as answer:
            if answer.status_code == 200:
                break
        time.sleep(0.1)


# --- requests that other pages make ---


def test_a_page_elsewhere_signs_nobody_in(desk: Desk) -> None:
    """As who would be signed in then sends to the attacker's team. Over plain HTTP, and in older browsers, a request
    has no Sec-Fetch-Site.
    """
    _, secret = desk.accounts.make(CAT, "чужой", "Судья")
    _, invitation = desk.accounts.make(CAT, "чужое", "Судья", kind=INVITED)
    with desk.caller(None) as client:
        for said in ({"Origin": "http://elsewhere.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
            for path, form in (("/signin", {"token": secret}), (f"/join/{invitation}", {"name": "Аня"})):
                answer = client.post(path, data=form, headers=said)
                assert answer.status_code == 403 and "Set-Cookie" not in answer.headers, (path, said)
    proxied = {"Origin": "https://season.example", "Host": "season.example", "X-Forwarded-Proto": "https"}
    for said in ({"Origin": desk.url}, proxied, {"Sec-Fetch-Site": "same-origin", "Origin": "null"}, {}):
        with desk.caller(None) as client:
            assert client.post("/signin", data={"token": secret}, headers=said).status_code == 303, said


# --- bodies ---


def test_no_form_is_read_where_uploads_are(desk: Desk) -> None:
    """Uploads are as large as they are: a form, which a browser's request shows its token in elsewhere, would fill the
    disk here, before anybody has looked at how much room there is.
    """
    cookie = desk.accounts.sign_in(desk.accounts.make(CAT, "ноутбук", "Судья")[1])
    host, _, port = desk.url.removeprefix("http://").partition(":")
    lines = (
        "POST /api/v1/uploads HTTP/1.1",
        f"Host: {host}",
        f"Cookie: fbc={cookie}",
        "Tus-Resumable: 1.0.0",
        "Content-Type: multipart/form-data; boundary=b",
        f"Content-Length: {10**12}",
    )
    part = '--b\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\n'
    with socket.create_connection((host, int(port)), timeout=SECONDS) as connection:
        connection.sendall("\r\n".join((*lines, "", part)).encode() + b"x" * 100_000)
        assert status(connection) == 403  # with most of the body still to come


# --- answers ---


def test_a_failure_of_the_service_has_the_headers_of_every_answer(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("секрет")

    monkeypatch.setattr(api, "is_open", fails)
    monkeypatch.setattr(pages, "board_stamp", fails)
    for path in ("/api/v1/me", "/"):
        with desk.caller(desk.accounts.make(CAT, f"для {path}", "Судья")[1]) as client:
            answer = client.get(path)
        assert answer.status_code == 500 and "секрет" not in answer.text
        assert answer.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


# --- what stamps say ---


def test_a_stamp_says_no_more_than_its_page(tmp_path: Path) -> None:
    """Whoever knows all else of what a stamp is of finds the rest by trying: a private run's verdict, or a result that
    a frozen board does not show.
    """
    season = write_season(tmp_path, "sqlite:///season.sqlite3")
    actions.migrate(season.path)
    clock = Clock()
    ledger = Ledger(season, Database(season.url, season.folder), clock)
    team = ledger.add_team(HEDGEHOGS)
    enter(ledger, HEDGEHOGS, "а", scored(0.5))

    def stamps() -> tuple[str, str]:
        taken = ledger.snapshot()
        return pages.board_stamp(taken), team_stamp(Pages(taken, taken.private_shown), team)

    before = stamps()
    ledger.submit(HEDGEHOGS, archive("ё"))
    Organizer(ledger, "Судья").freeze(None, "перед финалом")
    clock.forward(seconds=1)
    waits = stamps()
    assert waits[0] != before[0] and waits[1] != before[1]
    job = ledger.claim("машина")
    assert job is not None and ledger.finish(job, scored(0.75)) is not None
    done = stamps()
    assert done[0] == waits[0] and done[1] != waits[1]
    clock.forward(days=30)
    ledger.queue_finals()
    waits = stamps()
    for end in (scored(0.25, "f" * 64), failed("TIMEOUT", "team")):
        job = ledger.claim("машина")
        assert job is not None and job.test_set == PRIVATE and ledger.finish(job, end) is not None
        assert stamps() == waits


def test_of_a_round_on_other_data_teams_see_nothing(tmp_path: Path) -> None:
    """Though the private board is shown to all by then."""
    days = {"start": "2020-01-01", "end": "2020-01-02", "choose_until": "2020-01-02"}
    season = write_season(tmp_path / "season", "sqlite:///season.sqlite3", **days)
    build_data(season.folder / "data" / "финал", (TASK,))
    actions.migrate(season.path)
    clock = Clock(datetime(2020, 1, 1, 9, tzinfo=UTC))
    ledger = Ledger(season, Database(season.url, season.folder), clock)
    ledger.add_team(HEDGEHOGS)
    submission = enter(ledger, HEDGEHOGS, "а", scored(0.5))
    clock.now = datetime.now(UTC)
    organizer = Organizer(ledger, "Судья")
    organizer.show_private("итоги")
    organizer.add_test_set("финал", season.folder / "data" / "финал", "ещё тур")
    organizer.queue([submission], "финал", "ещё тур")
    job = ledger.claim("машина")
    assert job is not None and job.test_set == "финал" and ledger.finish(job, scored(0.25, "f" * 64)) is not None
    folder = Store(season.folder).run(job.run)
    folder.mkdir(parents=True)
    (folder / "report.html").write_text(demo_season.report("секрет тура", job.run, {TASK: 0.25}), encoding="utf-8")
    with serving(season) as url:
        desk = Desk(url, ledger)
        with desk.caller(desk.accounts.make(HEDGEHOGS, "ноутбук", "Судья")[1]) as client:
            page = client.get("/team")
            assert page.status_code == 200 and "финал" not in page.text
            assert "финал" not in client.get(f"/api/v1/submissions/{submission}").text
            for name in ("финал", "private"):
                report = client.get(f"/submissions/{submission}/report", params={"set": name})
                assert report.status_code == 404, report.text
        assert desk.client.get(f"/submissions/{submission}/report", params={"set": "финал"}).status_code == 200


# --- what goes on for weeks ---


def test_time_goes_on_where_nothing_happens(tmp_path: Path) -> None:
    """A queue that nobody works on promises no start, and what waits is said to wait for as long as it does."""
    season = write_season(tmp_path, "sqlite:///season.sqlite3")
    actions.migrate(season.path)
    clock = Clock()
    ledger = Ledger(season, Database(season.url, season.folder), clock)
    ledger.add_team(HEDGEHOGS)
    enter(ledger, HEDGEHOGS, "а", scored(0.5))
    ledger.submit(HEDGEHOGS, archive("ё"))
    watch = Watch(ledger)
    (waits,) = waiting.places(watch.see().snapshot)
    assert waits.starts_at == clock.now
    same = watch.see()
    clock.forward(hours=1)
    later = watch.see()
    assert later.version == same.version and later.snapshot.now == clock.now
    (waits,) = waiting.places(later.snapshot)
    assert waits.place == 1 and waits.starts_at is None
    clock.forward(seconds=1)
    assert watch.see() is later  # pages are not made anew all the time


def test_who_called_long_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is counted is looked through at each call: that must not become all addresses that ever called."""
    monkeypatch.setattr(limiting, "CALLS", parse("5/second"))
    limiter = limiting.Limiter()
    for number in range(3000):
        limiter.call(None, f"2001:db8:0:{number:x}::1")
    kept = limiter._limiter.storage
    deadline = time.monotonic() + SECONDS
    while len(kept.storage) + len(kept.events) + len(kept.expirations) > 10:
        assert time.monotonic() < deadline
        time.sleep(0.5)
        limiter.call(None, "192.0.2.1")


def test_calls_are_counted_by_token() -> None:
    limiter, allowed = limiting.Limiter(), 0
    with pytest.raises(Problem) as refused:
        for _ in range(100 * limiting.CALLS.amount):
            limiter.call(7, "192.0.2.1")
            allowed += 1
    assert allowed >= limiting.CALLS.amount and refused.value.status == 429
    assert 1 <= int(refused.value.headers["Retry-After"]) <= 60
    limiter.call(8, "192.0.2.1")


# --- uploads ---


def _info(number: int, team: int = 1, length: int = 10) -> Info:
    now = datetime.now(UTC)
    return Info(team=team, by="Аня", name="ё.zip", digest=f"{number:064x}", length=length, metadata="", created_at=now)


def test_uploads_that_come_and_go_disturb_no_list_of_them(tmp_path: Path) -> None:
    receiving = Receiving(open_again(served_season(tmp_path)))
    receiving.check()
    for number in range(30_000):
        incoming = Incoming(tmp_path / f"{number}", _info(number))
        incoming.state = ACCEPTED
        receiving._all[incoming.id] = incoming
    ended = threading.Event()
    failed: list[Exception] = []

    def come_and_go(team: int) -> None:
        try:
            while not ended.is_set():
                incoming = receiving._find_or_make(_info(7, team), None)
                receiving._remove(incoming)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=come_and_go, args=(team,)) for team in (2, 3)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for _ in range(100):
            assert asyncio.run(receiving.all_of(Team(9, CAT, datetime.now(UTC)))) == []
    finally:
        ended.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert not failed


def test_an_upload_that_cannot_be_read_now_is_not_thrown_away(tmp_path: Path) -> None:
    """What was killed while it was made is; what a disk or rights keep from being read has bytes that were
    acknowledged.
    """
    season = served_season(tmp_path / "season")
    there, torn = season.folder / "uploads" / ("0" * 32), season.folder / "uploads" / ("1" * 32)
    for folder in (there, torn):
        folder.mkdir(parents=True)
        (folder / "submission.zip").write_bytes(b"12345")
    (there / "info.json").symlink_to(there / "info.json")  # as unreadable as a file can be to root
    with pytest.raises(DataError, match="info.json"):
        asyncio.run(_open(Receiving(open_again(season))))
    assert (there / "submission.zip").read_bytes() == b"12345"
    (there / "info.json").unlink()
    (there / "info.json").write_text(_info(1).model_dump_json(), encoding="utf-8")
    asyncio.run(_open(Receiving(open_again(season))))
    assert there.is_dir() and not torn.exists()


async def _open(receiving: Receiving) -> None:
    async with receiving.running():
        pass


def test_a_service_ends_in_time_while_it_hashes(tmp_path: Path) -> None:
    """What a killed service had received, and hashed of it nothing: 15 GB take a minute."""
    season = served_season(tmp_path / "season")
    folder = season.folder / "uploads" / ("0" * 32)
    folder.mkdir(parents=True)
    length = 10**12  # of nothing, which takes no room
    (folder / "info.json").write_text(_info(1, length=length).model_dump_json(), encoding="utf-8")
    with open(folder / "submission.zip", "wb") as file:
        file.truncate(length)
    service = Service(season, tmp_path / "serve.log").start()
    try:
        assert service.stop() == 0
    finally:
        service.end()
    assert (folder / "submission.zip").stat().st_size == length and not (folder / "result.json").exists()
    assert "cannot be finished" not in service.log.read_text(encoding="utf-8")


def test_an_upload_that_was_given_up_a_moment_ago_is_not_there(tmp_path: Path) -> None:
    receiving = Receiving(open_again(served_season(tmp_path)))
    receiving.check()
    incoming = receiving._find_or_make(_info(1), None)
    began, goes_on = threading.Event(), threading.Event()
    remove = receiving._remove

    def slowly(removed: Incoming) -> None:
        began.set()
        assert goes_on.wait(SECONDS)
        remove(removed)

    receiving._remove = slowly  # type: ignore[method-assign]

    async def ask() -> int:
        while not began.is_set():
            await asyncio.sleep(0.01)
        asking = asyncio.create_task(receiving.offset(incoming))
        await asyncio.sleep(0.01)
        goes_on.set()
        return await asking

    async def both() -> list[int | None | BaseException]:
        return list(await asyncio.gather(receiving.remove(incoming), ask(), return_exceptions=True))

    _, asked = asyncio.run(both())
    assert isinstance(asked, Problem) and asked.status == 404


# --- names ---


def test_a_name_that_is_anothers_now_shows_nothing_of_who_had_it(desk: Desk) -> None:
    """Who calls is known by what holds now, what is shown may be of some seconds before."""
    theirs = enter(desk.ledger, HEDGEHOGS, "их", scored(0.5))
    own = enter(desk.ledger, CAT, "свой", scored(0.25))
    before = desk.ledger.snapshot()
    for team, name in ((HEDGEHOGS, "Ужи"), (CAT, HEDGEHOGS)):
        Organizer(desk.ledger, "Судья").rename(team, name, "просили")
    token, _ = desk.accounts.make(HEDGEHOGS, "ноутбук", "Судья")
    caller = Caller(Holder(token, desk.ledger.team(HEDGEHOGS)))
    assert caller.team is not None
    assert [each.submission for each in mine.submissions(before, caller.team)] == [own]
    assert own_run(Pages(before), caller, own, PUBLIC).submission.id == own
    with pytest.raises(Problem) as refused:
        own_run(Pages(before), caller, theirs, PUBLIC)
    assert refused.value.status == 404
