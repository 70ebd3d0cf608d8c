"""The media in a typed output, whatever shape it comes in; places that are empty stay empty."""

import base64
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import pytest

from mediagate_server.catalog.models.model import OutputKind, OutputShape
from mediagate_server.generations.outputs.media_discovery import (
    find_media,
    main_output_index,
    to_medium,
)

ENDED = datetime(2026, 1, 1, tzinfo=UTC)
A, B, C = (f"https://replicate.delivery/x/{name}.png" for name in "abc")
FILM, SOUND = "https://replicate.delivery/x/f.mp4", "https://replicate.delivery/x/s.wav"
BUCKET = "https://storage.googleapis.com/replicate-files/abc/file"
LOCAL = "http://127.0.0.1:8787/files/a"
URI = "data:image/png;base64,iVBORw0KGgo="
BARE = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(90)).decode()


def links_in(output: Any, media_type: str = "image/png", requested: int = 1) -> list[str | None]:
    """The links, None for a place that is empty."""
    shape = OutputShape(OutputKind.MEDIA_LIST, media_type=media_type)
    return [
        medium.uri if medium else None for medium in find_media(output, shape, ENDED, requested)
    ]


@pytest.mark.parametrize(
    ("output", "links"),
    [
        (A, [A]),
        ([A], [A]),
        ([[A]], [A]),
        ([[A, B], [C]], [A, B, C]),
        ([[[[[[A]]]]]], [A]),
        ({"images": [A, B]}, [A, B]),
        ({"images": [{"url": A, "width": 1, "content_type": "image/png"}]}, [A]),
        ([{"url": A}, {"url": B}], [A, B]),
        ({"output": {"image": A}}, [A]),
        ({"image": LOCAL, "seed": 5, "prompt_npz": None}, [LOCAL]),
        ({"whatever": LOCAL}, [LOCAL]),
        ({"uri": A, "url": A}, [A]),
        ({"image": LOCAL, "page": "https://example.com/run"}, [LOCAL]),
        ({"images": [LOCAL], "nsfw": [True], "timings": {"run": 1.5}}, [LOCAL]),
        ({"vocals": LOCAL, "drums": LOCAL + "b"}, [LOCAL, LOCAL + "b"]),
        ({"image": A, "license": "https://example.com/terms"}, [A]),
        ({"image": A, "input": {"image": B}}, [A]),
        ({"thumbnail": B, "image": A}, [A, B]),
        ({"image_url": "https://example.com/x"}, ["https://example.com/x"]),
        ({"b64_json": BARE}, [f"data:image/png;base64,{BARE}"]),
        (BARE, [f"data:image/png;base64,{BARE}"]),
        ([URI], [URI]),
        (BUCKET, [BUCKET]),
        (f'["{A}"]', [A]),
        (f'{{"url": "{A}"}}', [A]),
        ([A, A], [A, A]),
        ([A, "a caption"], [A]),
        (["a caption", A], [A]),
        ([{"seed": 1}, A], [A]),
    ],
)
def test_media_in_all_output_shapes(output: Any, links: list[str]) -> None:
    """In the order in which it stands, what goes along with another behind it."""
    assert links_in(output) == links


@pytest.mark.parametrize(
    "output",
    [
        None, "", [], {}, [None], [[]], [{}], {"images": []}, {"images": None}, {"images": [None]},
        "I cannot draw that.", "media:0", "data: no", 7, True, {"error": "none"}, "{", "[" * 9_000,
        "A" * 5_000,
    ],
)  # fmt: skip
def test_outputs_without_media(output: Any) -> None:
    """Whatever stands there instead."""
    assert links_in(output, requested=4) == []


@pytest.mark.parametrize(
    ("output", "requested", "links"),
    [
        ([A, B], 4, [A, B, None, None]),
        ([A, None, B], 3, [A, None, B]),
        ([None, A], 2, [None, A]),
        ([None, A], 4, [None, A, None, None]),
        (["", A, "NSFW"], 3, [None, A, None]),
        ([{"url": A}, {"url": None, "error": "filtered"}], 2, [A, None]),
        ({"images": [A, None, B], "seed": None}, 3, [A, None, B]),
        ({"images": [None, A], "mask": B}, 2, [None, A, B]),
        ({"output": {"images": [A, None, B]}}, 3, [A, None, B]),
        ([None, A, "words", None, B, 5], 4, [None, A, None, B]),
        ([A, B, C], 2, [A, B, C]),
        (A, 2, [A, None]),
    ],
)
def test_missing_media_keep_their_index(
    output: Any, requested: int, links: list[str | None]
) -> None:
    """Indices stay; what is not there is missing at the end."""
    assert links_in(output, requested=requested) == links


