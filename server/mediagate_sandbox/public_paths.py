"""Paths that need no token: the path, or its signature, is the credential."""

from __future__ import annotations

import re

STREAM_KEY = "[0-9a-z]{52}"
"""Pattern of a stream's key. No id of an uploaded file looks like it."""

_FILE_STREAM = re.compile(f"/v1/files/{STREAM_KEY}")


def is_stream(path: str) -> bool:
    """Whether this is an event stream: of text, or of links to files."""
    return path.startswith("/v1/streams/") or _FILE_STREAM.fullmatch(path) is not None


def is_upload_download(path: str) -> bool:
    """Whether this is the download link of an uploaded file."""
    return path.startswith("/v1/files/") and path.endswith("/download")


def is_output_file(path: str) -> bool:
    """Whether this is an output file."""
    return path.startswith("/files/")
