"""Pages that say why a file is not there pass for no picture; drawings, XML too, are kept."""

import base64

import pytest

from mediagate_server.errors import Reason
from mediagate_server.media.file_store import FileSystemMediaStore
from mediagate_server.media.probe import is_error_page

from .file_server import FileServer, file
from .test_output_archiver import PICTURE, Archive, content
from .test_output_archiver import archive as archive  # noqa: PLC0414 - the fixture

SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="8" height="4"/>'
XML = b'<?xml version="1.0" encoding="UTF-8" standalone="no"?>\n'
DOCTYPE = b'''<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN"
    "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd"'''
COMMENT = b"<!-- Created with a tool > that <html> says so at length -->\n"
PAGES = (
    (b"<!DOCTYPE html><html><body>Service unavailable</body></html>", "text/html; charset=utf-8"),
    (b"\xef\xbb\xbf\r\n <HTML><head><title>502</title>", "text/html"),
    (b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>SlowDown</Code></Error>', "image/png"),
    (b"<Error><Code>NoSuchKey</Code></Error>", "application/xml"),
    (b'{"error": "rate limited"}', "application/json"),
    (b'{"detail":"gone"}', ""),
    (b"[]", "binary/octet-stream"),
    (XML + b"<!-- proxy --><Error><Code>SlowDown</Code></Error>", "application/octet-stream"),
    (XML + b"<!-- svg --><Error>no such <svg/></Error>", "image/svg+xml"),
    (b"<!DOCTYPE html><!-- 502 --><html><svg width='9'/></html>", "text/html"),
    (COMMENT * 40 + b"<html></html>", "text/html"),
    (b"<svgs/>", "application/xml"),
    (b"error code: 1020", "text/plain"),
)


@pytest.mark.parametrize("page", PAGES, ids=str)
async def test_an_error_page_is_not_an_image(
    page: tuple[bytes, str], archive: Archive, file_server: FileServer, folder: FileSystemMediaStore
) -> None:
    """Under status 200: the picture may come yet; if it does not, the page is not kept for it."""
    late = await archive(file_server.put("/late.png", file(*page), file(*page), file(PICTURE)))
    assert (late.is_stored, late.media_type) == (True, "image/png")
    assert await content(folder) == PICTURE
    file_server.requests.clear()
    never = await archive(file_server.put("/never", file(*page)))
    assert (never.is_stored, never.failure and never.failure.reason) == (
        False,
        Reason.OUTPUT_STORE_FAILED,
    )
    assert len(file_server.requests) == 6


DRAWINGS = (
    (DOCTYPE + b">" + SVG, "image/svg+xml"),
    (XML + COMMENT * 3 + DOCTYPE + b">\n" + COMMENT + SVG, "image/svg+xml"),
    (DOCTYPE + b' [ <!ENTITY a "' + b"b" * 2000 + b'"> ]>' + SVG, "image/svg+xml"),
    (COMMENT * 15 + SVG, "image/svg+xml"),
    (COMMENT * 40 + SVG, "image/svg+xml"),
    (b"\xef\xbb\xbf\n" + XML + b"<?xml-stylesheet href='a?b'?>" + SVG, "image/svg+xml"),
    (XML + COMMENT + b'<svg:svg xmlns:svg="http://www.w3.org/2000/svg"/>', "image/svg+xml"),
    (b"<!DOCTYPE html>" + SVG, "image/svg+xml"),
    (XML + COMMENT + SVG, "application/octet-stream"),
    (COMMENT + DOCTYPE + b">" + SVG, ""),
)


@pytest.mark.parametrize("drawing", DRAWINGS, ids=str)
async def test_svg_is_stored_however_it_begins(
    drawing: tuple[bytes, str],
    archive: Archive,
    file_server: FileServer,
    folder: FileSystemMediaStore,
) -> None:
    """At the first try, though another picture was expected: it is what was paid for."""
    stored = await archive(file_server.put("/out", file(*drawing)))
    assert (stored.is_stored, stored.media_type, stored.failure) == (True, "image/svg+xml", None)
    assert await content(folder) == drawing[0]
    assert len(file_server.requests) == 1


async def test_an_error_page_in_a_data_uri_is_not_retried(archive: Archive) -> None:
    """There is nothing to come."""
    for page, _ in PAGES[:-1]:
        coded = base64.b64encode(page).decode()
        inline = await archive(f"data:image/png;base64,{coded}")
        assert not inline.is_stored


def test_content_that_is_not_an_error_page() -> None:
    """Drawings are XML, and documents may be what was made."""
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
    headed = b'<?xml version="1.0" encoding="UTF-8"?>' + b"<!-- by a tool, long -->" + svg
    for head, declared, expected in (
        (svg, "image/svg+xml", "image/png"),
        (headed, "text/xml", "image/svg+xml"),
        (headed, "image/svg+xml", "image/webp"),
        (b'{"a": 1}', "application/json", "application/json"),
        (b"<html></html>", "text/html", "text/html"),
        (PICTURE, "text/html", "image/png"),
        (b"\x01<html>", "", "video/mp4"),
        (b"#!AMR\n\x00\x01", "text/plain", "audio/amr"),
    ):
        assert not is_error_page(head, declared, expected), head
    assert is_error_page(b"<html>", "", "image/svg+xml")
    assert is_error_page(b"<Error><Code>", "image/svg+xml", "image/svg+xml")
