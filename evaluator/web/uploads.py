"""Uploads by tus 1.0 (https://tus.io/protocols/resumable-upload), and what came of them.

Upload-Metadata must have the key `sha256`, the SHA-256 of the whole ZIP as hexadecimal digits, and may have `filename`.
A creation is answered by 201 where bytes are wanted, from Upload-Offset on, and by 200 where none are: the same ZIP was
sent before. Both have the JSON of `GET /api/v1/uploads/{id}`.
"""

import base64
import binascii
import hashlib
import re
from email.utils import format_datetime
from typing import Annotated

import anyio
from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from evaluator.core.errors import show
from evaluator.web import protocol
from evaluator.web.access import Member
from evaluator.web.problems import Problem
from evaluator.web.protocol import ACCEPTED, RECEIVING, Upload
from evaluator.web.receiving import Incoming, Receiving

REST_SECONDS = 2.0  # that the rest of a body is read for nothing
MAX_METADATA = 4000  # characters of the header
MAX_NAME = 200  # characters of a file's name
_DEFAULT_NAME = "submission.zip"
MAX_WAIT = 20  # seconds for what comes of an upload, less than proxies wait
_MAX_DIGITS = 18
_OVERRIDE = "X-HTTP-Method-Override"


class _Route(APIRoute):
    """Says of each answer that it is one of tus. Where the body was not read to its end, the rest is, for a moment, as
    who sends it may not get the answer otherwise; then the connection ends, as the body may be endless.
    """

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        is_unread = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers

        async def watched() -> Message:
            nonlocal is_unread
            message = await receive()
            is_unread = is_unread and message.get("more_body", False)
            return message

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                if b"expect" not in headers:  # who expects to be asked for the body has sent none of it
                    with anyio.move_on_after(REST_SECONDS):
                        while is_unread:
                            await watched()
                own = [(protocol.TUS_RESUMABLE.lower().encode(), protocol.TUS_VERSION.encode())]
                message["headers"] = [*message["headers"], *own, *([(b"connection", b"close")] if is_unread else [])]
            await send(message)

        await super().handle(scope, watched, told)


def _speaks(tus_resumable: Annotated[str | None, Header(description=f"{protocol.TUS_VERSION}")] = None) -> None:
    if tus_resumable != protocol.TUS_VERSION:
        raise Problem(
            412, f"say {protocol.TUS_RESUMABLE}: {protocol.TUS_VERSION}", headers={"Tus-Version": protocol.TUS_VERSION}
        )


def _the_receiving(request: Request) -> Receiving:
    receiving: Receiving = request.app.state.receiving
    return receiving


TheReceiving = Annotated[Receiving, Depends(_the_receiving)]
router = APIRouter(prefix=protocol.UPLOADS, tags=["uploads"], route_class=_Route)
_TUS = [Depends(_speaks)]


@router.options("", status_code=204)
@router.options("/{id}", status_code=204, include_in_schema=False)
def capabilities(receiving: TheReceiving) -> Response:
    """What is spoken, and how large a ZIP may be."""
    headers = {
        "Tus-Version": protocol.TUS_VERSION,
        "Tus-Extension": ",".join(protocol.EXTENSIONS),
        "Tus-Checksum-Algorithm": ",".join(protocol.CHECKSUMS),
        protocol.TUS_MAX_SIZE: str(receiving.max_bytes),
    }
    return Response(status_code=204, headers=headers)


@router.get("")
async def get_uploads(caller: Member, receiving: TheReceiving) -> list[Upload]:
    """The team's uploads, the latest first."""
    return await receiving.all_of(caller.team)


@router.get("/{id}")
async def get_upload(
    id: str, caller: Member, receiving: TheReceiving, prefer: Annotated[str | None, Header()] = None
) -> Upload:
    """How an upload stands, and what came of it. It is not disturbed, as it is by HEAD. With `Prefer: wait=10` (RFC
    7240) the answer comes when the ZIP was checked, or after so many seconds.
    """
    incoming = receiving.find(caller.team, id)
    if found := re.search(r"(?:^|[,;\s])wait=(\d{1,3})\b", prefer or ""):
        await receiving.wait(incoming, min(int(found[1]), MAX_WAIT))
    return await receiving.shown(incoming)


@router.post("", status_code=201, response_model=Upload, responses={200: {"model": Upload}}, dependencies=_TUS)
async def create(
    caller: Member,
    receiving: TheReceiving,
    upload_length: Annotated[str | None, Header()] = None,
    upload_metadata: Annotated[str, Header()] = "",
) -> Response:
    """Begin an upload, or go on with the one of the same ZIP."""
    length = _number(protocol.UPLOAD_LENGTH, upload_length)
    if not length:
        raise Problem(400, "the file is empty")
    said = _metadata(upload_metadata)
    digest = said.get(protocol.DIGEST_KEY, b"").decode("ascii", "replace").lower()
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise Problem(400, f"{protocol.UPLOAD_METADATA} must have {protocol.DIGEST_KEY}: 64 hexadecimal digits")
    name = _name(said.get(protocol.NAME_KEY, b""))
    incoming = await receiving.create(caller.team, caller.by, name, digest, length, upload_metadata)
    shown = await receiving.shown(incoming)
    if shown.state == ACCEPTED:  # before
        shown.is_new = False
    headers = _place(incoming, receiving) | {
        "Location": f"{protocol.UPLOADS}/{incoming.id}",
        protocol.UPLOAD_OFFSET: str(shown.offset),
    }
    return JSONResponse(shown.model_dump(mode="json"), 201 if shown.state == RECEIVING else 200, headers)


