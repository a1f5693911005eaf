"""The season's site: what is in it, what is not, how it is replaced, and how it behaves in a real Chromium."""

import dataclasses
import errno
import fcntl
import html
import json
import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any, cast
from zoneinfo import ZoneInfo

import pytest

from evaluator.cli.app import main
from evaluator.core.verdict import TABLE
from evaluator.season import PRIVATE, PUBLIC, board, changes, prizes, schema
from evaluator.season.database import Database
from evaluator.season.ledger import Event, Ledger, Refused, RunEnd, Snapshot
from evaluator.season.site import publish, usage
from evaluator.season.site.build import build
from evaluator.season.store import Store, digest
from tests.support import demo_season as demo
from tests.support.browser import Tab
from tests.support.season import NOON, enter, labelled, scored, write_season

ROOT = Path(demo.__file__).parents[2]
PHONE, DESK = 360, 1280


@pytest.fixture(scope="module")
def over(tmp_path_factory: pytest.TempPathFactory) -> demo.Demo:
    """A season after its private results."""
    return demo.write(tmp_path_factory.mktemp("over") / "season", teams=14, days=5, rate=0.22)


@pytest.fixture(scope="module")
def going(tmp_path_factory: pytest.TempPathFactory) -> demo.Demo:
    """A season in its middle, with private results in the database that nobody is to see yet."""
    return demo.write(tmp_path_factory.mktemp("going") / "season", teams=14, days=3, over=False, rate=0.3, seed=2)


