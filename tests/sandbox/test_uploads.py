"""The files API: what is uploaded comes back, for a day, to whoever has a right to it."""

from __future__ import annotations

import hashlib
import io
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mediagate_sandbox.clock import ManualClock

from .conftest import Opener
from .sandbox_client import Answer, SandboxClient

LIMIT = 100 * 1024 * 1024
DAY = 86_400


async def upload(
    caller: SandboxClient,
    content: Any = b"hello",
    *,
    filename: str | None = "a.txt",
    kind: str | None = "text/plain",
    **fields: str,
) -> Answer:
    """Send a file as a form."""
    form = aiohttp.FormData(default_to_multipart=True)
    for name, value in fields.items():
        form.add_field(name, value)
    form.add_field("content", content, filename=filename, content_type=kind)
    headers = {"Authorization": "Bearer any"}
    async with caller.session.post(
        caller.sandbox.url + "/v1/files", data=form, headers=headers
    ) as answer:
        return Answer(answer.status, answer.headers, await answer.read())


async def uploaded(caller: SandboxClient, content: Any = b"hello", **form: Any) -> Any:
    """A file that must be taken; its document."""
    answer = await upload(caller, content, **form)
    assert answer.status == 201, answer.body
    return answer.json


async def link(caller: SandboxClient, document: Any) -> str:
    """A signed download link."""
    answer = await caller.get(f"/sandbox/files/{document['id']}/link")
    return str(answer.json["url"])


def stored_files(folder: Path) -> list[Path]:
    """Files on disk."""
    return [each for each in folder.rglob("*") if each.is_file()]


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where sandboxes of this test keep their files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


async def test_a_file_and_its_checksums(sandbox_client: SandboxClient) -> None:
    """201 with all there is to know; GET says the same."""
    content = secrets.token_bytes(3_000_000)
    document = await uploaded(sandbox_client, io.BytesIO(content), metadata='{"order": 7}')
    assert document["name"] == "a.txt"
    assert document["content_type"] == "text/plain"
    assert document["size"] == len(content)
    assert document["checksums"] == {
        "sha256": hashlib.sha256(content).hexdigest(),
        "md5": hashlib.md5(content, usedforsecurity=False).hexdigest(),
    }
    assert document["metadata"] == {"order": 7}
    assert document["urls"]["get"] == f"{sandbox_client.sandbox.base_url}/files/{document['id']}"
    assert (await sandbox_client.get(document["urls"]["get"])).json == document
    answer = await sandbox_client.send(
        "GET", await link(sandbox_client, document), Authorization=""
    )
    assert answer.body == content
    assert answer.headers["Content-Type"] == "text/plain"


async def test_fields_go_before_the_part_s_own(sandbox_client: SandboxClient) -> None:
    """`type` and `filename` may be parts, before or after; without any there is a stand-in."""
    disposition = b"--b\r\nContent-Disposition: form-data; name="
    content = disposition + b"content; filename=a.bin\r\nContent-Type: text/css\r\n\r\nx\r\n"
    named = disposition + b"filename\r\n\r\nb.png\r\n"
    typed = disposition + b"type\r\n\r\nimage/png\r\n"
    bare = disposition + b"content\r\n\r\nx\r\n"
    for body, expected in (
        (named + content + typed, ("b.png", "image/png")),
        (content, ("a.bin", "text/css")),
        (bare, ("file", "application/octet-stream")),
    ):
        answer = await sandbox_client.send(
            "POST",
            "/v1/files",
            body + b"--b--\r\n",
            Content_Type="multipart/form-data; boundary=b",
        )
        assert (answer.json["name"], answer.json["content_type"]) == expected


async def test_metadata_in_parts_of_its_own(sandbox_client: SandboxClient) -> None:
    """As the Python package 2.0 sends it; a member there is goes before one of the JSON."""
    fields = {"metadata": '{"a": 1, "b": 2}', "metadata[b]": "3", "metadata[c]": "4"}
    document = await uploaded(sandbox_client, **fields)
    assert document["metadata"] == {"a": 1, "b": "3", "c": "4"}
    for name in ("metadata[]", "metadata[a][b]", "other[a]"):
        assert (await upload(sandbox_client, **{name: "x"})).status == 400


async def test_an_empty_file(sandbox_client: SandboxClient) -> None:
    """It is a file like any other."""
    document = await uploaded(sandbox_client, b"")
    assert document["size"] == 0
    assert (await sandbox_client.get(await link(sandbox_client, document))).body == b""