@router.head("/{id}", dependencies=_TUS)
async def head(id: str, caller: Member, receiving: TheReceiving) -> Response:
    """How many bytes have come. A connection that still brings some is ended."""
    incoming = receiving.find(caller.team, id)
    headers = _place(incoming, receiving) | {
        protocol.UPLOAD_OFFSET: str(await receiving.offset(incoming)),
        protocol.UPLOAD_LENGTH: str(incoming.info.length),
        protocol.UPLOAD_METADATA: incoming.info.metadata,
        "Cache-Control": "no-store",
    }
    return Response(headers=headers)


@router.patch("/{id}", status_code=204, dependencies=_TUS)
async def patch(
    id: str,
    request: Request,
    caller: Member,
    receiving: TheReceiving,
    upload_offset: Annotated[str | None, Header()] = None,
    upload_checksum: Annotated[str | None, Header()] = None,
) -> Response:
    """Send bytes, from Upload-Offset on."""
    incoming = receiving.find(caller.team, id)
    if request.headers.get("Content-Type") != protocol.OFFSET_TYPE:
        raise Problem(415, f"Content-Type must be {protocol.OFFSET_TYPE}")
    offset = _number(protocol.UPLOAD_OFFSET, upload_offset)
    checksum = None if upload_checksum is None else _checksum(upload_checksum)
    if "Content-Length" in request.headers:
        size = _number("Content-Length", request.headers["Content-Length"])
        if offset + size > incoming.info.length:
            raise Problem(413, f"that would be more than the {incoming.info.length} bytes announced")
    try:
        reached = await receiving.receive(incoming, offset, request.stream(), checksum)
    except ClientDisconnect:  # what it brought counts
        return Response(status_code=400)
    headers = _place(incoming, receiving) | {protocol.UPLOAD_OFFSET: str(reached)}
    return Response(status_code=204, headers=headers)


@router.delete("/{id}", status_code=204, dependencies=_TUS)
async def terminate(id: str, caller: Member, receiving: TheReceiving) -> Response:
    """Give an upload up, or forget one that has ended."""
    await receiving.remove(receiving.find(caller.team, id))
    return Response(status_code=204)


@router.post("/{id}", status_code=204, include_in_schema=False, dependencies=_TUS)
async def other_method(
    id: str,
    request: Request,
    caller: Member,
    receiving: TheReceiving,
    upload_offset: Annotated[str | None, Header()] = None,
    upload_checksum: Annotated[str | None, Header()] = None,
) -> Response:
    """For networks that let no PATCH or DELETE pass."""
    method = request.headers.get(_OVERRIDE, "").upper()
    if method == "PATCH":
        return await patch(id, request, caller, receiving, upload_offset, upload_checksum)
    if method == "DELETE":
        return await terminate(id, caller, receiving)
    raise Problem(405, f"{_OVERRIDE} must be PATCH or DELETE", headers={"Allow": "HEAD, GET, PATCH, DELETE"})


def _place(incoming: Incoming, receiving: Receiving) -> dict[str, str]:
    """Until when an upload that has not ended is kept."""
    if incoming.state != RECEIVING:
        return {}
    return {protocol.UPLOAD_EXPIRES: format_datetime(receiving.expires_at(incoming), usegmt=True)}


def _number(header: str, text: str | None) -> int:
    if text is None or not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        found = "is missing" if text is None else f"must be a number of bytes, not {show(text)}"
        raise Problem(400, f"{header} {found}")
    return int(text)


def _metadata(header: str) -> dict[str, bytes]:
    """The values of Upload-Metadata: pairs of a key and Base64, with commas between."""
    values: dict[str, bytes] = {}
    if len(header) > MAX_METADATA:
        raise Problem(400, f"{protocol.UPLOAD_METADATA} has {len(header)} characters; at most {MAX_METADATA} are taken")
    for pair in filter(None, header.split(",")):
        key, _, value = pair.strip().partition(" ")
        if not key or not key.isascii() or key in values:
            raise Problem(400, f"{protocol.UPLOAD_METADATA} has the key {show(key)}, which is none or comes twice")
        values[key] = _base64(protocol.UPLOAD_METADATA, value)
    return values


def _checksum(header: str) -> tuple[str, bytes]:
    algorithm, _, value = header.partition(" ")
    if algorithm not in protocol.CHECKSUMS:
        raise Problem(400, f"{protocol.UPLOAD_CHECKSUM}: {show(algorithm)} is none of {', '.join(protocol.CHECKSUMS)}")
    digest = _base64(protocol.UPLOAD_CHECKSUM, value)
    if len(digest) != hashlib.new(algorithm).digest_size:
        raise Problem(400, f"{protocol.UPLOAD_CHECKSUM}: {len(digest)} bytes are no {algorithm}")
    return algorithm, digest


def _base64(header: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise Problem(400, f"{header}: {show(text)} is no Base64") from None


def _name(value: bytes) -> str:
    """A file's name that can be shown anywhere: without folders, and what obeys or hides nothing."""
    text = re.split(r"[/\\]", value.decode("utf-8", "replace"))[-1]
    return "".join(filter(str.isprintable, text)).strip()[:MAX_NAME].strip() or _DEFAULT_NAME
