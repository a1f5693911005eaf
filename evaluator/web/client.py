"""Sends a ZIP to a season's service from a team's machine, and follows what becomes of it.

Nothing is remembered here: which upload goes on, and from which byte, the service says, so that it does not matter what
ended the one before. Needs none of a season's packages.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
from pydantic import ValidationError

from evaluator.core.errors import DataError, EvaluatorError, SubmissionError, show
from evaluator.core.verdict import BAD_ZIP, REFUSED_EXIT_CODE
from evaluator.web import protocol
from evaluator.web.protocol import CHECKING, CHECKSUM_MISMATCH, RECEIVING, Upload

PATIENCE_SECONDS = 15 * 60.0  # without a byte that came through
LONGEST_PAUSE = 30.0  # seconds between two tries
ASK_SECONDS = 2.0  # between two looks at what becomes of it
_TIMEOUT = httpx2.Timeout(60.0, connect=15.0)
_CHUNK = 1 << 18
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

Say = Callable[[str], None]


class RefusedHere(DataError):
    """The season's rules do not allow it."""

    @property
    def exit_code(self) -> int:
        """As of a command for organizers."""
        return REFUSED_EXIT_CODE


class _Broken(Exception):
    """A line that broke, or a service that has to come back: to be tried again."""


class _Answer(Exception):
    """An answer that is not what was asked for."""

    def __init__(self, answer: httpx2.Response) -> None:
        self.status = answer.status_code
        try:
            document = answer.json()
            self.detail = str(document["detail"])
        except (ValueError, KeyError, TypeError):
            phrase = HTTPStatus(self.status).phrase if self.status in list(HTTPStatus) else ""
            self.detail = f"{self.status} {phrase}".strip()
        super().__init__(self.detail)


@dataclass(frozen=True)
class Parcel:
    """A ZIP to send; `size` in bytes, `digest` its SHA-256."""

    path: Path
    size: int
    digest: str


def parcel(path: Path) -> Parcel:
    """A ZIP that lies here. Raises `DataError` where it cannot be read."""
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return Parcel(path, file.tell(), digest)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


