"""Outputs of models that nobody knows: links become media, everything else stays as it was."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf import json_format, struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from mediagate_server.generations.outputs.media_discovery import extract_media
from mediagate_server.media.output_archiver import UPSTREAM_LINK_LIFETIME

NOW = datetime(2026, 11, 24, tzinfo=UTC)
LINK = "https://x.example/a.png"
BUCKET = "https://storage.googleapis.com/replicate-files"


@pytest.mark.parametrize(
    ("output", "paths", "value", "links"),
    [
        (LINK, [[]], "media:0", [LINK]),
        (LINK, [], LINK, []),
        ([LINK, "", LINK], [["*"]], ["media:0", "", "media:1"], [LINK, LINK]),
        ({"a": LINK, "b": LINK}, [["b"]], {"a": LINK, "b": "media:0"}, [LINK]),
        ({"a": {"x": LINK}}, [["*", "x"]], {"a": {"x": "media:0"}}, [LINK]),
        ({"a": [{"u": LINK}]}, [["a", "*", "u"]], {"a": [{"u": "media:0"}]}, [LINK]),
        ({"a": 5}, [["a"]], {"a": 5}, []),
        (None, [[]], None, []),
        ("data:audio/wav;base64,UklG", [], "media:0", ["data:audio/wav;base64,UklG"]),
        ("data: none", [], "data: none", []),
        ("https://replicate.delivery/x", [], "media:0", ["https://replicate.delivery/x"]),
        ("https://replicate.delivery.evil/x", [], "https://replicate.delivery.evil/x", []),
        ("http://replicate.delivery/x", [], "http://replicate.delivery/x", []),
        ("https://[", [], "https://[", []),
        ("no link", [[]], "no link", []),
        (["a word", LINK, "data: x, y"], [["*"]], ["a word", "media:0", "data: x, y"], [LINK]),
        ("media:0", [[]], "text:media:0", []),
        (["media:0", LINK], [["*"]], ["text:media:0", "media:0"], [LINK]),
        ({"media:0": "text:media:12"}, [], {"media:0": "text:text:media:12"}, []),
        (
            ["media:x", "media:", "media:1 ", "MEDIA:1"],
            [],
            ["media:x", "media:", "media:1 ", "MEDIA:1"],
            [],
        ),
        (
            {"vocals": f"{BUCKET}/a/file", "no_vocals": f"{BUCKET}/b/file"},
            [],
            {"vocals": "media:0", "no_vocals": "media:1"},
            [f"{BUCKET}/a/file", f"{BUCKET}/b/file"],
        ),
        (f"{BUCKET}/../x", [], f"{BUCKET}/../x", []),
        (f"{BUCKET}/%2e%2e/x", [], f"{BUCKET}/%2e%2e/x", []),
        (f"{BUCKET}-other/x", [], f"{BUCKET}-other/x", []),
    ],
)
def test_media_urls_are_extracted(
    output: Any, paths: list[list[str]], value: Any, links: list[str]
) -> None:
    """Where the schema has them, and those that can be nothing else."""
    lifted = extract_media(output, paths, "", NOW)
    assert lifted.value == value
    assert [medium.uri for medium in lifted.media] == links
    for medium in lifted.media:
        assert medium.expires_at == (
            None if medium.uri.startswith("data:") else NOW + UPSTREAM_LINK_LIFETIME
        )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=30,
)


@given(JSON)
def test_output_without_media_is_unchanged(output: Any) -> None:
    """Nothing is lost, added or reordered."""
    assert extract_media(output, [], "", NOW).value == output


@given(st.integers(0, 300), st.booleans())
def test_output_of_any_depth_fits_a_message(depth: int, lists: bool) -> None:
    """What lies too deep for parsers becomes text, and is still all there."""
    output: Any = "end"
    for _ in range(depth):
        output = [output] if lists else {"k": output}
    value = extract_media(output, [], "", NOW).value
    carried = json_format.ParseDict(value, struct_pb2.Value()).SerializeToString()
    read: Any = json_format.MessageToDict(struct_pb2.Value.FromString(carried))
    for _ in range(depth):
        if isinstance(read, str):
            read = json.loads(read)
        read = read[0] if lists else read["k"]
    assert read == "end"