@pytest.fixture(scope="module")
def final(over: demo.Demo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of a season that is over, with the private board for everybody."""
    out = tmp_path_factory.mktemp("final") / "site"
    build(over.ledger, out, private=True)
    return out


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of a season with more teams than a board shows at once."""
    made = demo.write(tmp_path_factory.mktemp("crowd") / "season", teams=70, days=1, over=False, rate=0.2)
    out = tmp_path_factory.mktemp("crowd") / "site"
    build(made.ledger, out)
    made.database.engine.dispose()
    return out


@dataclass
class Table:
    """A table of a page: its rows of (text, data-v)."""

    heads: list[str] = field(default_factory=list)
    rows: list[list[tuple[str, str | None]]] = field(default_factory=list)

    def column(self, number: int) -> list[str]:
        return [row[number][0] for row in self.rows]


class _Tables(HTMLParser):
    """Reads the tables of a page, of texts in two languages the English one."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[Table] = []
        self._cell: list[str] | None = None
        self._value: str | None = None
        self._skip = 0
        self._in_head = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if self._skip or given.get("class") in ("ru", "what"):  # `what` is for phones, which show no heads
            self._skip += tag not in ("wbr", "br")
        elif tag == "table":
            self.tables.append(Table())
        elif tag in ("thead", "tbody"):
            self._in_head = tag == "thead"
        elif tag == "tr" and not self._in_head:
            self.tables[-1].rows.append([])
        elif tag in ("td", "th"):
            self._cell, self._value = [], given.get("data-v")

    def handle_endtag(self, tag: str) -> None:
        if self._skip:
            self._skip -= 1
        elif tag in ("td", "th") and self._cell is not None:
            text = " ".join("".join(self._cell).split())
            if self._in_head:
                self.tables[-1].heads.append(text)
            else:
                self.tables[-1].rows[-1].append((text, self._value))
            self._cell = None

    def handle_data(self, data: str) -> None:
        if self._cell is not None and not self._skip:
            self._cell.append(data)


def tables(path: Path) -> list[Table]:
    reader = _Tables()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader.tables


def folders(out: Path) -> dict[str, Path]:
    """Each team's folder."""
    named = json.loads((out / "organizer" / "teams.json").read_text(encoding="utf-8"))
    return {each["team"]: out / "teams" / each["folder"] for each in named}


def pages(out: Path) -> list[Path]:
    """All pages but reports."""
    return [path for path in out.rglob("*.html") if path.parent.name != "reports" and path.parent != out / "teams"]


# --- what is in it ---


def test_what_is_for_whom_lies_in_folders_of_its_own(going: demo.Demo, final: Path, tmp_path: Path) -> None:
    built = build(going.ledger, tmp_path / "site")
    out = tmp_path / "site"
    assert {path.name for path in out.iterdir()} == {"public", "teams", "organizer", publish.MARK}
    everybodys = {"index.html", "rules.html", "send.html", "teams"}
    assert {path.name for path in (out / "public").iterdir()} == everybodys
    organizers = {"index.html", "private.html", "prizes.html", "teams.json"}
    assert {path.name for path in (out / "organizer").iterdir()} == organizers
    assert {path.name for path in (final / "public").iterdir()} == everybodys | {"private.html", "prizes.html"}
    numbers = {f"{team.id}.html" for team in going.ledger.snapshot().teams}
    assert {path.name for path in (out / "public" / "teams").iterdir()} == numbers
    assert set(folders(out)) == {team.name for team in going.ledger.snapshot().teams}
    listed = {path.name for path in (out / "teams").iterdir()}
    assert listed == {"index.html", *(folder.name for folder in folders(out).values())}
    assert (out / "teams" / "index.html").read_text(encoding="utf-8").count("<") == 3  # a server that lists finds this
    assert all(re.fullmatch("[0-9a-f]{32}", folder.name) for folder in folders(out).values())
    reports = list(out.rglob("reports/*.html"))
    assert built.pages == len(pages(out)) and built.reports == len(reports) == len(going.ledger.results(PUBLIC))
    mode = stat.S_IMODE((going.season.folder / "site.key").stat().st_mode)
    assert mode == 0o600


def check_board(path: Path, ledger: Ledger, test_set: str) -> None:
    table, season = next(table for table in tables(path) if "Best was sent" in table.heads), ledger.season
    lines = board.lines(ledger, test_set)
    if test_set == PUBLIC:  # those without a result stand below
        waiting = {team.name for team in ledger.snapshot().teams} - {line.team for line in lines}
        lines += [board.Line(None, team, None) for team in sorted(waiting)]
    attempts = ledger.all_attempts()
    numbers = sorted(season.weights)
    assert len(table.rows) == len(lines) > 10
    for row, line in zip(table.rows, lines, strict=True):
        texts = [text for text, _ in row]
        assert texts[0] == str(line.rank or "")
        assert texts[1] == (line.team or "Baseline")
        if line.total is None:
            assert texts[2:] == ["", *(["0", texts[4]] if test_set == PUBLIC else ["0/0"]), *[""] * 13]
            continue
        assert row[2] == (f"{line.total:.4f}", repr(line.total))
        if line.team and test_set == PUBLIC:
            open_now = season.day(ledger.snapshot().now) <= season.end
            assert texts[3:5] == [str(line.count), str(attempts[line.team].left) if open_now else "–"]
        elif line.team:
            assert texts[3] == f"{line.count}/{line.expected}"
        shown = row[-1 - len(numbers) : -1]
        for number, (text, value) in zip(numbers, shown, strict=True):
            assert value == repr(line.scores[number])
            under = line.scores[number] < season.thresholds.get(number, 0.0)
            assert text == ("▾ " if under else "") + f"{line.scores[number]:.3f}"
        if line.result:
            assert texts[-1] == f"{line.result.submitted_at.astimezone(season.zone):%Y-%m-%d %H:%M}"


def test_the_boards_have_the_numbers_of_the_ledger(
    over: demo.Demo, going: demo.Demo, final: Path, tmp_path: Path
) -> None:
    build(going.ledger, tmp_path / "site")
    check_board(tmp_path / "site" / "public" / "index.html", going.ledger, PUBLIC)
    check_board(final / "public" / "index.html", over.ledger, PUBLIC)
    check_board(final / "public" / "private.html", over.ledger, PRIVATE)
    assert any(line.misses(over.season.thresholds) for line in board.lines(over.ledger, PUBLIC))  # some ▾ were shown


def test_history_and_the_best_by_task(over: demo.Demo, final: Path) -> None:
    text = (final / "public" / "index.html").read_text(encoding="utf-8")
    best: list[float] = []
    for result in over.ledger.results(PUBLIC):
        if not best or result.total > best[-1]:
            best.append(result.total)
    records = re.findall(r"</time> · <b>([0-9.]+)</b>", text)
    assert records == [f"{total:.4f}" for total in best] and len(best) > 3
    chart = re.findall(r'<path class="line" d="([^"]+)"', text)[0]  # the legend's is the second
    assert chart.count("V") == len(best) - 1
    lines = [line for line in board.lines(over.ledger, PUBLIC) if line.team]
    rows = tables(final / "public" / "index.html")[0].rows
    for number, row in enumerate(rows):
        assert row[2][0] == f"{max(line.scores[number] for line in lines):.3f}"
        assert row[4][0].startswith("–" if number > 5 else f"{over.season.thresholds[number]:.2f} ")


def test_prizes_are_those_of_the_command(over: demo.Demo, final: Path) -> None:
    lines = board.lines(over.ledger, PRIVATE)
    digests = {state.submission.id: state.submission.digest for state in over.ledger.states()}
    green = prizes.sustainable(lines, over.season, Store(over.season.folder), digests)
    main_table, green_table = tables(final / "public" / "prizes.html")
    main = prizes.main_prize(lines, over.season)
    assert main_table.column(1) == [each.line.team for each in main]
    assert [row[3][1] for row in main_table.rows] == [str(len(each.missed)) for each in main]
    assert [row[4][0].count("<") for row in main_table.rows] == [len(each.missed) for each in main]
    assert green_table.column(1) == [place.team for place in green.places]
    assert green_table.column(0) == [str(place.rank or "") for place in green.places]
    for row, place in zip(green_table.rows, green.places, strict=True):
        assert row[3][1] == (repr(place.kg) if place.emission and place.emission.ok else "")
    text = (final / "public" / "prizes.html").read_text(encoding="utf-8")
    drawn = sum(place.kg is not None and place.emission is not None and place.emission.ok for place in green.places)
    assert len(re.findall(r'<path class="dot \w+" d="M[0-9.]+ [0-9.]+h0">', text)) == drawn > 0


def test_a_teams_page_has_its_runs_verdicts_fixes_and_reports(over: demo.Demo, final: Path) -> None:
    seen = set()
    for team, folder in folders(final).items():
        states = over.ledger.states(team)[::-1]
        if not states:
            assert "No submissions yet." in (folder / "index.html").read_text(encoding="utf-8")
            continue
        runs = next(table for table in tables(folder / "index.html") if "Verdict" in table.heads)
        assert [row[0][0] for row in runs.rows] == [str(state.submission.id) for state in states]
        assert [row[4][1] for row in runs.rows] == [state.name for state in states]
        for row, state in zip(runs.rows, states, strict=True):
            seen.add(state.name)
            assert ("report" in row[8][0]) == (state.verdict == "OK")
            if state.verdict == "OK":
                name = f"{state.submission.id}{'-private' if state.test_set == PRIVATE else ''}.html"
                written = (folder / "reports" / name).read_bytes()
                assert written == (Store(over.season.folder).run(state.run) / "report.html").read_bytes()
            elif state.fault == "team":
                assert f"{demo.finding_of(team)} <b>5</b> of this kind" in row[8][0]
                assert state.detail["fix"] in row[8][0] and "every id exactly once" in row[8][0]
            elif state.is_infrastructure_failure:
                assert row[8][0].endswith("costs no attempt")
    assert {"OK", "METRIC_ERROR"} <= seen and seen & {"TIMEOUT", "OOM", "EXIT"}


def test_the_organizers_page_has_queue_failures_and_machines(going: demo.Demo, tmp_path: Path) -> None:
    build(going.ledger, tmp_path / "site")
    found = {table.heads[0] + str(len(table.heads)): table for table in tables(tmp_path / "site/organizer/index.html")}
    stuck = [state for state in going.ledger.waiting() if state.is_infrastructure_failure]
    waiting = [state for state in going.ledger.waiting() if state.pending]
    assert {state.kind for state in waiting} == {"queued", "running"} and stuck
    assert found["Submission7"].column(0)[: len(stuck)] != []
    assert found["Submission8"].column(0) == [str(state.submission.id) for state in waiting]
    assert [row[3][1] for row in found["Submission8"].rows] == [state.name for state in waiting]
    machines = found["Machine10"]
    assert machines.column(0) == ["gpu1", "gpu2"]
    lives = usage.runs(going.ledger.snapshot().events)
    assert [int(runs) for runs in machines.column(2)] == [
        sum(run.worker is not None and run.worker.startswith(name) for run in lives) for name in ("gpu1", "gpu2")
    ]
    days = found["Day8"]
    assert sum(int(sent) for sent in days.column(1)) == len({state.submission.id for state in going.ledger.states()})
    assert sum(int(ended) for ended in days.column(2)) == sum(run.ended is not None for run in lives)


def test_a_season_without_teams_has_a_site(tmp_path: Path) -> None:
    season = write_season(tmp_path / "season", "sqlite:///season.sqlite3")
    database = Database(season.url, season.folder)
    database.migrate()
    ledger = Ledger(season, database, lambda _: NOON)
    assert build(ledger, tmp_path / "site").pages == 6
    ledger.add_team("Ёжики")
    assert build(ledger, tmp_path / "site").pages == 8
    (page,) = (folder / "index.html" for folder in folders(tmp_path / "site").values())
    assert "No submissions yet." in page.read_text(encoding="utf-8")
    database.engine.dispose()


def test_a_teams_public_page_has_how_its_best_score_grew_and_nothing_else(over: demo.Demo, final: Path) -> None:
    by_team: dict[str, list[board.BoardResult]] = {}
    for result in over.ledger.results(PUBLIC):
        raised = by_team.setdefault(result.team, [])
        if not raised or result.total > raised[-1].total:
            raised.append(result)
    assert max(map(len, by_team.values())) > 2
    for team in over.ledger.snapshot().teams:
        path = final / "public" / "teams" / f"{team.id}.html"
        table = tables(path)[-1]
        raised = by_team.get(team.name, [])[::-1]
        if not raised:
            assert [row[0][0] for row in table.rows] == ["No results yet."]
            continue
        assert table.column(1) == [f"{result.total:.4f}" for result in raised]
        scores = over.ledger.scores(raised)
        for row, result in zip(table.rows, raised, strict=True):
            assert [value for _, value in row[2:]] == [repr(value) for _, value in sorted(scores[result.run].items())]
        text = path.read_text(encoding="utf-8")
        sent = {state.submission.name for state in over.ledger.states(team.name)}
        assert not [name for name in (*sent, "badge", "report") if name in text.split("<main")[1]]


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag == "a":
            self.links.add(given["href"] or "")
        self.ids.add(given.get("id") or "")


def links(path: Path) -> _Links:
    reader = _Links()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader


def test_every_link_leads_somewhere(going: demo.Demo, final: Path, tmp_path: Path) -> None:
    build(going.ledger, tmp_path / "site")
    for out in (final, tmp_path / "site"):
        for path in pages(out):
            found = links(path).links
            for link in found:
                target, _, anchor = link.partition("#")
                there = (path.parent / target).resolve() if target else path
                assert there.is_file(), (path, link)
                assert not anchor or anchor in links(there).ids, (path, link)
            if path.parent.parent == out / "teams":
                assert {"../../public/rules.html", "../../public/send.html"} < found
                assert any(link.startswith("../../public/index.html#team-") for link in found)
            if out / "public" in path.parents:
                assert not any("../../" in link for link in found)  # nothing but what is served with it


def write_small(folder: Path, *ends: RunEnd, **replace: str) -> Ledger:
    season = write_season(folder, "sqlite:///season.sqlite3", **replace)
    database = Database(season.url, season.folder)
    database.migrate()
    ledger = Ledger(season, database, lambda _: NOON)
    ledger.add_team("Ёжики")
    for number, end in enumerate(ends):
        enter(ledger, "Ёжики", number, end)
    database.engine.dispose()
    return ledger


LABEL = "encoders: nano, not comparable with the leaderboard"


def test_scores_that_are_not_comparable_say_so_wherever_they_stand(tmp_path: Path) -> None:
    ledger = write_small(tmp_path / "season", labelled(0.5, LABEL), labelled(0.6, LABEL))
    out = tmp_path / "site"
    build(ledger, out)
    name = next(iter(ledger.season.competition.names[number] for number in ledger.season.weights))
    (own,) = folders(out).values()
    marked = [out / "public" / "index.html", out / "public" / "teams" / "1.html", own / "index.html"]
    for path in marked:
        text = path.read_text(encoding="utf-8")
        assert 'id="not-comparable"' in text and "encoders: nano" in text and f"{name}</li>" not in text
    heads = tables(marked[0])[-1].heads
    assert heads[2] == "Score * not comparable with the leaderboard"
    assert name in heads  # nobody knows of which task
    (result, *_) = ledger.results(PUBLIC)
    run = Store(ledger.season.folder).run(result.run)
    run.mkdir(parents=True)
    for content in ("{", "[]", '{"tasks": {"5": {"labels": ["другая"]}}}', '{"tasks": {"x": {"labels": []}}}'):
        (run / "scores.json").write_text(content, encoding="utf-8")
        build(ledger, out)
        assert name in tables(marked[0])[-1].heads
    tasks = {str(number): {"labels": [LABEL] if number in ledger.season.weights else []} for number in range(12)}
    (run / "scores.json").write_text(json.dumps({"tasks": tasks}), encoding="utf-8")
    build(ledger, out)
    for path in marked:
        assert f"{name}</li>" in path.read_text(encoding="utf-8")
    assert f"{name} * not comparable with the leaderboard" in tables(marked[0])[-1].heads
    assert tables(marked[0])[0].rows[0][0][0] == f"{name} * not comparable with the leaderboard"


def test_the_command_says_that_scores_are_not_comparable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = write_small(tmp_path / "season", labelled(0.5, LABEL))
    season = str(ledger.season.path)
    assert main(["board", "--season", season]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert "score *" in shown[1] and shown[-1] == f"* {LABEL}"
    assert main(["board", "--season", season, "--json", str(tmp_path / "board.json")]) == 0
    assert json.loads((tmp_path / "board.json").read_text(encoding="utf-8"))["labels"] == [LABEL]
    assert main(["board", "--season", season, "--private"]) == 0
    assert "*" not in capsys.readouterr().out.split("private board")[1]


def test_pages_say_what_organizers_changed(tmp_path: Path) -> None:
    ledger = write_small(tmp_path / "season", scored(0.4))
    for name in ("Кот", "Лис", "Пёс"):
        ledger.add_team(name)
    enter(ledger, "Кот", "cat", scored(0.5))
    enter(ledger, "Лис", "fox", scored(0.6))
    ledger.record(changes.OUT_OF_COMPETITION, "организатор", "судит", team="Кот")
    ledger.record(changes.DISQUALIFIED, "организатор", "чужие веса", team="Лис")
    later = Ledger(ledger.season, ledger.database, lambda _: NOON + timedelta(hours=1))
    later.record(changes.FROZEN, "организатор", "финал", detail=lambda _: {"at": NOON.isoformat()})
    enter(later, "Пёс", "dog", scored(0.9))
    out = tmp_path / "site"
    build(later, out)
    page = out / "public" / "index.html"
    table, text = tables(page)[-1], page.read_text(encoding="utf-8")
    assert table.column(1) == ["Кот out of competition", "Ёжики", "Baseline", "Пёс"]
    assert table.column(0) == ["", "1", "", ""] and "0.9000" not in text
    assert 'id="frozen"' in text and "2022-10-03 12:00:00</time>" in text
    assert {path.name for path in (out / "public" / "teams").iterdir()} == {"1.html", "2.html", "4.html"}
    assert "0.9000" not in (out / "public" / "teams" / "4.html").read_text(encoding="utf-8")
    own = folders(out)
    assert "The team is disqualified." in (own["Лис"] / "index.html").read_text(encoding="utf-8")
    assert "0.9000" in (own["Пёс"] / "index.html").read_text(encoding="utf-8")
    ledger.database.engine.dispose()


def test_comparable_scores_have_no_marks(final: Path) -> None:
    for path in pages(final):
        text = path.read_text(encoding="utf-8").split("<main")[1]
        assert "not-comparable" not in text and 'class="sign"' not in text


def test_rules_say_what_season_toml_says(over: demo.Demo, final: Path) -> None:
    season, text = over.season, (final / "public" / "rules.html").read_text(encoding="utf-8")
    for day, clock in ((season.start, "00:00:00"), (season.end, "23:59:59"), (season.choose_until, "23:59:59")):
        assert f'datetime="{day}T{clock}+03:00">{day} {clock}</time>' in text
    (table,) = tables(final / "public" / "rules.html")
    assert table.column(2) == ["1/15"] * 6 + ["1/10"] * 6
    assert table.column(4) == [f"{season.thresholds[n]:.2f}" if n in season.thresholds else "–" for n in range(12)]
    assert [metric == "hidden" for metric in table.column(1)] == [False] * 6 + [True] * 6
    (verdicts,) = tables(final / "public" / "send.html")
    assert len(verdicts.rows) == len(TABLE)
    assert all((row[1][0] == "invalid") == (TABLE[row[0][0].split()[-1]].fault == "team") for row in verdicts.rows)


@pytest.mark.parametrize(
    ("contact", "shown"),
    [
        ("fbc@example.org", '<a href="mailto:fbc@example.org">fbc@example.org</a>'),
        ("https://example.org/chat?a=1&b=2", '<a href="https://example.org/chat?a=1&amp;b=2">'),
        ("javascript:alert(1)", "<bdi>javascript:alert(1)</bdi>"),
        ("<b>чат</b> @fbc", "<bdi>&lt;b&gt;чат&lt;/b&gt; @fbc</bdi>"),
    ],
)
def test_whom_to_ask_stands_on_every_page(tmp_path: Path, contact: str, shown: str) -> None:
    addresses = f'"Проба"\ncontact = "{contact}"\nrules_url = "https://example.org/r"\nboard_url = "https://x.org/b/"'
    ledger = write_small(tmp_path / "season", name=addresses)
    build(ledger, tmp_path / "site")
    for path in pages(tmp_path / "site"):
        text = path.read_text(encoding="utf-8")
        assert shown in text and '<a href="https://example.org/r">' in text
    (own,) = folders(tmp_path / "site").values()
    assert {"https://x.org/b/index.html#team-1", "https://x.org/b/rules.html"} <= links(own / "index.html").links


# --- what is not in it ---


def test_nobody_sees_logs_hidden_data_or_what_is_another_teams(
    over: demo.Demo, going: demo.Demo, final: Path, tmp_path: Path
) -> None:
    build(going.ledger, tmp_path / "site")
    for made, out in ((going, tmp_path / "site"), (over, final)):
        runs = made.season.folder / "runs"
        for secret in (demo.LOG, demo.TAIL):  # they were there to be copied
            assert any(secret in path.read_text(encoding="utf-8") for path in runs.glob("*/evaluator.log"))
        digests = [state.submission.digest for state in made.ledger.states()]
        key = (made.season.folder / "site.key").read_text(encoding="ascii")
        own = folders(out)
        count = 0
        for path in (path for path in out.rglob("*") if path.is_file()):
            text = path.read_text(encoding="utf-8")
            never = [demo.TRUTH, demo.LOG, demo.TAIL, "ТАЙНА", str(made.season.folder), made.season.url, key, *digests]
            assert [secret for secret in never if secret in text] == [], path
            assert demo.OURS not in text or path.parent.name == "organizer", path
            for team, folder in own.items():
                if folder not in path.parents:
                    assert demo.finding_of(team) not in text, path
                    assert folder.name not in text or path.parent.name == "organizer", path
                else:
                    count += demo.finding_of(team) in text
        assert count > 20


class _WithoutPrivate:
    """A ledger as it were without its private runs."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def snapshot(self) -> Snapshot:
        full = self._ledger.snapshot()
        public = {result.run for result in full.results(PUBLIC)}
        return dataclasses.replace(
            full,
            states=tuple(state for state in full.states if state.test_set == PUBLIC),
            events=tuple(event for event in full.events if event.test_set == PUBLIC),
            all_results={PUBLIC: full.results(PUBLIC), PRIVATE: []},
            all_scores={run: scores for run, scores in full.all_scores.items() if run in public},
        )


def test_private_results_are_the_organizers_until_they_are_published(
    over: demo.Demo, final: Path, tmp_path: Path
) -> None:
    build(over.ledger, tmp_path / "site")
    out = tmp_path / "site"
    scores = over.ledger.scores(over.ledger.results(PRIVATE))
    values = [repr(value) for of_run in scores.values() for value in of_run.values() if 0 < value < 1]
    values += [repr(result.total) for result in over.ledger.results(PRIVATE)]
    assert len(values) > 100
    for path in [*(out / "public").rglob("*.html"), *(out / "teams").rglob("*.html")]:
        text = path.read_text(encoding="utf-8")
        assert [value for value in values if value in text] == [] and "-private.html" not in text
    assert not list((out / "teams").rglob("*-private.html"))
    check_board(out / "organizer" / "private.html", over.ledger, PRIVATE)
    # However rounded: without any private run, what is not the organizer's is the same to the byte.
    build(cast(Ledger, _WithoutPrivate(over.ledger)), tmp_path / "without")
    pages_of = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (out, tmp_path / "without")
    ]
    assert pages_of[0].keys() == pages_of[1].keys()
    differ = {path.as_posix() for path, content in pages_of[0].items() if pages_of[1][path] != content}
    assert differ == {f"organizer/{name}.html" for name in ("index", "private", "prizes")}
    assert list((final / "teams").rglob("*-private.html"))


def test_the_private_board_is_not_published_while_teams_can_choose(going: demo.Demo, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="choices are open until"):
        build(going.ledger, tmp_path / "site", private=True)
    assert not (tmp_path / "site").exists() and list(tmp_path.iterdir()) == []


def test_a_private_board_that_waits_for_runs_is_preliminary(over: demo.Demo, going: demo.Demo, tmp_path: Path) -> None:
    later = Ledger(going.season, going.database, lambda _: going.now + timedelta(days=30))
    build(later, tmp_path / "site", private=True)
    missing = prizes.unfinished(later.snapshot())
    assert missing.private == sum(line.expected for line in board.lines(later, PRIVATE))
    page = (tmp_path / "site" / "public" / "private.html").read_text(encoding="utf-8")
    assert f"Preliminary: runs not done: private {missing.private}, public {missing.public}." in page
    build(over.ledger, tmp_path / "other", private=True)
    page = (tmp_path / "other" / "public" / "private.html").read_text(encoding="utf-8")
    stuck = prizes.unfinished(over.ledger.snapshot()).public  # all else is done
    assert f"Preliminary: runs not done: private 0, public {stuck}." in page and stuck > 0


def test_a_report_with_single_examples_is_not_handed_out(over: demo.Demo, tmp_path: Path) -> None:
    out = tmp_path / "site"
    build(over.ledger, out)
    done = [state for state in over.ledger.states() if state.verdict == "OK" and state.test_set == PUBLIC][:3]
    sources = [Store(over.season.folder).run(state.run) / "report.html" for state in done]
    contents = [source.read_bytes() for source in sources]
    (tmp_path / "elsewhere.html").write_bytes(contents[1])
    try:
        sources[0].write_bytes(contents[0].replace(b'"private":true', b'"private":false,"t":"\\"private\\":true"'))
        sources[1].unlink()
        sources[1].symlink_to(tmp_path / "elsewhere.html")
        sources[2].unlink()
        before = len(list(out.rglob("reports/*.html")))
        assert build(over.ledger, out).reports == before - 3
        for state in done:
            folder = folders(out)[state.submission.team]
            assert not (folder / "reports" / f"{state.submission.id}.html").exists()
            assert f"reports/{state.submission.id}.html" not in (folder / "index.html").read_text(encoding="utf-8")
    finally:
        for source, content in zip(sources, contents, strict=True):
            source.unlink(missing_ok=True)
            source.write_bytes(content)


# --- how it is replaced ---


def test_what_stays_the_same_stays_and_addresses_do(over: demo.Demo, tmp_path: Path) -> None:
    out = tmp_path / "site"
    build(over.ledger, out)
    before, addresses = {path: path.stat() for path in out.rglob("reports/*.html")}, folders(out)
    state = next(state for state in over.ledger.states() if state.verdict == "OK")
    source = Store(over.season.folder).run(state.run) / "report.html"
    content = source.read_bytes()
    source.write_bytes(content + b" ")
    try:
        build(over.ledger, out)
    finally:
        source.write_bytes(content)
    assert folders(out) == addresses
    changed = addresses[state.submission.team] / "reports" / f"{state.submission.id}.html"
    for path, stat_before in before.items():
        assert (path.stat().st_ino == stat_before.st_ino) == (path != changed)
    assert changed.read_bytes() == content + b" " and source.stat().st_nlink == 1


def test_readers_never_see_half_of_it(going: demo.Demo, tmp_path: Path) -> None:
    out = tmp_path / "site"
    build(going.ledger, out)
    page = folders(out)["Ёжики"] / "index.html"
    done = threading.Event()
    seen: list[str] = []

    def read() -> None:
        while not done.is_set():
            for path in (out / "public" / "index.html", page, out / "organizer" / "teams.json"):
                try:
                    seen.append(path.read_text(encoding="utf-8").rstrip()[-7:])
                except OSError as error:
                    seen.append(repr(error))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(4):
            build(going.ledger, out)
    finally:
        done.set()
        reader.join()
    assert len(seen) > 50 and {each[-1] for each in seen} <= {">", "]"}
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_a_kill_leaves_the_old_site_and_the_next_call_sweeps_up(going: demo.Demo, tmp_path: Path) -> None:
    out = tmp_path / "site [2022]"
    build(going.ledger, out)
    inode = out.stat().st_ino
    code = f"""
import os, sys
from evaluator.season.site import publish, usage
publish._swap = lambda *_: os.kill(os.getpid(), 9)
from evaluator.cli.app import main
main(["site", "--season", {str(going.season.path)!r}, "--out", {str(out)!r}])
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == -9
    (left,) = tmp_path.glob("*.building")
    assert (left / "public" / "index.html").exists() and out.stat().st_ino == inode
    build(going.ledger, out)
    assert not left.exists() and out.stat().st_ino != inode
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_one_call_at_a_time_writes_a_site(going: demo.Demo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "site"
    build(going.ledger, out)
    with publish.replacing(out) as folder:
        assert main(["site", "--season", str(going.season.path), "--out", str(out)]) == 2
        assert f"--out {out}: another call is writing it" in capsys.readouterr().err
        build(going.ledger, tmp_path / "other")  # which nobody is writing
        (folder / "новое.txt").write_text("ёж", encoding="utf-8")
    assert {path.name for path in out.iterdir()} == {"новое.txt", publish.MARK}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "site"]


def test_locks_are_on_files_that_are_open_for_writing_as_nfs_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(file: int | IO[bytes], operation: int) -> None:
        if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        lock(file, operation)

    lock = fcntl.flock
    monkeypatch.setattr("fcntl.flock", flock)
    store, left = Store(tmp_path), tmp_path / "submissions" / "incoming-x"
    left.parent.mkdir()
    left.write_bytes(b"PK")
    (tmp_path / "ёж.zip").write_bytes(b"PK")
    store.add(tmp_path / "ёж.zip", digest(tmp_path / "ёж.zip"))
    assert not left.exists()
    for _ in range(2):
        with publish.replacing(tmp_path / "site") as folder:
            (folder / "page").write_text("ёж", encoding="utf-8")
    assert (tmp_path / "site" / "page").exists()


def test_a_kill_between_two_renames_loses_no_site(tmp_path: Path) -> None:
    """Where folders cannot be exchanged; the next call fails, and still the old one is there again."""
    out = tmp_path / "site"
    with publish.replacing(out) as folder:
        (folder / "page").write_text("старая", encoding="utf-8")
    code = f"""
import os, pathlib
from evaluator.season.site import publish, usage
publish._exchange = lambda *_: False
rename = os.rename
def stop(source, target):
    rename(source, target)
    if str(target).endswith(publish._REPLACED):
        os.kill(os.getpid(), 9)
os.rename = stop
with publish.replacing(pathlib.Path({str(out)!r})) as folder:
    (folder / "page").write_text("новая", encoding="utf-8")
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == -9
    assert not out.exists()
    with pytest.raises(ZeroDivisionError), publish.replacing(out):
        raise ZeroDivisionError
    assert (out / "page").read_text(encoding="utf-8") == "старая"
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_a_failure_leaves_the_old_site(going: demo.Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "site"
    build(going.ledger, out)
    inode = out.stat().st_ino
    with pytest.raises(ZeroDivisionError), publish.replacing(out) as folder:
        (folder / "public").mkdir()
        raise ZeroDivisionError
    assert out.stat().st_ino == inode and [path.name for path in tmp_path.iterdir()] == ["site"]
    monkeypatch.setattr(publish, "_exchange", lambda *_: False)  # as on file systems that cannot
    build(going.ledger, out)
    assert out.stat().st_ino != inode and [path.name for path in tmp_path.iterdir()] == ["site"]


def test_only_a_site_is_replaced(
    going: demo.Demo, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ["site", "--season", str(going.season.path), "--out"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("Ёж", encoding="utf-8")
    (tmp_path / "file").write_text("Ёж", encoding="utf-8")
    for name in ("mine", "file", "file/site"):
        assert main([*common, str(tmp_path / name)]) == 2
        assert f"data error: --out {tmp_path / name}: " in capsys.readouterr().err
    assert (tmp_path / "mine" / "thesis.txt").read_text(encoding="utf-8") == "Ёж"
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    monkeypatch.chdir(tmp_path)
    assert main([*common, "link"]) == 0 and "link: 34 pages, " in capsys.readouterr().out
    assert (tmp_path / "link").is_symlink() and (tmp_path / "empty" / "public" / "index.html").exists()
    key = going.season.folder / "site.key"
    secret = key.read_bytes()
    try:
        key.write_bytes(secret[:10])
        assert main([*common, "link"]) == 2 and "is damaged" in capsys.readouterr().err
    finally:
        key.write_bytes(secret)


# --- machines ---


def events(*runs: tuple[str, str, str | None, str | None, str]) -> list[Event]:
    """Of runs: worker, queued, started, ended (times of 3 October, `+` of the next day, in UTC), end."""
    made = []

    def at(text: str) -> datetime:
        hours, minutes = text.lstrip("+").split(":")
        return datetime(2022, 10, 4 if text.startswith("+") else 3, int(hours), int(minutes), tzinfo=UTC)

    for number, (worker, queued, started, ended, end) in enumerate(runs, 1):
        made.append(Event(number, PUBLIC, "queued", at(queued), None, {}))
        if started:
            made.append(Event(number, PUBLIC, "running", at(started), None, {"worker": worker}))
        if ended:
            kind = end if end in schema.STEPS else "done"
            made.append(Event(number, PUBLIC, kind, at(ended), None if kind == end else end, {}))
    return made


def test_machine_use_by_hand() -> None:
    """In Moscow a day begins at 21:00 UTC."""
    happened = events(
        ("a:1", "10:00", "10:00", "12:00", "OK"),
        ("a:1", "10:00", "11:00", "12:00", "TIMEOUT"),
        ("a:2", "10:30", "12:00", "13:00", "lost"),
        ("head:7 on b.example", "20:00", "20:30", "22:30", "INFRA"),
        ("", "20:00", None, "20:10", "cancelled"),
        ("a:2", "22:00", "+00:00", None, ""),
        ("", "23:00", None, None, ""),
    )
    now = datetime(2022, 10, 4, 2, tzinfo=UTC)
    moscow = ZoneInfo("Europe/Moscow")
    used = usage.summarize(happened, [date(2022, 10, 3)] * 3, ("INFRA", "lost"), moscow, now)
    a, b = used.machines
    assert (a.name, a.processes, a.runs, a.lost, a.most) == ("a", 2, 4, 1, 2) and a.seconds == 6 * 3600
    assert a.mean == pytest.approx(6 / 16) and a.used == pytest.approx(3 / 16)  # from 10:00 to now
    assert (b.name, b.runs, b.seconds, b.mean) == ("b.example", 1, 7200, 1.0)
    first, second = used.days
    assert (first.day, first.sent, first.ended, first.failures) == (date(2022, 10, 3), 3, 4, 1)
    assert (first.seconds, first.most, first.longest, first.wait) == (4.5 * 3600, 2, 2, 2700)
    assert (second.day, second.sent, second.ended, second.failures) == (date(2022, 10, 4), 0, 1, 1)
    assert (second.seconds, second.most, second.longest, second.wait) == (3.5 * 3600, 1, 2, 7200)
    waits = used.waits[PUBLIC]
    assert (waits.count, waits.median, waits.longest) == (5, 3600, 7200) and used.seconds == 8 * 3600
    assert used.ends == {(end, PUBLIC): 1 for end in ("OK", "TIMEOUT", "lost", "INFRA", "cancelled")}


def test_what_runs_over_days_counts_on_each() -> None:
    happened = [
        Event(1, PUBLIC, "queued", NOON, None, {}),
        Event(1, PUBLIC, "running", NOON, None, {"worker": "a:1"}),
        Event(1, PUBLIC, "done", NOON + timedelta(days=3), "OK", {}),
    ]
    used = usage.summarize(happened, [], (), ZoneInfo("Europe/Moscow"), NOON + timedelta(days=9))
    assert [(day.seconds / 3600, day.most) for day in used.days] == [(12, 1), (24, 1), (24, 1), (12, 1)]
    assert usage.summarize([], [], (), ZoneInfo("UTC"), NOON).days == ()


# --- in Chromium ---


class Browser(Tab):
    def open(
        self, page: Path | str, width: int = DESK, scheme: str = "light", language: str | None = "en"
    ) -> "Browser":
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        # Stored by the page's own process before its scripts read it: under file:// another's may never arrive.
        stored = f"localStorage.setItem('language', '{language}')" if language else "localStorage.clear()"
        before = self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": stored})
        self.driver.get_log("browser")
        try:
            self.driver.get(page if isinstance(page, str) else page.as_uri())
        finally:
            self.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", before)
        return self

    def column(self, number: int, table: str = "table.board") -> list[str]:
        rows = "[...document.querySelectorAll(arguments[0] + ' tbody tr')]"
        script = f"return {rows}.map(row => row.cells[arguments[1]].innerText)"
        return [text.strip() for text in self.run(script, table, number)]


NAMED = """
const named = [...document.querySelectorAll("[aria-labelledby]")].map(e => e.getAttribute("aria-labelledby"));
return named.length > 0 && named.every(id => document.getElementById(id).textContent.trim());
"""
UNIQUE = """
const ids = [...document.querySelectorAll("[id]")].map(e => e.id);
return new Set(ids).size === ids.length;
"""
SMALLEST = """
const heights = [...document.querySelectorAll(".plot text")].map(t => t.getBoundingClientRect().height);
return Math.min(99, ...heights.filter(height => height > 0));
"""


@pytest.fixture
def browser(driver: Any) -> Browser:
    return Browser(driver)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        """Nothing."""


@pytest.fixture
def served(final: Path) -> Iterator[str]:
    """The address of the public folder on a web server, as readers have it.

    There Chromium's pages share what one has stored; under file:// the next page sometimes never sees it.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(final / "public")))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def kinds(out: Path) -> list[Path]:
    """A page of each kind, and those of the teams whose names are made to harm."""
    own = folders(out)
    hostile = [own[name] / "index.html" for name in (demo.NAMES[1], demo.NAMES[2], demo.NAMES[3], demo.NAMES[6])]
    names = ("index", "rules", "send", "private", "prizes", "teams/1", "teams/12")
    return [*(out / "public" / f"{name}.html" for name in names), out / "organizer" / "index.html", *hostile]


@pytest.mark.parametrize(("width", "scheme"), [(PHONE, "light"), (PHONE, "dark"), (DESK, "light"), (DESK, "dark")])
def test_every_page_loads_cleanly_fits_and_asks_the_network_for_nothing(
    browser: Browser, final: Path, width: int, scheme: str
) -> None:
    for path in kinds(final):
        browser.open(path, width, scheme)
        assert browser.log == [], path
        assert browser.run("return document.documentElement.scrollWidth") <= width, path
        assert browser.run("return performance.getEntriesByType('resource').length") == 0
        assert browser.run("return [window.hacked ?? null, document.scripts.length, document.images.length]") == [
            None,
            1,
            0,
        ]
        background = browser.run("return getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", background))) < 200) == (scheme == "dark")
        levels = browser.run("return [...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
        assert levels[0] == 1 and all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
        assert browser.run(NAMED) and browser.run(UNIQUE)
        assert browser.run(SMALLEST) > 10, path  # words of charts stay readable on a phone


def test_names_are_shown_as_they_are(browser: Browser, final: Path) -> None:
    browser.open(final / "public" / "index.html")
    shown = browser.column(1)
    assert set(demo.NAMES[:11]) <= set(shown)
    browser.open(folders(final)[demo.NAMES[2]] / "index.html")
    assert browser.one("h1").text == demo.NAMES[2] and browser.driver.title.startswith(demo.NAMES[2])


def test_tables_sort_by_keyboard_and_say_so(browser: Browser, final: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.open(final / "public" / "index.html")
    heads = browser.driver.find_elements("css selector", ".board thead th")
    assert heads[0].get_attribute("aria-sort") == "ascending"
    score = heads[2].find_element("css selector", "button")
    score.send_keys(Keys.ENTER)
    waiting = browser.column(2).count("")  # teams without a result stand below, whatever the order
    assert waiting > 0
    totals = [float(text) for text in browser.column(2)[:-waiting]]
    assert totals == sorted(totals, reverse=True) and heads[2].get_attribute("aria-sort") == "descending"
    assert heads[0].get_attribute("aria-sort") is None
    score.send_keys(Keys.SPACE)
    totals = [float(text) for text in browser.column(2)[:-waiting]]
    assert totals == sorted(totals) and heads[2].get_attribute("aria-sort") == "ascending"
    heads[1].find_element("css selector", "button").click()
    names = [name for name in browser.column(1) if name != "Baseline"]
    assert names.index("Команда 0") < names.index("Команда 1") and names.index("Ёжики") < names.index("Лис")
    assert browser.column(1)[-1] == "Baseline"  # what has no value stands below
    heads[0].find_element("css selector", "button").click()
    ranks = browser.column(0)
    assert ranks == [*(str(rank) for rank in range(1, len(ranks) - waiting)), *[""] * (1 + waiting)]
    heads[5].find_element("css selector", "button").click()  # a task; its marks stand before numbers
    scores = [float(text.split()[-1]) for text in browser.column(5)[:-waiting]]
    assert scores == sorted(scores, reverse=True) and browser.log == []


ROWS = "[...document.querySelectorAll('.board tbody tr')].filter(row => row.getClientRects().length)"


def test_a_long_board_is_folded_and_searched(browser: Browser, crowd: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    page = crowd / "public" / "index.html"
    browser.open(page)
    ranks = browser.column(0)
    assert len(ranks) == 71 and ranks[0] == "1"
    shown = browser.run(f"return {ROWS}.map(row => row.cells[0].textContent)")
    assert shown == ranks[:50] + [""] * (browser.column(1).index("Baseline") >= 50)
    browser.driver.find_elements("css selector", ".board thead button")[0].click()  # the last first: folded, too
    assert browser.run(f"return {ROWS}.length") in (50, 51)
    browser.one(".more label").click()
    assert browser.run(f"return {ROWS}.length") == 71
    browser.one(".search input").send_keys("ЕЖИ")
    assert browser.run(f"return {ROWS}.map(row => row.cells[1].innerText)") == ["Ёжики"]
    rank = browser.run(f"return {ROWS}[0].cells[0].textContent")
    assert rank == next(row[0][0] for row in tables(page)[-1].rows if row[1][0] == "Ёжики")
    assert browser.one(".found").text == "1 / 70" and not browser.one(".more").is_displayed()
    browser.one(".search input").send_keys("@")
    assert browser.run(f"return {ROWS}.length") == 0 and browser.one(".found").text == "0 / 70"
    browser.one(".search input").send_keys(Keys.BACKSPACE * 4)
    assert browser.run(f"return {ROWS}.length") == 71 and browser.log == []
    last = tables(page)[-1].rows[-1][1][0]  # a link to a row below the fold shows it
    browser.open(f"{page.as_uri()}#team-{links_of(page, last)}")
    assert last in browser.run(f"return {ROWS}.map(row => row.cells[1].innerText)")


def links_of(page: Path, team: str) -> int:
    """The number of a team, as the board links to it."""
    found = re.search(
        rf'teams/(\d+)\.html"><bdi>{re.escape(html.escape(team))}</bdi>', page.read_text(encoding="utf-8")
    )
    assert found is not None
    return int(found[1])


def test_a_boards_head_and_last_column_stay_in_sight(browser: Browser, crowd: Path) -> None:
    browser.open(crowd / "public" / "index.html", 1280)
    right = "return document.querySelector('.board thead th:last-child').getBoundingClientRect().right"
    assert browser.run(right) <= 1280
    browser.run("document.querySelector('.board tbody tr:nth-child(40)').scrollIntoView()")
    head = "return document.querySelector('.board thead th').getBoundingClientRect().top"
    assert browser.run("return scrollY") > 1000 and browser.run(head) == 0
    browser.open(crowd / "public" / "index.html", PHONE)
    browser.run("document.querySelector('.board-box').scrollTo(200, 600)")
    corner, box = (
        browser.run(f"const r = document.querySelector('{name}').getBoundingClientRect(); return [r.left, r.top]")
        for name in (".board thead th", ".board-box")
    )
    assert [round(a - b) for a, b in zip(corner, box, strict=True)] == [1, 1]  # the box's border


def test_on_a_phone_a_run_shows_verdict_score_and_what_to_do_first(
    browser: Browser, final: Path, over: demo.Demo
) -> None:
    seen = 0
    place = "const r = arguments[0].getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]"
    for folder in list(folders(final).values())[:3]:
        browser.open(folder / "index.html", PHONE)
        for row in browser.driver.find_elements("css selector", ".runs tbody tr"):
            cells = {
                name: browser.run(place, row.find_element("css selector", f".{name}"))
                for name in ("verdict", "score", "todo", "id", "file")
            }
            assert all(0 <= left and right <= PHONE for left, _, right, _ in cells.values())
            assert cells["verdict"][1] < min(cells["id"][1], cells["file"][1])
            if row.find_element("css selector", ".todo").text:
                seen += 1
                assert cells["verdict"][3] <= cells["todo"][1] and cells["todo"][3] <= cells["id"][1]
    assert seen > 5


def test_deadlines_are_in_the_readers_time_too(browser: Browser, final: Path) -> None:
    try:
        for zone, local in (("Asia/Vladivostok", "3 Oct 2022, 06:59:59"), ("Europe/Moscow", None)):
            browser.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": zone})
            browser.open(final / "public" / "index.html")
            shown = browser.one(".until").text
            assert "2022-10-02 23:59:59" in shown and "Europe/Moscow, UTC+03:00" in shown
            assert (f"your time: {local}" in shown) if local else ("your time" not in shown)
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": ""})


def test_language_is_the_browsers_then_the_readers(browser: Browser, final: Path, served: str) -> None:
    for locale, heading in (("ru-RU", "Публичная таблица"), ("de", "Public board")):
        browser.driver.execute_cdp_cmd(
            "Network.setUserAgentOverride", {"userAgent": "Chromium", "acceptLanguage": locale}
        )
        browser.open(f"{served}/index.html", language=None)
        assert browser.one("h1").text == heading and browser.driver.title.startswith(heading)
        assert browser.run("return document.documentElement.lang") == ("ru" if locale == "ru-RU" else "en")
    browser.one("label[for=ru]").click()
    assert browser.one("h1").text == "Публичная таблица" and "28 сен" in browser.one(".plot").text
    browser.driver.get(f"{served}/prizes.html")
    assert browser.one("h1").text == "Призы" and browser.run("return document.documentElement.lang") == "ru"
    assert not re.search("[a-z]{4,} [a-z]{4,}", browser.one("main").text.replace("window", ""))  # no English left
    for path in kinds(final):
        text = browser.open(path).one("main").text
        for own in (*demo.NAMES, *(f"Команда {number}" for number in range(5)), "<b>решение</b>"):
            text = text.replace(own, "")
        assert re.findall("[а-яё]+", text) == [] and browser.log == [], path


def test_without_scripts_it_is_russian_and_can_be_english(browser: Browser, final: Path, crowd: Path) -> None:
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.driver.get((final / "public" / "index.html").as_uri())
        assert browser.one("h1").text == "Публичная таблица"
        browser.one("label[for=en]").click()
        assert browser.one("h1").text == "Public board" and "Baseline" in browser.one(".board").text
        assert browser.driver.find_elements("css selector", "thead button") == []  # nothing that would do nothing
        assert not browser.one(".search").is_displayed()
        browser.driver.get((crowd / "public" / "index.html").as_uri())
        assert not browser.driver.find_elements("css selector", ".board tr")[60].is_displayed()
        browser.one(".more label").click()
        assert browser.driver.find_elements("css selector", ".board tr")[60].is_displayed()
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_policy_stops_scripts_styles_and_the_network(browser: Browser, final: Path) -> None:
    browser.open(final / "public" / "index.html")
    browser.run(
        """
        const script = document.createElement("script"), style = document.createElement("style");
        script.textContent = "window.hacked = 1";
        style.textContent = "body { display: none }";
        const image = document.createElement("img");
        image.src = "http://127.0.0.1:9/leak";
        document.body.append(script, style, image);
        """
    )
    assert browser.run("return window.hacked ?? null") is None
    assert browser.run("return getComputedStyle(document.body).display") == "block"
    log = " ".join(browser.log)
    assert all(directive in log for directive in ("script-src", "style-src", "img-src"))


def test_charts_say_the_same_in_words(browser: Browser, final: Path) -> None:
    browser.open(final / "public" / "prizes.html")
    assert browser.run("return [...document.querySelectorAll('svg')].every(s => s.closest('[aria-hidden=true]'))")
    captions = "[...document.querySelectorAll('figure')].map(f => f.querySelector('figcaption').textContent.trim())"
    assert browser.run(f"return {captions}.every(text => text)")