async def test_lists_are_paged_newest_first(open_sandbox: Opener) -> None:
    """Absolute links, as in every list."""
    async with open_sandbox(files_per_page=2) as caller:
        ids = [(await uploaded(caller, str(number)))["id"] for number in range(5)]
        url, file_ids = "/v1/files", list[str]()
        while url:
            page = (await caller.get(url)).json
            file_ids += [each["id"] for each in page["results"]]
            url = page["next"]
        assert file_ids == ids[::-1]


async def test_a_deleted_file_is_not_found(sandbox_client: SandboxClient) -> None:
    """204 once, then 404 from every side."""
    document = await uploaded(sandbox_client)
    url, signed = document["urls"]["get"], await link(sandbox_client, document)
    assert (await sandbox_client.send("DELETE", url)).status == 204
    for answer in (
        await sandbox_client.get(url),
        await sandbox_client.get(signed),
        await sandbox_client.send("DELETE", url),
    ):
        assert answer.status == 404
        assert answer.json["detail"] == "File not found"
    assert (await sandbox_client.get("/v1/files")).json["results"] == []


async def test_files_expire_after_a_day(
    frozen_clock_client: SandboxClient, clock: ManualClock
) -> None:
    """They can be read until then, and are off the list and the disk after."""
    document = await uploaded(frozen_clock_client)
    await clock.advance(DAY - 1)
    assert (await frozen_clock_client.get(document["urls"]["get"])).status == 200
    signed = await link(frozen_clock_client, document)
    assert (await frozen_clock_client.get(signed)).status == 200
    await clock.advance(1)
    assert (await frozen_clock_client.get(document["urls"]["get"])).status == 404
    assert (await frozen_clock_client.get(signed)).status == 404
    assert (await frozen_clock_client.get("/v1/files")).json["results"] == []


async def test_a_link_is_good_for_one_file_and_one_owner(sandbox_client: SandboxClient) -> None:
    """Any other word in it and there is no such file; the token changes nothing."""
    first, second = await uploaded(sandbox_client), await uploaded(sandbox_client)
    signed = await link(sandbox_client, first)
    wrong = [
        signed.replace(first["id"], second["id"]),
        signed.replace("owner=sandbox", "owner=somebody"),
        signed.replace("expiry=", "expiry=9"),
        signed.replace("expiry=", "expiry=x"),
        signed.partition("&signature")[0],
        signed.partition("?")[0],
    ]
    for each in wrong:
        answer = await sandbox_client.get(each)
        assert (answer.status, answer.json["detail"]) == (404, "File not found")


async def test_parts_of_a_file(sandbox_client: SandboxClient) -> None:
    """A download can be taken up in the middle."""
    signed = await link(sandbox_client, await uploaded(sandbox_client, b"0123456789"))
    answer = await sandbox_client.get(signed, Range="bytes=4-6")
    assert (answer.status, answer.body) == (206, b"456")


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"metadata": "{"}, "metadata"),
        ({"metadata": "[1]"}, "metadata"),
        ({"filename": "\u00e9" * 128}, "filename"),
        ({"metadata": '{"a": "' + "x" * 70_000 + '"}'}, "metadata"),
    ],
)
async def test_invalid_forms_are_refused(
    sandbox_client: SandboxClient, disk: Path, form: dict[str, Any], field: str
) -> None:
    """422 naming the part, and nothing is kept."""
    answer = await upload(sandbox_client, **form)
    assert (answer.status, answer.json["invalid_fields"][0]["field"]) == (422, field)
    assert (await sandbox_client.get("/v1/files")).json["results"] == []


async def test_the_longest_name(sandbox_client: SandboxClient) -> None:
    """255 bytes are taken."""
    assert (await uploaded(sandbox_client, filename="x" * 255))["name"] == "x" * 255


BROKEN = [
    b"",
    b"--b\r\n",
    b"no boundary at all",
    b"--b\r\nContent-Disposition: form-data; name=other\r\n\r\nx\r\n--b--\r\n",
    b"--b\r\nContent-Disposition: form-data; name=content\r\n\r\nx",
    b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\nx\r\n--c--\r\n--b--\r\n",
    b"--b\r\nContent-Disposition: form-data; name=type\r\n\r\n\xff\r\n--b--\r\n",
    b"--b\r\nbroken header\r\n\r\nx\r\n--b--\r\n",
    b"--b\r\nContent-Disposition: form-data; name=content; filename=\xff\r\n\r\nx\r\n--b--\r\n",
]