def test_a_video_comes_before_its_thumbnail() -> None:
    """By the names; where they say nothing, by what the files are found to be."""
    shape = OutputShape(OutputKind.MEDIA, media_type="video/mp4")
    assert links_in([A, FILM], "video/mp4") == [FILM, A]
    assert links_in({"thumbnail": A, "video": FILM, "audio": SOUND}, "video/mp4") == [
        FILM,
        A,
        SOUND,
    ]
    nameless = find_media([LOCAL, LOCAL + "b"], shape, ENDED, 1)
    links = [uri for uri in nameless if uri]
    assert main_output_index(links, "video") == 0
    sniffed = find_media([A, LOCAL], shape, ENDED, 1)
    assert [medium.uri for medium in sniffed if medium] == [LOCAL, A]


def test_the_catalogs_output_field_comes_first() -> None:
    """And where it is not there, all else is looked at."""
    shape = OutputShape(OutputKind.MEDIA_FIELD, "audio_out", "audio/wav")
    for output in ({"audio_out": SOUND, "prompt_npz": B}, {"audio": SOUND}, [SOUND], SOUND):
        assert [medium and medium.uri for medium in find_media(output, shape, ENDED, 1)] == [SOUND]


_MANY = 20_000
_LINKS = [f"https://a/{at}" for at in range(_MANY)]


def nested(value: Any, levels: int, key: str = "") -> Any:
    """The value in so many lists, or in objects under a key."""
    for _ in range(levels):
        value = {key: value} if key else [value]
    return value


def lines_run(work: Callable[[], object]) -> int:
    """How many lines and calls of Python something takes: its cost, whatever the machine does."""
    count = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        count += event != "return"
        if count > 100 * _MANY:
            raise AssertionError("it takes more than 100 steps for each entry")
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize(
    ("output", "links"),
    [
        ([A, *[0] * _MANY], [A]),
        ([*[None] * _MANY, A], [A]),
        (nested(_LINKS, 95), _LINKS),
        (nested(_LINKS, 95, "images"), _LINKS),
        (nested(_LINKS, 95, "other"), _LINKS),
        ({f"k{at}": link for at, link in enumerate(_LINKS)}, _LINKS),
    ],
    ids=["words behind", "gaps before", "lists", "objects", "nameless objects", "members"],
)
def test_every_entry_is_visited_once(output: Any, links: list[str]) -> None:
    """However many there are, and however deep they lie: the event loop does it."""
    answers: list[list[str | None]] = []
    lines_run(lambda: answers.append(links_in(output)))
    assert answers == [links]


@pytest.mark.parametrize(
    "text",
    [
        *['{"a":' * levels + f'"{A}"' + "}" * levels for levels in (350, 600, 950, 90_000)],
        *["[" * levels + f'"{A}"' + "]" * levels for levels in (350, 600, 950, 90_000)],
        "[" + "0," * _MANY + f'"{A}"]',
        f'["{A}", "' + "x" * 4 * 1024 * 1024 + '"]',
    ],
    ids=lambda text: f"{text[:2]}{len(text)}",
)
def test_json_in_a_text_is_bounded(text: str) -> None:
    """Those of every output; beyond them it is words."""
    assert links_in(text) == []
    field = OutputShape(OutputKind.MEDIA_FIELD, "audio_out", "audio/wav")
    assert find_media({"audio_out": text}, field, ENDED, 1) == ()
    assert links_in([text, A]) == [A]


def test_long_keys_are_not_media_names() -> None:
    """Which parts of a key name a medium is asked of no more than a name's length."""
    for key in ("url_" * 60_000 + "\n", "_" * 250_000, "thumb-" * 40_000):
        assert links_in({key: LOCAL, "image": A}) == [A]


@pytest.mark.parametrize(
    ("uri", "media_type"),
    [
        ("https://a.b/x.mp4?y=z.png", "video/mp4"),
        ("https://a.b/x.v2.WAV#f.png", "audio/wav"),
        ("https://a.b/x.png/y", "image/webp"),
        ("https://a.png", "image/webp"),
        ("https://[a/x", "image/webp"),
        ("https://a.b/" + "x." * 60_000 + "flac", "audio/flac"),
    ],
)
def test_media_type_by_file_extension(uri: str, media_type: str) -> None:
    """By the end of the address's path; else the one that is expected."""
    assert to_medium(uri, "image/webp", ENDED).media_type == media_type
