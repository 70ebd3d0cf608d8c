"""Endpoints of files: multipart upload, list, get, delete, and download by a signed link."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson
from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from mediagate_sandbox.api_errors import ApiError, InvalidField, bad_request, invalid_input
from mediagate_sandbox.clock import Clock
from mediagate_sandbox.json_response import respond_json
from mediagate_sandbox.middleware.auth import origin_of
from mediagate_sandbox.paging import page_json
from mediagate_sandbox.prediction_json import timestamp
from mediagate_sandbox.range_responses import StoredFile
from mediagate_sandbox.settings import SandboxSettings
from mediagate_sandbox.uploads import OWNER, FileTooLargeError, IncomingUpload, Upload, Uploads

_LONGEST_NAME = 255
_LONGEST_FIELD = 64 * 1024
_CHUNK = 64 * 1024
_UNNAMED = "file"
_OCTETS = "application/octet-stream"
_SURROGATE = re.compile("[\ud800-\udfff]")
_MEDIA_TYPE = re.compile(r"[\w.+-]{1,127}/[\w.+-]{1,127}(?:[ \t]*;[ -~]{0,255})?", re.ASCII)
# The last two are warnings, which are raised where warnings are errors.
_BROKEN = (
    ValueError,
    HttpProcessingError,
    aiohttp.BadContentDispositionHeader,
    aiohttp.BadContentDispositionParam,
)
_METADATA_MEMBER = re.compile(r"metadata\[([^\[\]]{1,255})\]")
_TEXT_FIELDS = ("type", "filename", "metadata")


@dataclass(slots=True)
class _Form:
    """Form fields of an upload."""

    content: bool = False
    name: str | None = None
    content_type: str | None = None
    fields: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    """Members that came as parts of their own, `metadata[order]`: so the package 2.0 sends them."""


class UploadRoutes:
    """Handlers for `/v1/files`, and for `/sandbox/files/{id}/link`."""

    def __init__(self, settings: SandboxSettings, clock: Clock, uploads: Uploads) -> None:
        """Create the handlers."""
        self._settings = settings
        self._clock = clock
        self._uploads = uploads

    def routes(self) -> list[web.RouteDef]:
        """Paths and their handlers."""
        return [
            web.post("/v1/files", self.create),
            web.get("/v1/files", self.list),
            web.get("/v1/files/{id}", self.get),
            web.delete("/v1/files/{id}", self.delete),
            web.get("/v1/files/{id}/download", self.download),
        ]

    def control_routes(self) -> list[web.RouteDef]:
        """Control path and its handler."""
        return [web.get("/sandbox/files/{id}/link", self.link)]

    async def create(self, request: web.Request) -> web.Response:
        """`POST /v1/files`: parts `content`, `type`, `filename` and `metadata`, in any order."""
        if request.content_type != "multipart/form-data":
            raise bad_request("The request body must be multipart/form-data.")
        with self._uploads.incoming() as incoming:
            try:
                form = await _receive(request, incoming)
            except FileTooLargeError:
                raise ApiError(413, "Files must be less than 100MB in size") from None
            except _BROKEN:
                raise bad_request("The request body is not valid multipart/form-data.") from None
            name, kind, metadata = _checked(form)
            upload = await self._uploads.store(incoming, name, kind, metadata)
        return respond_json(self._document(request, upload), status=201)

    async def list(self, request: web.Request) -> web.Response:
        """`GET /v1/files`: newest first."""
        page = page_json(
            self._uploads.newest_first(),
            lambda each: each.number,
            lambda each: self._document(request, each),
            url=URL(origin_of(request, self._settings)).join(request.rel_url),
            size=self._settings.files_per_page,
        )
        return respond_json(page)

    async def get(self, request: web.Request) -> web.Response:
        """`GET /v1/files/{id}`."""
        return respond_json(self._document(request, self._find(request)))

    async def delete(self, request: web.Request) -> web.Response:
        """`DELETE /v1/files/{id}`: 204, and 404 ever after."""
        self._uploads.delete(self._find(request))
        return web.Response(status=204)

    async def download(self, request: web.Request) -> StoredFile:
        """`GET /v1/files/{id}/download?owner&expiry&signature`: the bytes, without a token.

        Whatever is wrong with a link, the answer is that there is no such file.
        """
        upload, query = self._find(request), request.query
        owner, expiry = query.get("owner", ""), query.get("expiry", "")
        if not (expiry.isascii() and expiry.isdigit()) or len(expiry) > 12:
            raise _file_not_found()
        right = self._uploads.signature(upload.id, owner, int(expiry))
        given = query.get("signature", "")
        if not hmac.compare_digest(right.encode(), given.encode()):
            raise _file_not_found()
        if self._clock.now().timestamp() >= int(expiry):
            raise _file_not_found()
        name = quote(upload.name, safe="")
        headers = {
            "Content-Type": upload.content_type,
            "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
        }
        return StoredFile(upload.path, headers)

    async def link(self, request: web.Request) -> web.Response:
        """`GET /sandbox/files/{id}/link`: a download link, valid as long as the file."""
        upload = self._find(request)
        expiry = int(upload.expires_at.timestamp())
        query = {
            "owner": OWNER,
            "expiry": str(expiry),
            "signature": self._uploads.signature(upload.id, OWNER, expiry),
        }
        url = URL(f"{origin_of(request, self._settings)}/v1/files/{upload.id}/download")
        return respond_json({"url": str(url.with_query(query))})

    def _find(self, request: web.Request) -> Upload:
        upload = self._uploads.find(request.match_info["id"])
        if upload is None:
            raise _file_not_found()
        return upload

    def _document(self, request: web.Request, upload: Upload) -> dict[str, Any]:
        """Return the file object; with `name`, `etag` and `md5` as in recorded responses."""
        url = f"{origin_of(request, self._settings)}/v1/files/{upload.id}"
        return {
            "id": upload.id,
            "name": upload.name,
            "content_type": upload.content_type,
            "size": upload.size,
            "etag": upload.md5,
            "checksums": {"sha256": upload.sha256, "md5": upload.md5},
            "metadata": upload.metadata,
            "created_at": timestamp(upload.created_at, upload.id),
            "expires_at": timestamp(upload.expires_at, upload.id),
            "urls": {"get": url},
        }


def _file_not_found() -> ApiError:
    return ApiError(404, "File not found")


async def _receive(request: web.Request, incoming: IncomingUpload) -> _Form:
    """Write the content to disk and collect the fields. Raises ValueError for a malformed body."""
    form = _Form()
    reader = await request.multipart()
    while (part := await reader.next()) is not None:
        if not isinstance(part, BodyPartReader):
            raise bad_request("The parts of the request body must not have parts of their own.")
        if part.name == "content" and not form.content:
            form.content = True
            form.name = part.filename
            form.content_type = part.headers.get("Content-Type")
            while chunk := await part.read_chunk(_CHUNK):
                await incoming.write(chunk)
        elif part.name in _TEXT_FIELDS:
            form.fields[part.name] = await _text(part)
        elif part.name is not None and (member := _METADATA_MEMBER.fullmatch(part.name)):
            form.metadata[member[1]] = await _text(part)
        else:
            raise bad_request(f"The request body has one content and {', '.join(_TEXT_FIELDS)}.")
    return form


async def _text(part: BodyPartReader) -> str:
    collected = b""
    while chunk := await part.read_chunk(_CHUNK):
        collected += chunk
        if len(collected) > _LONGEST_FIELD:
            raise invalid_input([InvalidField("string_lte", str(part.name), "Too long")])
    return collected.decode()


def _checked(form: _Form) -> tuple[str, str, Mapping[str, Any]]:
    """Return name, content type and metadata. Raises ApiError (422) with the field."""
    faults = []
    if not form.content:
        faults.append(InvalidField("required", "(root)", "content is required"))
    name = form.fields.get("filename") or form.name or _UNNAMED
    # A name in a header may hold bytes that are no text; they come as lone surrogates.
    if len(name.encode("utf-8", "surrogateescape")) > _LONGEST_NAME or _SURROGATE.search(name):
        text = f"Must be valid UTF-8, at most {_LONGEST_NAME} bytes long"
        faults.append(InvalidField("string_lte", "filename", text))
    kind = form.fields.get("type") or form.content_type or _OCTETS
    if not _MEDIA_TYPE.fullmatch(kind):
        faults.append(InvalidField("format", "type", "Must be a media type such as image/png"))
    try:
        metadata = orjson.loads(form.fields.get("metadata") or b"{}")
    except orjson.JSONDecodeError:
        metadata = None
    if not isinstance(metadata, dict):
        faults.append(InvalidField("invalid_type", "metadata", "Must be a JSON object"))
        metadata = {}
    if faults:
        raise invalid_input(faults)
    return name, kind, metadata | form.metadata
