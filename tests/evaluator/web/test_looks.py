"""Whether every page can be read: on phones and desks, dark and light, in both languages, and by what axe-core asks.

With the environment's SCREENSHOTS=FOLDER pictures of all of them are left there, to look at.
"""

import math
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from evaluator.season.accounts import INVITATION, INVITED, Accounts
from evaluator.season.ledger import Ledger, RunEnd
from evaluator.season.organize import Organizer
from evaluator.season.store import Store
from evaluator.web.organizer import TABS
from tests.support import axe
from tests.support import demo_season as demo
from tests.support.browser import DESK, PHONE, Visitor
from tests.support.season import archive, enter, scored
from tests.support.serving import Service
from tests.support.uploads import TEAMS, Line, open_again, served_season, zipped

OURS, THEIRS = TEAMS
EMPTY, HOSTILE = "Ничего ещё не послали", ("<script>window.hacked = 1</script>", "Щ" * 60, "שלום עולם")
LOOKS = ((PHONE, "dark"), (DESK, "light"))  # each width and each scheme once: neither changes what the other does

FINDINGS = [
    {
        "rule": "output-missing",
        "where": "output/predictions.json",
        "found": "120 examples of «ёж_и_очень_длинное_имя_файла_без_единого_пробела_0123456789.json» are missing",
        "allowed": "every id exactly once",
        "fix": "write an entry for every id of input.json",
    },
    {"rule": "answer-type", "where": "id 7", "found": "a <b>number</b>", "allowed": "a text or an image", "fix": ""},
]


def at_fault(verdict: str, fault: str, **detail: Any) -> RunEnd:
    return RunEnd(verdict, fault, detail={"findings": [], "seconds": 5421.0, "peak_memory": 31e9} | detail)


def fill(ledger: Ledger) -> None:
    """What a team can see of runs: every kind of end, one that runs and some that wait."""
    for name in (EMPTY, *HOSTILE):
        ledger.add_team(name)
    for number, name in enumerate(HOSTILE):
        enter(ledger, name, f"чужое {number}", scored(0.3 + number / 10))
    enter(ledger, OURS, "первое", RunEnd("OK", None, {5: 0.53}, "d" * 64, {"seconds": 3.2, "peak_memory": 1e9}))
    enter(ledger, OURS, "медленное", at_fault("TIMEOUT", "team", fix="make it faster: 1 h 30 min are allowed"))
    enter(ledger, OURS, "пустое", at_fault("BAD_OUTPUT", "team", findings=FINDINGS, fix="see the findings"))
    enter(ledger, OURS, "большое", at_fault("OOM", "team", fix="use less memory"))
    enter(ledger, OURS, "лучшее", scored(0.71))
    ledger.choose(OURS, [enter(ledger, OURS, "ещё", scored(0.6))])
    log = Store(ledger.season.folder).run(4) / "log.txt"
    log.parent.mkdir(parents=True)
    log.write_text("готово: ёж\n", encoding="utf-8")
    organizer = Organizer(ledger, "Судья «Ё»")
    organizer.announce("Завтра с 10 до 12 очередь стоит: меняем диски. Попытки не тратятся.", "профилактика")
    ledger.submit(OURS, archive("идёт"))
    ledger.claim("gpu1:101")
    for number in range(3):
        ledger.submit(OURS, archive(f"ждёт {number}"))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("looks")
    season = served_season(folder / "season", lease_seconds="3600")
    ledger = open_again(season)
    fill(ledger)
    ledger.database.engine.dispose()
    served = Service(season, folder / "log").start()
    yield served
    served.end()


@pytest.fixture(scope="module")
def accounts(service: Service) -> Accounts:
    return Accounts(open_again(service.season))


@pytest.fixture
def page(driver: Any, service: Service) -> Iterator[Visitor]:
    yield Visitor(driver, service.url)
    driver.get("about:blank")
    driver.delete_all_cookies()