@pytest.mark.parametrize("body", BROKEN)
async def test_malformed_multipart_bodies(open_sandbox: Opener, disk: Path, body: bytes) -> None:
    """A 4xx, never a 500, and no half of a file stays on disk."""
    async with open_sandbox() as caller:
        kind = "multipart/form-data; boundary=b"
        answer = await caller.send("POST", "/v1/files", body, Content_Type=kind)
        assert answer.status in (400, 422), answer.body
        assert answer.json["status"] == answer.status
        assert stored_files(disk) == []


@pytest.mark.parametrize(
    ("part_headers", "field"),
    [
        (b'content; filename="\xff.png"\r\n', "filename"),
        (b"content\r\nContent-Type: nonsense\r\n", "type"),
        (b"type\r\n\r\na/b\r\nX-Evil: 1", "type"),
    ],
)
async def test_part_headers_that_cannot_be_returned(
    sandbox_client: SandboxClient, part_headers: bytes, field: str
) -> None:
    """A name that is no text, a type that is none or would add a header to a download."""
    head = b"--b\r\nContent-Disposition: form-data; name="
    body = head + part_headers + b"\r\n\r\n--b--\r\n"
    answer = await sandbox_client.send(
        "POST", "/v1/files", body, Content_Type="multipart/form-data; boundary=b"
    )
    assert answer.status == 422
    assert field in [each["field"] for each in answer.json["invalid_fields"]]


async def test_only_multipart_forms_are_accepted(sandbox_client: SandboxClient) -> None:
    """JSON is no way to send a file; a form must have a content."""
    answer = await sandbox_client.send("POST", "/v1/files", {"content": "x"})
    assert answer.status == 400
    answer = await sandbox_client.send(
        "POST", "/v1/files", b"--b--\r\n", Content_Type="multipart/form-data; boundary=b"
    )
    assert answer.status == 422
    assert answer.json["detail"] == "- (root): content is required\n"


async def chunks(size: int) -> AsyncIterator[bytes]:
    """So many bytes, without having them."""
    for _ in range(size // 65_536):
        yield bytes(65_536)
    yield bytes(size % 65_536)


async def test_a_file_can_be_too_large(open_sandbox: Opener, disk: Path) -> None:
    """One byte more than the limit is a 413 with Replicate's words; the limit itself is not."""
    async with open_sandbox(max_upload_bytes=3_000_000) as caller:
        assert (await uploaded(caller, chunks(3_000_000)))["size"] == 3_000_000
        assert len(stored_files(disk)) == 1
        answer = await upload(caller, chunks(3_000_001))
        assert answer.status == 413
        assert answer.json["detail"] == "Files must be less than 100MB in size"
        assert (await upload(caller, chunks(50_000_000))).status == 413
        assert len(stored_files(disk)) == 1


async def test_a_hundred_megabytes(sandbox_client: SandboxClient, disk: Path) -> None:
    """The default limit is Replicate's: this much is taken, from disk to disk."""
    document = await uploaded(sandbox_client, chunks(LIMIT))
    assert document["size"] == LIMIT
    assert document["checksums"]["sha256"] == hashlib.sha256(bytes(LIMIT)).hexdigest()


async def test_the_oldest_files_are_evicted(open_sandbox: Opener, disk: Path) -> None:
    """The last one always stays."""
    async with open_sandbox(keep_upload_bytes=10) as caller:
        ids = [(await uploaded(caller, b"123456"))["id"] for _ in range(3)]
        listed = [each["id"] for each in (await caller.get("/v1/files")).json["results"]]
        assert listed == ids[-1:]
        await uploaded(caller, b"x" * 20)
        assert len(stored_files(disk)) == 1


async def test_files_require_a_token_and_have_no_rate_limit_headers(
    sandbox_client: SandboxClient,
) -> None:
    """As recorded: no ratelimit headers; without a token 401."""
    document = await uploaded(sandbox_client)
    answer = await sandbox_client.get(document["urls"]["get"])
    assert "ratelimit-remaining" not in answer.headers
    for method, path in (("GET", ""), ("POST", ""), ("GET", f"/{document['id']}")):
        answer = await sandbox_client.send(method, "/v1/files" + path, Authorization="")
        assert answer.status == 401


async def test_the_folder_is_removed_at_the_end(open_sandbox: Opener, disk: Path) -> None:
    """The folder goes with the sandbox."""
    async with open_sandbox() as caller:
        await uploaded(caller)
        assert len(stored_files(disk)) == 1
    assert stored_files(disk) == []
