"""Outputs that are deep, long or full of what looks like something else: they settle as any other.

What was made is found in them, and nothing of them keeps the event loop or an ending from going on.
"""

import json
from typing import Any

import pytest

from mediagate.v1 import generation_pb2
from tests.builders import text_request
from tests.media.file_server import file

from .scripted_upstream import ScriptedUpstream
from .stubs import Stubs
from .test_output_shapes import PICTURE, TOKENS, check_lost, ends, pictures

State = generation_pb2.Generation


async def test_deeply_nested_json_in_a_text_output(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """It is words: the picture is lost, and the run ends."""
    for levels in (350, 600, 950, 20_000):
        ends(scripted_upstream, '{"a":' * levels + "1" + "}" * levels)
        check_lost(await pictures(stubs), levels)


async def test_an_image_among_thousands_of_entries(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """The only place is the picture's."""
    a = scripted_upstream.files.put("/a.png", file(PICTURE))
    for output in ([a, *[0] * 19_000], [*[0] * 19_000, a], json.dumps([a, *[0] * 19_000])):
        ends(scripted_upstream, output)
        generation = await pictures(stubs)
        assert generation.state == State.STATE_SUCCEEDED, generation.error
        assert [bool(medium.sha256) for medium in generation.images.images] == [True]


@pytest.mark.parametrize(
    "words", ["media:٩", "media:²", "media:9", "media:" + "9" * 5_000, "media:-1"]
)
async def test_text_resembling_a_media_placeholder(
    words: str, scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """In an output that is too large to be decoded where it arrives."""
    a = scripted_upstream.files.put("/a.png", file(PICTURE))
    shapes: list[Any] = [{"images": [a], "note": words}, [a, words], [[words], a]]
    for output in shapes:
        ends(scripted_upstream, [output, {"notes": "x" * 300_000}])
        generation = await pictures(stubs)
        assert generation.state == State.STATE_SUCCEEDED, generation.error
        assert [bool(medium.sha256) for medium in generation.images.images] == [True]


async def test_a_long_text_beside_deeply_nested_values(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """The text is what was made, or it is told that it cannot be read; never a bug."""
    long = "word " * 80_000
    deep: Any = json.loads("[" * 90 + "]" * 90)
    ends(scripted_upstream, {"text": long, "other": deep}, metrics=TOKENS)
    answer = await stubs.text.GenerateText(text_request(prompt="x"))
    assert answer.generation.text.document.size_bytes == len(long)
