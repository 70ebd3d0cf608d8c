"""Values are found, passed over and taken out by their bytes as a JSON parser finds them."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mediagate_server.generations.outputs.media_discovery import extract_media
from mediagate_server.upstream.documents import (
    json_extraction,
    json_member_filter,
    json_skip_scanner,
)
from mediagate_server.upstream.documents.json_skip_scanner import (
    MalformedJson,
    scan_items,
    scan_members,
    scan_value,
)
from mediagate_server.upstream.documents.output_text import find_text

TEXT = st.text(alphabet='ab"\\{}[],: \né😀漢', max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=40,
)
ANY_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def _small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every value lies across several windows."""
    monkeypatch.setattr(json_skip_scanner, "_WINDOW", 16)
    monkeypatch.setattr(json_skip_scanner, "_FIRST_WINDOW", 4)
    monkeypatch.setattr(json_extraction, "_WINDOW", 24)


def entries(value: Any) -> int:
    """Commas and brackets."""
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return 0
    return 1 + max(len(value) - 1, 0) + sum(map(entries, value))


@given(VALUES, st.sampled_from(["", ",", "]}", " \n"]), st.booleans(), st.sampled_from([None, 1]))
def test_the_end_of_a_value_agrees_with_a_parser(
    value: Any, after: str, ascii_only: bool, indent: int | None
) -> None:
    """Whatever is in its strings, and whatever follows."""
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    data = b"  " + text + after.encode()
    extracted = scan_value(data, 0)
    assert data[extracted.begin : extracted.end] == text
    assert extracted.entries == entries(value)


@given(st.dictionaries(TEXT, VALUES, max_size=6), st.lists(VALUES, max_size=6))
def test_members_and_items(an_object: dict[str, Any], an_array: list[Any]) -> None:
    """Each by itself."""
    data = json.dumps(an_object).encode()
    read = {name: json.loads(data[span.begin : span.end]) for name, span in scan_members(data, 0)}
    assert read == an_object
    data = json.dumps(an_array, indent=1).encode()
    assert [json.loads(data[span.begin : span.end]) for span in scan_items(data, 0)] == an_array


@given(st.dictionaries(TEXT, VALUES, min_size=1, max_size=6), st.data())
def test_truncated_json_is_malformed(an_object: dict[str, Any], data: st.DataObject) -> None:
    """Anywhere."""
    document = json.dumps(an_object).encode()
    cut = document[: data.draw(st.integers(0, len(document) - 1))]
    with pytest.raises(MalformedJson):
        for _ in scan_members(cut, 0):
            pass


def test_depth_and_length_are_unbounded() -> None:
    """A million levels, a million values."""
    for text in (b"[" * 10**6 + b"]" * 10**6, b"[" + b'"",' * 10**6 + b"0]"):
        assert scan_value(text, 0).size == len(text)


