"""Media inputs: conversion of files, bytes, URLs and earlier outputs to MediaInput.

Reads local files; never opens a URL (Replicate downloads those).
"""

import mimetypes
import re
from pathlib import Path
from typing import Final

import grpc

from mediagate.v1.generation_pb2 import Generation
from mediagate.v1.media_pb2 import DocumentRef, UploadMediaResponse
from mediagate.v1.medium_pb2 import InlineMedia, Media, MediaInput, OutputRef
from mediagate_client.errors import Details, MediaTooLarge, Violation, local_invalid_request

MAX_INLINE_BYTES: Final = 3 * 1024 * 1024
"""Largest file within a request."""

MediaSource = (
    str
    | Path
    | bytes
    | MediaInput
    | InlineMedia
    | OutputRef
    | Generation
    | Media
    | UploadMediaResponse
)
"""A URL, a file's path, a file's bytes, an output of an earlier generation (the generation itself:
its first one), what `upload` returned, or the id of either."""

_STORED_ID: Final = re.compile(
    r"(?P<upload>upl_\w+)|(?P<generation>gen_\w+)(/(?P<index>\d{1,4}))?", re.ASCII
)

_SIGNATURES: Final = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (8, b"WAVE", "audio/wav"),
    (0, b"fLaC", "audio/flac"),
    (0, b"OggS", "audio/ogg"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"\x1aE\xdf\xa3", "video/webm"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftypheic", "image/heic"),
    (4, b"ftypM4A", "audio/mp4"),
    (4, b"ftypqt", "video/quicktime"),
    (4, b"ftyp", "video/mp4"),
)
_DOCUMENT_KINDS: Final = {"output": DocumentRef.KIND_OUTPUT, "logs": DocumentRef.KIND_LOGS}
"""By the last part of a document's id."""
_MPEG_LAYER_3: Final = (b"\xff\xfb", b"\xff\xf3", b"\xff\xf2")


def media_input(source: MediaSource, field: str = "media") -> MediaInput:
    """Return `source` as the contract's MediaInput; `field` names it in errors.

    A string is a URL if it has "://" in it, and stored media if it is an id: gen_... (the first
    output), gen_.../1, upl_...; a path if not, and where such a file exists. Raises
    MediaTooLarge for more than 3 MiB and InvalidRequest for a file that is empty or cannot be read.
    """
    match source:
        case MediaInput():
            if source.WhichOneof("source") == "inline":
                _check_inline_size(len(source.inline.data), field)
            return source
        case InlineMedia():
            _check_inline_size(len(source.data), field)
            return MediaInput(inline=source)
        case OutputRef() | Generation() | Media() | UploadMediaResponse():
            return _stored_input(source)
        case bytes():
            _check_inline_size(len(source), field)
            return MediaInput(inline=InlineMedia(data=source, media_type=sniff(source)))
        case str() if "://" in source:
            return MediaInput(uri=source)
        case str() if (match_ := _STORED_ID.fullmatch(source)) and not Path(source).exists():
            return _input_from_id(match_)
        case str() | Path():
            return _input_from_file(Path(source), field)
    raise local_invalid_request(field, f"{type(source).__name__} is not a medium")


def output_ref(media: Media) -> OutputRef | None:
    """Return the reference to a stored output; None if the medium is not stored."""
    generation_id, slash, index = media.id.rpartition("/")
    if not (slash and generation_id and index.isdecimal()):
        return None
    return OutputRef(generation_id=generation_id, index=int(index))


def stored_ref_of_id(name: str) -> str | OutputRef | DocumentRef | None:
    """Return what an id names: an upload (the id itself), or an output or document.

    None: it is no id, but a link, say.
    """
    match_ = _STORED_ID.fullmatch(name)
    if match_ is None:
        return stored_media_ref(Media(id=name)) if name.startswith("gen_") else None
    if match_["upload"]:
        return name
    return OutputRef(generation_id=match_["generation"], index=int(match_["index"] or 0))


def stored_media_ref(media: Media) -> OutputRef | DocumentRef | None:
    """Return the reference to a stored output or document; None if the medium is not stored."""
    generation_id, slash, name = media.id.rpartition("/")
    if slash and generation_id and name in _DOCUMENT_KINDS:
        return DocumentRef(generation_id=generation_id, kind=_DOCUMENT_KINDS[name])
    return output_ref(media)


def sniff(data: bytes) -> str:
    """Content sniffing: return the media type of a file's first bytes. Empty: unknown."""
    for offset, signature, media_type in _SIGNATURES:
        if data.startswith(signature, offset):
            return media_type
    return "audio/mpeg" if data.startswith(_MPEG_LAYER_3) else ""


def _input_from_id(match: re.Match[str]) -> MediaInput:
    """Return the stored medium of an id."""
    if match["upload"]:
        return MediaInput(upload_id=match["upload"])
    index = int(match["index"] or 0)
    return MediaInput(output=OutputRef(generation_id=match["generation"], index=index))


def _stored_input(
    source: OutputRef | Generation | Media | UploadMediaResponse,
) -> MediaInput:
    """Return a stored medium as MediaInput, and one that is not stored by its link."""
    match source:
        case OutputRef():
            return MediaInput(output=source)
        case Generation():
            return MediaInput(output=OutputRef(generation_id=source.id))
        case Media():
            ref = output_ref(source)
            return MediaInput(output=ref) if ref else MediaInput(uri=source.uri)
        case UploadMediaResponse():
            return MediaInput(upload_id=source.upload_id)


def _input_from_file(path: Path, field: str) -> MediaInput:
    """Read a local file as inline media."""
    try:
        _check_inline_size(path.stat().st_size, field)
        data = path.read_bytes()
    except OSError as error:
        raise local_invalid_request(field, f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # Of a path: a NUL, or a lone surrogate.
        raise local_invalid_request(field, str(error)) from error
    # Again: the file may have changed since `stat`.
    _check_inline_size(len(data), field)
    media_type = sniff(data) or mimetypes.guess_type(path.name)[0] or ""
    return MediaInput(inline=InlineMedia(data=data, media_type=media_type))


def _check_inline_size(size: int, field: str) -> None:
    if size == 0:
        raise local_invalid_request(field, "the file is empty")
    if size > MAX_INLINE_BYTES:
        description = (
            f"{size:,} bytes, at most {MAX_INLINE_BYTES:,} may be sent within a request: "
            "upload it, or give a URL or an output of an earlier generation"
        )
        raise MediaTooLarge(
            Details(
                code=grpc.StatusCode.INVALID_ARGUMENT,
                message=f"{field}: {description}",
                reason="MEDIA_TOO_LARGE",
                metadata={"size_bytes": str(size), "limit_bytes": str(MAX_INLINE_BYTES)},
                violations=(Violation(field, description),),
            )
        )