def check(page: Visitor, name: str) -> None:
    """That the page which is open can be read, however it is looked at."""
    folder = os.environ.get("SCREENSHOTS")
    for width, scheme in LOOKS:
        page.look(width, scheme)
        background = page.run("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert (sum(background[:3]) < 200) == (scheme == "dark")
        for language in ("en", "ru"):
            page.speak(language)
            assert page.overflow() <= 0, f"{name} in {language} at {width} is {page.overflow()} pixels too wide"
        if folder:
            page.keep(Path(folder) / f"{name}-{width}-{scheme}.png")
        assert axe.faults(page.driver) == [], f"{name} at {width}, {scheme}"
    assert page.log == [] and page.run("return window.hacked ?? null") is None


@pytest.mark.slow
def test_pages_for_everybody_can_be_read(page: Visitor, accounts: Accounts) -> None:
    for name, path in (("board", "/"), ("rules", "/rules"), ("send", "/send"), ("public-team", "/teams/1")):
        check(page.go(path), name)
    check(page.go("/signin"), "signin")
    page.one("#token").send_keys("fbc_нет такого")
    page.click("main form button")
    page.until(lambda: page.all("#fault"))
    page.driver.get_log("browser")  # the status 401
    check(page, "signin-wrong")
    _, secret = accounts.make(OURS, "Ёлка", "Судья", datetime.now(UTC) + INVITATION, INVITED)
    check(page.go(f"/join/{secret}"), "join")


@pytest.mark.slow
def test_a_teams_own_pages_can_be_read(page: Visitor, service: Service, accounts: Accounts, tmp_path: Path) -> None:
    page.sign_in(accounts.make(OURS, "ноутбук «Ё»", "Судья")[1])
    check(page.go("/"), "board-own")
    page.go("/team")
    for each in page.all("details"):
        page.run("arguments[0].open = true", each)
    check(page, "team")
    page.one("#guest").send_keys("Ёлка")
    page.run("document.getElementById('guest').form.requestSubmit()")
    page.until(lambda: page.all("#secret"))
    check(page, "invitation")
    check(page.go("/team?done=chosen"), "team-done")
    page.go("/nothing")
    page.driver.get_log("browser")  # the status 404
    check(page, "problem")


@pytest.mark.slow
def test_an_upload_under_way_can_be_read(driver: Any, service: Service, accounts: Accounts, tmp_path: Path) -> None:
    line = Line(service.port)
    page = Visitor(driver, line.url).sign_in(accounts.make(EMPTY, "ноутбук", "Судья")[1])
    check(page, "team-empty")
    path = tmp_path / "решение с очень длинным именем, которое на телефоне едва помещается.zip"
    path.write_bytes(zipped(padding=50_000_000))
    line.hold_at = 20_000_000
    page.one("#zip").send_keys(str(path))
    page.click("#start")
    page.until(lambda: line.holds)
    page.until(lambda: float(page.one("#progress").get_attribute("value")) > 0.2)
    check(page, "upload")
    line.cut()
    page.until(lambda: "сама" in page.text("#stage"))
    page.driver.get_log("browser")  # of the line
    line.hold_at = math.inf
    page.until(lambda: "Принято" in page.text("#outcome"))
    check(page, "upload-taken")
    path.write_bytes(b"PK" + bytes(1000))
    page.one("#zip").send_keys(str(path))
    page.click("#start")
    page.until(lambda: page.all("#outcome .findings li"))
    check(page, "upload-faulty")
    line.close()
    page.driver.get("about:blank")
    page.driver.delete_all_cookies()


@pytest.mark.slow
def test_organizers_pages_can_be_read(page: Visitor, accounts: Accounts) -> None:
    page.sign_in(accounts.make(None, "Судья «Ё»", "Судья")[1])
    for address, _, _ in TABS:
        check(page.go(address), "organizer-" + (address.removeprefix("/organizer/") or "queue").strip("/"))
    check(page.go("/organizer/teams/1"), "organizer-team")
    check(page.go("/organizer/submissions/6"), "organizer-submission")


@pytest.mark.slow
def test_a_season_that_is_over_can_be_read(driver: Any, tmp_path: Path) -> None:
    season = demo.write(tmp_path / "season", days=20).season
    served = Service(season, tmp_path / "log").start()
    ledger = open_again(season)
    accounts = Accounts(ledger)
    Organizer(ledger, "Судья").show_private("подведены итоги")
    page = Visitor(driver, served.url)
    try:
        page.sign_in(accounts.make(demo.NAMES[0], "ноутбук", "Судья")[1])
        for name, path in (("over-board", "/"), ("private", "/private"), ("prizes", "/prizes"), ("over-team", "/team")):
            check(page.go(path), name)
    finally:
        page.driver.get("about:blank")
        page.driver.delete_all_cookies()
        served.end()
