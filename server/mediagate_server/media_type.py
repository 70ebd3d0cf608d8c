"""Media type sniffing: the type of a file by its first bytes (magic numbers)."""

UNKNOWN = "application/octet-stream"

HEAD_BYTES = 1024
"""Bytes to sniff: signatures need few, the comments before markup more."""

_SIGNATURES = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (8, b"WAVE", "audio/wav"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"\xff\xfb", "audio/mpeg"),
    (0, b"\xff\xf3", "audio/mpeg"),
    (0, b"\xff\xf2", "audio/mpeg"),
    (0, b"fLaC", "audio/flac"),
    (0, b"OggS", "audio/ogg"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftypheic", "image/heic"),
    (4, b"ftypM4A", "audio/mp4"),
    (4, b"ftypqt", "video/quicktime"),
    (4, b"ftyp", "video/mp4"),
    (0, b"\x1a\x45\xdf\xa3", "video/webm"),
)

_ALWAYS_SIGNED = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""Types whose every file begins with its signature; audio and video have more variants."""


def sniff(data: bytes) -> str:
    """Media type by magic number, or application/octet-stream where it is unknown."""
    for offset, signature, media_type in _SIGNATURES:
        if data[offset : offset + len(signature)] == signature:
            return media_type
    return UNKNOWN


def contradicts(head: bytes, media_type: str) -> bool:
    """Whether the first bytes rule a type out, without being of any other known one."""
    return media_type in _ALWAYS_SIGNED and sniff(head) == UNKNOWN
