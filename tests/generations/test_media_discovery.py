"""The media in a typed output, whatever shape it comes in; places that are empty stay empty."""

import base64
from datetime import UTC, datetime
from typing import Any

import pytest

from mediagate_server.catalog.plan import OutputKind, OutputShape
from mediagate_server.generations.media_discovery import find_media, main_index

ENDED = datetime(2026, 1, 1, tzinfo=UTC)
A, B, C = (f"https://replicate.delivery/x/{name}.png" for name in "abc")
FILM, SOUND = "https://replicate.delivery/x/f.mp4", "https://replicate.delivery/x/s.wav"
BUCKET = "https://storage.googleapis.com/replicate-files/abc/file"
LOCAL = "http://127.0.0.1:8787/files/a"
URI = "data:image/png;base64,iVBORw0KGgo="
BARE = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(90)).decode()


def found(output: Any, media_type: str = "image/png", asked: int = 1) -> list[str | None]:
    """The links, None for a place that is empty."""
    shape = OutputShape(OutputKind.MEDIA_LIST, media_type=media_type)
    return [one.uri if one else None for one in find_media(output, shape, ENDED, asked)]


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
def test_what_is_found(output: Any, links: list[str]) -> None:
    """In the order in which it stands, what goes along with another behind it."""
    assert found(output) == links


@pytest.mark.parametrize(
    "output",
    [
        None, "", [], {}, [None], [[]], [{}], {"images": []}, {"images": None}, {"images": [None]},
        "I cannot draw that.", "media:0", "data: no", 7, True, {"error": "none"}, "{", "[" * 9_000,
        "A" * 5_000,
    ],
)  # fmt: skip
def test_where_there_is_none(output: Any) -> None:
    """Whatever stands there instead."""
    assert found(output, asked=4) == []


@pytest.mark.parametrize(
    ("output", "asked", "links"),
    [
        ([A, B], 4, [A, B, None, None]),
        ([A, None, B], 3, [A, None, B]),
        ([None, A], 2, [None, A]),
        ([None, A], 4, [None, A, None, None]),
        (["", A, "NSFW"], 3, [None, A, None]),
        ([{"url": A}, {"url": None, "error": "filtered"}], 2, [A, None]),
        ({"images": [A, None, B], "seed": None}, 3, [A, None, B]),
        ({"images": [None, A], "mask": B}, 2, [None, A, B]),
        ([A, B, C], 2, [A, B, C]),
        (A, 2, [A, None]),
    ],
)
def test_places_that_are_empty(output: Any, asked: int, links: list[str | None]) -> None:
    """Indices stay; what is not there is missing at the end."""
    assert found(output, asked=asked) == links


def test_a_film_before_its_thumbnail() -> None:
    """By the names; where they say nothing, by what the files are found to be."""
    shape = OutputShape(OutputKind.MEDIA, media_type="video/mp4")
    assert found([A, FILM], "video/mp4") == [FILM, A]
    assert found({"thumbnail": A, "video": FILM, "audio": SOUND}, "video/mp4") == [FILM, A, SOUND]
    nameless = find_media([LOCAL, LOCAL + "b"], shape, ENDED, 1)
    kept = [one for one in nameless if one]
    assert main_index(kept, "video") == 0
    sniffed = find_media([A, LOCAL], shape, ENDED, 1)
    assert [one.uri for one in sniffed if one] == [LOCAL, A]


def test_the_field_that_the_catalog_names_comes_first() -> None:
    """And where it is not there, all else is looked at."""
    shape = OutputShape(OutputKind.MEDIA_FIELD, "audio_out", "audio/wav")
    for output in ({"audio_out": SOUND, "prompt_npz": B}, {"audio": SOUND}, [SOUND], SOUND):
        assert [one and one.uri for one in find_media(output, shape, ENDED, 1)] == [SOUND]