class Client:
    """A season's service at `url`, for the team that `token` is of. `say` gets lines for people.

    The methods raise `DataError` for a wrong address or token, `EvaluatorError` where the service cannot be reached or
    does not work, `RefusedHere`, and `SubmissionError` for a ZIP that is too large.
    """

    def __init__(self, url: str, token: str, say: Say) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise DataError(f"{show(url)} must be an address such as https://season.example")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            say(f"note: {url} is no https address: whoever is on the way can read your token")
        self._url, self._say = url.rstrip("/"), say
        self._http = httpx2.Client(headers={"Authorization": f"Bearer {token}"}, timeout=_TIMEOUT)
        self._since = time.monotonic()  # something came through last
        self._pause = 0.0
        self._is_known = False  # whether the service ever answered

    def close(self) -> None:
        """End the connections."""
        self._http.close()

    def season(self) -> dict[str, Any]:
        """The season's rules: `name`, `max_zip`, `max_unpacked` and more."""
        return self._get(f"{protocol.API}/season")

    def attempts(self) -> dict[str, Any] | None:
        """The team's attempts of today."""
        found: dict[str, Any] | None = self._get(f"{protocol.API}/me").get("attempts")
        return found

    def submission(self, number: int) -> dict[str, Any]:
        """One of the team's submissions, as it stands."""
        return self._get(f"{protocol.API}/submissions/{number}")

    def send(self, parcel: Parcel, moved: Callable[[int], None]) -> Upload:
        """Send a ZIP, from where it was interrupted, and wait for what comes of it. `moved` is told how many bytes the
        service has.
        """
        self._came_through()  # hashing took its time
        while True:
            upload = self._create(parcel)
            try:
                while upload.state in (RECEIVING, CHECKING):
                    if upload.state == RECEIVING:
                        self._send_rest(parcel, upload, moved)
                    else:
                        time.sleep(ASK_SECONDS)
                    upload = self._upload("GET", f"{protocol.UPLOADS}/{upload.id}", protocol.WAITING)
                moved(upload.offset)
                return upload
            except _Answer as answer:
                if answer.status != HTTPStatus.NOT_FOUND:
                    raise EvaluatorError(f"{self._url}: {answer.detail}") from None
                self._failed("the upload is not there any more, it begins again")

    def _create(self, parcel: Parcel) -> Upload:
        name = parcel.path.name.encode("utf-8", "replace")
        pairs = {protocol.NAME_KEY: name, protocol.DIGEST_KEY: parcel.digest.encode()}
        headers = {
            protocol.UPLOAD_LENGTH: str(parcel.size),
            protocol.UPLOAD_METADATA: protocol.metadata(pairs),
        }
        try:
            return self._upload("POST", protocol.UPLOADS, headers)
        except _Answer as answer:
            if answer.status == HTTPStatus.CONFLICT:
                raise RefusedHere(answer.detail) from None
            if answer.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                raise SubmissionError(BAD_ZIP, answer.detail) from None
            raise EvaluatorError(f"{self._url}: {answer.detail}") from None

    def _upload(self, method: str, path: str, headers: dict[str, str] | None = None) -> Upload:
        try:
            return Upload.model_validate_json(self._call(method, path, headers).content)
        except ValidationError:
            raise EvaluatorError(f"{self._url} is no season's service, or one of another version") from None

    def _send_rest(self, parcel: Parcel, upload: Upload, moved: Callable[[int], None]) -> None:
        """Send the pieces that are missing. Raises `_Answer`."""
        place, offset = f"{protocol.UPLOADS}/{upload.id}", upload.offset
        while offset < parcel.size:
            moved(offset)
            try:
                answer = self._ask("PATCH", place, *self._piece(parcel, offset, moved))
            except _Broken as broken:
                self._failed(str(broken))
            except _Answer as wrong:
                if wrong.status not in (HTTPStatus.CONFLICT, CHECKSUM_MISMATCH):
                    raise
                self._failed(wrong.detail)
            else:
                self._came_through()
                offset = self._offset(answer)
                continue
            before, offset = offset, self._offset(self._call("HEAD", place))
            if offset > before:
                self._came_through()
        moved(offset)

    def _piece(
        self, parcel: Parcel, offset: int, moved: Callable[[int], None]
    ) -> tuple[dict[str, str], Iterator[bytes]]:
        """The headers and the bytes of the next piece."""
        end = min(parcel.size, offset + protocol.PIECE_BYTES)
        counted = hashlib.sha256()
        for chunk in _read(parcel.path, offset, end):
            counted.update(chunk)
        headers = {
            protocol.UPLOAD_OFFSET: str(offset),
            protocol.UPLOAD_CHECKSUM: protocol.checksum("sha256", counted.digest()),
            "Content-Type": protocol.OFFSET_TYPE,
            "Content-Length": str(end - offset),
        }

        def sent() -> Iterator[bytes]:
            done = offset
            for chunk in _read(parcel.path, offset, end):
                yield chunk
                done += len(chunk)
                moved(done)

        return headers, sent()

    def _offset(self, answer: httpx2.Response) -> int:
        try:
            return int(answer.headers[protocol.UPLOAD_OFFSET])
        except (KeyError, ValueError):
            raise EvaluatorError(f"{self._url} does not say how many bytes have come") from None

    # --- calls ---

    def _get(self, path: str) -> dict[str, Any]:
        try:
            document = self._call("GET", path).json()
        except _Answer as answer:
            if answer.status == HTTPStatus.NOT_FOUND:
                raise DataError(f"{self._url}: {answer.detail}; is this the address of a season?") from None
            raise EvaluatorError(f"{self._url}: {answer.detail}") from None
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise DataError(f"{self._url} is no season's service") from None
        return document

    def _call(self, method: str, path: str, headers: dict[str, str] | None = None) -> httpx2.Response:
        """An answer, whatever breaks meanwhile. Raises `_Answer` where it is a refusal."""
        while True:
            try:
                answer = self._ask(method, path, headers)
            except _Broken as broken:
                self._failed(str(broken))
            else:
                self._came_through()
                return answer

    def _ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, content: Iterator[bytes] | None = None
    ) -> httpx2.Response:
        """An answer. Raises `_Broken` and `_Answer`, and what no further try would help."""
        said = {protocol.TUS_RESUMABLE: protocol.TUS_VERSION} | (headers or {})
        try:
            answer = self._http.request(method, self._url + path, headers=said, content=content)
        except httpx2.TransportError as error:
            reason = " ".join(f"{error or type(error).__name__}".split())
            if not self._is_known:
                raise EvaluatorError(f"{self._url} cannot be reached: {reason}") from None
            raise _Broken(f"the line broke: {reason}") from None
        except httpx2.InvalidURL as error:
            raise DataError(f"{show(self._url)}: {error}") from None
        self._is_known = True
        status = answer.status_code
        if status == HTTPStatus.UNAUTHORIZED:
            raise DataError(f"{self._url} does not take the token: {_Answer(answer).detail}")
        if status == HTTPStatus.FORBIDDEN:
            raise DataError(f"{self._url}: {_Answer(answer).detail}")
        if answer.is_redirect:
            raise DataError(f"{self._url} leads to {answer.headers.get('Location', 'nowhere')}: give that address")
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            text = answer.headers.get("Retry-After", "")
            self._pause = min(float(text), PATIENCE_SECONDS) if text.isascii() and text.isdigit() else LONGEST_PAUSE
            raise _Broken(_Answer(answer).detail)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.LOCKED):
            raise _Broken(_Answer(answer).detail)
        if answer.is_error:
            raise _Answer(answer)
        return answer

    def _came_through(self) -> None:
        self._since, self._pause = time.monotonic(), 0.0

    def _failed(self, reason: str) -> None:
        """Wait for the next try. Raises `EvaluatorError` where it was tried for long."""
        if time.monotonic() - self._since > PATIENCE_SECONDS:
            raise EvaluatorError(f"{self._url}: {reason}; run this again, it goes on where it is")
        pause = self._pause or 1.0
        self._say(f"{reason}; once more in {pause:g} s")
        time.sleep(pause)
        self._pause = min(2 * pause, LONGEST_PAUSE)


def _read(path: Path, start: int, end: int) -> Iterator[bytes]:
    """A part of a file. Raises `DataError` where it ends before."""
    try:
        with open(path, "rb") as file:
            file.seek(start)
            while start < end:
                chunk = file.read(min(_CHUNK, end - start))
                if not chunk:
                    raise DataError(f"{path} became shorter while it was sent")
                start += len(chunk)
                yield chunk
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
