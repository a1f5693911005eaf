"""How the service makes pages: the site's templates and its own, addresses, files, what every page has around it."""

import hashlib
import mimetypes
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse

from evaluator.reports.rendering import style_sheet, templates
from evaluator.season.config import Season
from evaluator.season.ledger import Snapshot
from evaluator.season.site.pages import EVERYBODYS, FINAL, TEMPLATES, TITLES, Link, Page, Pages, prepare, render
from evaluator.web.access import Caller
from evaluator.web.problems import not_found
from evaluator.web.watching import Watch

_FOLDER = Path(__file__).parent
_FOREVER = "public, max-age=31536000, immutable"
_PATHS = {"board": "/", "own": "/team", "team": "/teams"}
ORGANIZERS: Link = ("/organizer", "Организатору", "Organizers")


def href(name: str, number: int | None = None) -> str:
    """The address of a page, as `pages.Href`."""
    path = _PATHS.get(name, f"/{name}")
    return path if number is None or name == "own" else f"{path}/{number}"


class Static:
    """The files that pages load, by name. All have the digest of all in their addresses, so that browsers keep them for
    good, and modules find one another beside themselves.
    """

    def __init__(self) -> None:
        folder = _FOLDER / "static"
        paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        self.files = {name: path.read_bytes() for name, path in sorted(paths.items())}
        self.files |= {name: (TEMPLATES / name).read_bytes() for name in ("site.css", "site.js")}
        self.files["style.css"] = style_sheet().encode()
        found = hashlib.sha256()
        for name, content in self.files.items():
            found.update(f"{name} {len(content)} ".encode() + content)
        self.digest = found.hexdigest()[:16]

    def __call__(self, name: str) -> str:
        """The address of a file."""
        assert name in self.files, name
        return f"/static/{self.digest}/{name}"


class Site:
    """The service's pages, of what `watch` sees."""

    def __init__(self, season: Season, watch: Watch) -> None:
        self.static, self._season, self._watch = Static(), season, watch
        self._jinja = templates(
            _FOLDER / "templates",
            TEMPLATES,
            styles=[self.static(name) for name in ("style.css", "site.css", "web.css")],
            scripts=[self.static("site.js")],
        )
        prepare(self._jinja, season)
        self._jinja.globals["static"] = self.static
        self._pages: Pages | None = None

    def pages(self, team: int | None = None) -> Pages:
        """All pages of the season as it is now, with this team. Blocking."""
        seen = self._watch.see()
        if team is not None and all(each.id != team for each in seen.snapshot.teams):  # it was added a moment ago
            self._watch.renew()
            seen = self._watch.see()
        return self.pages_of(seen.snapshot)

    def pages_of(self, snapshot: Snapshot) -> Pages:
        """The same of a snapshot, the newest one."""
        pages = self._pages
        if pages is None or pages.snapshot is not snapshot:
            self._pages = pages = Pages(snapshot, snapshot.private_shown, self._watch.spent)
        return pages

    def address(self, request: Request) -> str:
        """Where browsers find the service, without a slash at its end."""
        return self._season.web_url or str(request.base_url).rstrip("/")

    def respond(
        self, caller: Caller, page: Page, here: str, status: int = 200, template: str | None = None, **more: Any
    ) -> Response:
        """Send a page, at the address `here` among the links; `more` is for its template, which may be another one that
        extends the page's. With `live`, an address and a stamp, it renews itself. Blocking.
        """
        page = replace(page, template=template or page.template)
        values = {"me": caller.team and caller.team.name, "caller": caller, "modules": ()} | more
        text = render(self._jinja, page, href, self._links(caller), here, **values)
        return HTMLResponse(text, status)

    def _links(self, caller: Caller) -> Sequence[Link]:
        pages = self._pages or self.pages()
        names = (*EVERYBODYS, *(FINAL if caller.is_organizer or pages.shows_private else ()))
        links = [(href(name), *TITLES[name]) for name in names]
        if caller.is_organizer:
            return [ORGANIZERS, *links]
        return [(href("own"), *TITLES["own"]), *links] if caller.team else links


def the_site(request: Request) -> Site:
    """The service's pages."""
    site: Site = request.app.state.site
    return site


TheSite = Annotated[Site, Depends(the_site)]

router = APIRouter(include_in_schema=False)


@router.get("/static/{digest}/{name:path}")
def static(digest: str, name: str, site: TheSite) -> Response:
    """A file that pages load; one of another version of the service is none."""
    content = site.static.files.get(name)
    if content is None or digest != site.static.digest:
        raise not_found("such file")
    kind = mimetypes.guess_type(name)[0] or "text/plain"
    kind = "text/javascript" if name.endswith(".js") else kind
    headers = {"Cache-Control": _FOREVER, "Content-Type": f"{kind}; charset=utf-8"}
    return Response(content, headers=headers)
