"""What the service and its clients have in common: paths, headers and documents of uploads.

Uploads speak tus 1.0 (https://tus.io/protocols/resumable-upload): the core, and the extensions of `EXTENSIONS`.
"""

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

API = "/api/v1"
UPLOADS = f"{API}/uploads"

TUS_VERSION = "1.0.0"
EXTENSIONS = ("creation", "checksum", "expiration", "termination")
CHECKSUMS = ("sha256", "sha1")  # tus wants the second; both of hashlib
OFFSET_TYPE = "application/offset+octet-stream"
CHECKSUM_MISMATCH = 460  # tus's own status

TUS_RESUMABLE = "Tus-Resumable"
TUS_MAX_SIZE = "Tus-Max-Size"
UPLOAD_LENGTH = "Upload-Length"
UPLOAD_OFFSET = "Upload-Offset"
UPLOAD_METADATA = "Upload-Metadata"
UPLOAD_CHECKSUM = "Upload-Checksum"
UPLOAD_EXPIRES = "Upload-Expires"
NAME_KEY, DIGEST_KEY = "filename", "sha256"  # of Upload-Metadata; the digest as 64 hexadecimal digits

WAITING = {"Prefer": "wait=20"}  # for what comes of an upload, in place of asking often (RFC 7240)

PIECE_BYTES = 64 * 2**20  # that a client sends at a time

State = Literal["receiving", "checking", "accepted", "faulty", "refused", "failed"]
RECEIVING: State = "receiving"
CHECKING: State = "checking"
ACCEPTED: State = "accepted"
FAULTY: State = "faulty"
REFUSED: State = "refused"
FAILED: State = "failed"


class Ending(BaseModel):
    """What came of an upload. `accepted` has its submission, which is not new where the team had sent the same ZIP
    before; `refused` the season's reason. `verdict` to `findings_total` and `notes` are of the check of the ZIP, as
    `check --json` has them; they say too why an upload has `failed`, which is no fault of the team's.
    """

    state: State
    submission: int | None = None
    is_new: bool | None = None
    reason: str | None = None
    verdict: str | None = None
    fault: str | None = None
    fix: str | None = None
    findings: list[dict[str, str]] = []
    findings_total: int = 0
    notes: list[str] = []
    archive: dict[str, int] | None = None
    emission: dict[str, Any] | None = None


class Upload(Ending):
    """An upload as its team sees it: `offset` of `length` bytes have come. Whoever has `refused` or `failed` ones asks
    for the same upload again, which goes on with the bytes that are there.
    """

    id: str
    name: str
    digest: str = Field(description="SHA-256 of the ZIP")
    length: int
    offset: int
    created_at: datetime
    expires_at: datetime


def metadata(values: Mapping[str, bytes]) -> str:
    """The value of Upload-Metadata."""
    return ",".join(f"{key} {base64.b64encode(value).decode()}" for key, value in values.items())


def checksum(algorithm: str, digest: bytes) -> str:
    """The value of Upload-Checksum."""
    return f"{algorithm} {base64.b64encode(digest).decode()}"
