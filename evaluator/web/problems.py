"""How what went wrong is told: RFC 9457 for programs, a page for people."""

import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from starlette.exceptions import HTTPException

from evaluator.core.errors import DataError, EvaluatorError
from evaluator.season.ledger import Refused

logger = logging.getLogger(__name__)

API = "/api/"  # begins the paths that programs call
AWAY_SECONDS = 5  # that a caller is asked to wait for a database that does not answer
MEDIA_TYPE = "application/problem+json"

Render = Callable[[Request, "Problem"], Response]


class Problem(Exception):
    """An answer that is not what was asked for. `detail` is a line for people; `extra` are further members of the
    document, `headers` go with it.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers, self.extra = status, detail, dict(headers or {}), extra

    @property
    def title(self) -> str:
        """What the status means."""
        try:
            return HTTPStatus(self.status).phrase
        except ValueError:  # one of tus's own
            return self.detail

    def to_json(self) -> dict[str, Any]:
        """The document of RFC 9457."""
        return {"type": "about:blank", "title": self.title, "status": self.status, "detail": self.detail} | self.extra


def not_found(what: str) -> Problem:
    """Also of what is there and is another's: nobody can tell the two apart."""
    return Problem(404, f"there is no {what}")


def of_error(error: EvaluatorError) -> Problem:
    """What the library raised. What is our own failure is not told to who calls."""
    if isinstance(error, Refused):
        return Problem(409, error.reasons[0], reasons=error.reasons)
    if error.verdict.fault == "team":
        findings = [finding.to_json() for finding in error.findings]
        return Problem(422, error.reasons[0], verdict=error.verdict.name, fix=error.verdict.fix, findings=findings)
    if isinstance(error, DataError):
        return Problem(400, error.reasons[0], reasons=error.reasons)
    logger.error("the service failed", exc_info=error)
    return Problem(500, "the service failed; the organizers' log says why")


def install(app: FastAPI, render: Render | None = None) -> None:
    """Have `app` tell all failures so; `render` makes the page of one, where a person called."""

    def tell(request: Request, problem: Problem) -> Response:
        if render is not None and not request.url.path.startswith(API):
            if problem.status == 503:  # a page needs the database
                return PlainTextResponse(problem.detail, problem.status, problem.headers)
            return render(request, problem)
        return JSONResponse(problem.to_json(), problem.status, problem.headers, MEDIA_TYPE)

    def problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return tell(request, error)

    def library(request: Request, error: Exception) -> Response:
        assert isinstance(error, EvaluatorError)
        return tell(request, of_error(error))

    def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        detail = error.detail if error.detail != HTTPStatus(error.status_code).phrase else _what(error.status_code)
        return tell(request, Problem(error.status_code, detail, error.headers))

    def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults = [{"where": ".".join(map(str, fault["loc"])), "found": fault["msg"]} for fault in error.errors()]
        first = f"{faults[0]['where']}: {faults[0]['found']}" if faults else _what(422)
        return tell(request, Problem(422, first, faults=faults))

    def away(request: Request, error: Exception) -> Response:
        assert isinstance(error, DBAPIError)
        logger.warning("the database does not answer: %s", " ".join(str(error.orig).split()))
        said = "the service's database does not answer; try again in a moment"
        return tell(request, Problem(503, said, {"Retry-After": f"{AWAY_SECONDS}"}))

    def unexpected(request: Request, error: Exception) -> Response:
        return tell(request, Problem(500, "the service failed; the organizers' log says why"))

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(EvaluatorError, library)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    for kind in (OperationalError, InterfaceError):
        app.add_exception_handler(kind, away)
    app.add_exception_handler(Exception, unexpected)


def _what(status: int) -> str:
    return {
        404: "there is no such page",
        405: "this address does not take such a request",
        422: "the request is not as it must be",
    }.get(status, HTTPStatus(status).phrase.lower())
