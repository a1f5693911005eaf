"""The season's static site: pages for everybody, for each team, and for the organizer alone.

    build(ledger, out, private=False) -> Built

Below `out`, each to be handed to others on its own:

    public/                    the public board, the rules, how to send, each team's best results (teams/NUMBER.html);
                               with `private` the private board and the prizes, too
    teams/<token>/             a team's page: its runs, verdicts, what to mend, reports; nothing of other teams' runs
    organizer/                 queue, machine use, private board and prizes as they stand, teams.json (the tokens)

A token is made of the team's number and of site.key, a secret in the season's folder, so it stays and tells nothing.
Every page is whole in itself, with style and script in it, and allows nothing else by its Content-Security-Policy. The
site is built in a folder beside `out` and swapped with it at once.
"""

import hmac
import json
import os
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluator.core.errors import DataError
from evaluator.reports.rendering import environment
from evaluator.season import PRIVATE
from evaluator.season.ledger import Ledger, Refused, RunState
from evaluator.season.site import publish, team_reports
from evaluator.season.site.pages import EVERYBODYS, FINAL, TEMPLATES, TITLES, Link, Page, Pages, prepare, render

KEY = "site.key"
_PUBLIC, _ORGANIZER, _TEAMS = "public/", "organizer/", "teams/"


@dataclass(frozen=True)
class Built:
    """How many pages and reports the site has."""

    pages: int
    reports: int


def build(ledger: Ledger, out: Path, private: bool = False) -> Built:
    """Write the site into the folder `out`, which is new, empty or of an earlier call; a reader, or a kill at any
    moment, finds the site before or the one after. With `private` everybody sees the private board and the prizes, and
    teams their private results.

    Raises `Refused` for `private` while teams can still choose, `DataError` where `out` is something else.
    """
    snapshot = ledger.snapshot()
    season = snapshot.season
    if private and season.day(snapshot.now) <= season.choose_until:
        raise Refused(f"choices are open until {season.choose_until}, so the private board is not to be shown yet")
    out = Path(os.path.realpath(out))
    try:
        with publish.replacing(out) as folder:
            return _Site(Pages(snapshot, private), folder, out, publish.key(season.folder / KEY)).write()
    except OSError as error:
        raise DataError(f"--out {out}: the site cannot be written: {error.strerror}: {error.filename}") from None


@dataclass(frozen=True)
class _Files:
    """Addresses of the site's files for the page in `here`, so that links lead wherever the folders are put. `tokens`
    are those of the teams by number, `board_url` is where public/ is for teams, if that is known.
    """

    here: str
    tokens: Mapping[int, str]
    board_url: str | None

    def __call__(self, name: str, number: int | None = None) -> str:
        path = self.path(name, number)
        if self.board_url and self.here.startswith(_TEAMS) and path.startswith(_PUBLIC):
            return f"{self.board_url.rstrip('/')}/{path.removeprefix(_PUBLIC)}"
        return posixpath.relpath(path, posixpath.dirname(self.here))

    def path(self, name: str, number: int | None = None) -> str:
        """Below the site's folder."""
        if name == "own":
            return self.here if number is None else f"{_TEAMS}{self.tokens[number]}/index.html"
        if name == "team":
            return f"{_PUBLIC}teams/{number}.html"
        is_secret = name == "organizer" or (name in FINAL and self.here.startswith(_ORGANIZER))
        file = "index" if name in ("board", "organizer") else name
        return f"{_ORGANIZER if is_secret else _PUBLIC}{file}.html"

    def links(self, names: Iterable[str]) -> list[Link]:
        return [(self(name), *TITLES[name]) for name in names]


class _Site:
    """One building of the site into `folder`; `out` has the site before, whose reports are taken over."""

    def __init__(self, pages: Pages, folder: Path, out: Path, key: bytes) -> None:
        self._pages, self._folder, self._out = pages, folder, out
        self._teams = pages.snapshot.teams
        self._tokens = {
            team.id: hmac.new(key, f"team {team.id}".encode(), "sha256").hexdigest()[:32] for team in self._teams
        }
        self._jinja = environment("site.css", "site.js", TEMPLATES)
        prepare(self._jinja, pages.season)
        self._built = {"pages": 0, "reports": 0}

    def write(self) -> Built:
        pages = self._pages
        public = (*EVERYBODYS, *(FINAL if pages.shows_private else ()))
        self._write(_PUBLIC + "index.html", pages.board(), public)
        self._write(_PUBLIC + "rules.html", pages.rules(), public)
        self._write(_PUBLIC + "send.html", pages.send(), public)
        for team in pages.teams:
            self._write(f"{_PUBLIC}teams/{team.id}.html", pages.public_team(team), public)
        if pages.shows_private:
            self._write(_PUBLIC + "private.html", pages.private(), public)
            self._write(_PUBLIC + "prizes.html", pages.prizes(), public)
        own = ("organizer", *FINAL)
        board: Link = (self._files(_ORGANIZER)("board"), "Публичная таблица", "Public board")
        self._write(_ORGANIZER + "private.html", pages.private(secret=True), own, board)
        self._write(_ORGANIZER + "prizes.html", pages.prizes(secret=True), own, board)
        self._write(_ORGANIZER + "index.html", pages.organizer(self._tokens), own, board)
        named = [{"number": team.id, "team": team.name, "folder": self._tokens[team.id]} for team in self._teams]
        text = json.dumps(named, ensure_ascii=False, indent=1) + "\n"
        (self._folder / _ORGANIZER / "teams.json").write_text(text, encoding="utf-8")
        self._write_teams()
        return Built(**self._built)

    def _write_teams(self) -> None:
        (self._folder / _TEAMS).mkdir()
        (self._folder / _TEAMS / "index.html").write_text("<!doctype html><title>–</title>\n", encoding="utf-8")
        for team in self._teams:
            if team.into is not None:  # what it sent is the other team's now
                continue
            folder = _TEAMS + self._tokens[team.id]

            def report(state: RunState, folder: str = folder) -> str | None:
                """In the team's folder, by its address there."""
                name = f"reports/{state.submission.id}{'-private' if state.test_set == PRIVATE else ''}.html"
                run = self._pages.results_of(state.run, state.test_set)
                if not team_reports.hand_out(run, self._out / folder / name, self._folder / folder / name):
                    return None
                self._built["reports"] += 1
                return name

            self._write(f"{folder}/index.html", self._pages.team(team, report), ("own", *EVERYBODYS))

    def _files(self, here: str) -> _Files:
        return _Files(here, self._tokens, self._pages.season.board_url)

    def _write(self, path: str, page: Page, names: Sequence[str], *more: Link) -> None:
        """Write a page, with links to the pages `names` and to `more`."""
        target, href = self._folder / path, self._files(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        links = [*href.links(names), *more]
        target.write_text(render(self._jinja, page, href, links, target.name), encoding="utf-8")
        self._built["pages"] += 1