@ANY_FOLDER
@given(value=st.one_of(TEXT, st.lists(TEXT, max_size=6)), begins=st.integers(0, 100), plain=...)
def test_text_is_extracted_unchanged(
    value: str | list[str], begins: int, plain: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A string, or pieces of one; and whether it begins as it should."""
    folder = tmp_path_factory.mktemp("text")
    data = b'{"output": ' + json.dumps(value, ensure_ascii=plain).encode() + b"}"
    (folder / "body").write_bytes(data)
    ((_, span),) = scan_members(data, 0)
    text = (value if isinstance(value, str) else "".join(value)).encode()
    order = {
        "path": str(folder / "body"),
        "target": str(folder / "text"),
        "begin": span.begin,
        "end": span.end,
        "prefix_size": len(text[:begins]),
        "prefix_sha256": hashlib.sha256(text[:begins]).hexdigest(),
    }
    extracted = json.loads(json_extraction.extract_text(json.dumps(order).encode()))
    assert (folder / "text").read_bytes() == text
    assert extracted == {"size": len(text), "prefix": True}


@pytest.mark.parametrize("value", [None, {}, [None]])
def test_values_that_are_not_text(value: Any, tmp_path: Path) -> None:
    """Nothing is taken for one."""
    assert _written_text(value, tmp_path) is None


@pytest.mark.parametrize(
    "value",
    [
        1,
        {"a": "b"},
        ["a", 1],
        [["a"], ["b"]],
        ["a", None, "b"],
        {"text": "x" * 3_000},
        [*["long " * 10] * 50, {"text": "é\U0001f600"}],
    ],
)
def test_nested_text_is_extracted_as_in_a_small_response(value: Any, tmp_path: Path) -> None:
    """What was written before the shape was seen is gone."""
    assert _written_text(value, tmp_path) == find_text(value)


def _written_text(value: Any, folder: Path) -> str | None:
    data = json.dumps(value).encode()
    (folder / "body").write_bytes(data)
    order = {"path": str(folder / "body"), "target": str(folder / "text")}
    order |= {"begin": 0, "end": len(data), "prefix_size": 0, "prefix_sha256": ""}  # type: ignore[dict-item]
    extracted = json.loads(json_extraction.extract_text(json.dumps(order).encode()))
    return (folder / "text").read_text() if extracted else None


def test_media_urls_are_extracted_from_a_value(tmp_path: Path) -> None:
    """Those at the host that delivers outputs, where they are values."""
    link = "https://replicate.delivery/a/b.png"
    value = {
        "a": [link, "https://pbxt.replicate.delivery/c", f'say "{link}"', "https://elsewhere/x"],
        link: f"see {link}",
        "more": [link] * 3,
    }
    data = json.dumps(value).encode()
    (tmp_path / "body").write_bytes(data)
    order = {"path": str(tmp_path / "body"), "target": str(tmp_path / "json")}
    order |= {"begin": 0, "end": len(data), "media": [], "anywhere": True, "typed": False}  # type: ignore[dict-item]
    extracted = json.loads(json_extraction.extract_json(json.dumps(order).encode()))
    assert [medium["uri"] for medium in extracted["media"]] == [
        link,
        "https://pbxt.replicate.delivery/c",
        link,
        link,
        link,
    ]
    assert json.loads((tmp_path / "json").read_bytes()) == {
        "a": ["media:0", "media:1", f'say "{link}"', "https://elsewhere/x"],
        link: f"see {link}",
        "more": ["media:2", "media:3", "media:4"],
    }


def test_a_models_text_is_not_taken_for_a_placeholder(tmp_path: Path) -> None:
    """However they are written; keys, and what only contains such words, are as they were."""
    body = (
        b'{"media:1": "media:0", "a": ["text:media:7", "text:words", "media:x", "t"],'
        b'"b": "\\u006dedia:\\u0030", "c": "see media:0", "d": "https://replicate.delivery/a",'
        b'"e": "say \\"media:0\\"", "t": "media:12"}'
    )
    (tmp_path / "body").write_bytes(body)
    order = {"path": str(tmp_path / "body"), "target": str(tmp_path / "json")}
    order |= {"begin": 0, "end": len(body), "media": [], "anywhere": True, "typed": False}  # type: ignore[dict-item]
    extracted = json.loads(json_extraction.extract_json(json.dumps(order).encode()))
    written = (tmp_path / "json").read_bytes()
    assert extracted["size"] == len(written)
    assert json.loads(written) == {
        "media:1": "text:media:0",
        "a": ["text:text:media:7", "text:words", "media:x", "t"],
        "b": "text:media:0",
        "c": "see media:0",
        "d": "media:0",
        "e": 'say "media:0"',
        "t": "text:media:12",
    }
    small = extract_media(json.loads(body), [], "", datetime(2026, 1, 1, tzinfo=UTC))
    assert small.value == json.loads(written)


def test_plain_text_in_uri_fields_stays_text(tmp_path: Path) -> None:
    """`format: uri` is a promise of the schema's, not of the model's."""
    value = ["no link", "", "data: a, b", "https://a b", "HTTPS://x.example/a", "data:,x"]
    data = json.dumps(value).encode()
    (tmp_path / "body").write_bytes(data)
    order = {"path": str(tmp_path / "body"), "target": str(tmp_path / "json")}
    order |= {"begin": 0, "end": len(data), "media": [["*"]], "anywhere": False, "typed": False}  # type: ignore[dict-item]
    extracted = json.loads(json_extraction.extract_json(json.dumps(order).encode()))
    expected = [*value[:4], "media:0", "media:1"]
    assert [medium["uri"] for medium in extracted["media"]] == value[4:]
    assert json.loads((tmp_path / "json").read_bytes()) == expected
    small = extract_media(value, [("*",)], "", datetime(2026, 1, 1, tzinfo=UTC))
    assert small.value == expected


def test_a_large_prediction_is_reduced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To what is read of it; an error to its beginning; the last of two outputs counts."""
    monkeypatch.setattr(json_member_filter, "_MOST_OF_A_FIELD", 32)
    monkeypatch.setattr(json_member_filter, "MAX_INLINE_BYTES", 32)
    path = tmp_path / "body"
    path.write_text(
        '{"id": "p", "output": [1], "logs": "short", "input": {"x": "y"}, "version": "v",'
        ' "error": "NSFW \\u00e4\\\\ content was detected and more", "metrics": {"a": 0.10},'
        ' "output": [' + "1, " * 50 + "2]}"
    )
    positions, _, document = json_member_filter.reduce_prediction(str(path).encode()).partition(
        b"\n"
    )
    extracted = json.loads(document)
    assert extracted.pop("error").startswith("NSFW ä\\ con")
    assert extracted == {"id": "p", "logs": "short", "metrics": {"a": 0.1}}
    begin, end, _ = json.loads(positions)["output"]
    assert json.loads(path.read_bytes()[begin:end])[-1] == 2


@pytest.mark.parametrize("shift", range(7))
@pytest.mark.parametrize("escape", ["\\\\", '\\"', "\\u00e4", "\\n"])
def test_a_long_error_is_cut_between_escapes(
    shift: int, escape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it is cut: half an escape would take the quote behind it, and the id with that."""
    monkeypatch.setattr(json_member_filter, "_MOST_OF_A_FIELD", 32)
    monkeypatch.setattr(json_member_filter, "MAX_INLINE_BYTES", 32)
    path = tmp_path / "body"
    text = '"' + "x" * shift + escape * 50 + '"'
    path.write_text(f'{{"error": {text}, "logs": {text}, "id": "p"}}')
    _, _, document = json_member_filter.reduce_prediction(str(path).encode()).partition(b"\n")
    extracted = json.loads(document)
    assert extracted["id"] == "p"
    assert json.loads(text).startswith(extracted["error"])
    assert json.loads(text).startswith(extracted["logs"].partition("\n\n[")[0])
