"""Media that have still to be had: found by their path, and replaced by links. Nothing else is."""

from collections.abc import Mapping
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from mediagate_server.catalog.planning import request_media
from mediagate_server.catalog.request import (
    InlineSource,
    Lora,
    MediaInput,
    Message,
    Modality,
    ModelRequest,
    OutputSource,
    Size,
    UploadSource,
    Value,
)
from mediagate_server.structs import replace

SOURCES = (
    UploadSource("upl_1"),
    OutputSource("gen_1", 2),
    InlineSource(b"bytes", "image/png"),
    None,
)
MEDIUM = st.sampled_from(SOURCES).map(lambda source: MediaInput("https://a.example/", source))
MESSAGE = st.builds(
    Message,
    st.just("user"),
    st.lists(st.text(max_size=3) | MEDIUM, max_size=4).map(tuple),
    st.integers(0, 2),
)
VALUE = (
    MEDIUM
    | st.lists(MEDIUM, max_size=4).map(tuple)
    | st.lists(MESSAGE, max_size=3).map(tuple)
    | st.sampled_from(
        cast("list[Value]", ["x", 1, 1.5, True, Size(1, 2), ("a", "b"), (Lora("o/n", 1.0),), ()])
    )
)
REQUEST = st.dictionaries(st.sampled_from("abcdef"), VALUE).map(
    lambda parameters: ModelRequest(Modality.IMAGE, "", parameters)
)


@given(request=REQUEST)
def test_media_urls_are_inserted_and_removed(request: ModelRequest) -> None:
    """Afterwards none is missing, and taking the links out again gives the request as it was."""
    missing = request_media.unresolved_media(request)
    links = {path: f"https://link.example/{path}" for path in missing}
    linked = request_media.resolve_media(request, links)
    assert request_media.unresolved_media(linked) == {}
    assert repr(linked).count("https://link.example/") == len(missing)
    sources = {links[path]: source for path, source in missing.items()}
    restored = {name: _restored(value, sources) for name, value in linked.parameters.items()}
    assert replace(linked, parameters=restored) == request


def _restored(value: object, sources: Mapping[str, object]) -> Value:
    if isinstance(value, MediaInput) and value.uri in sources:
        return MediaInput("https://a.example/", sources[value.uri])  # type: ignore[arg-type]
    if isinstance(value, Message):
        parts = tuple(_restored(part, sources) for part in value.parts)
        return cast("Value", replace(value, parts=parts))  # type: ignore[arg-type]
    if isinstance(value, tuple):
        return cast("Value", tuple(_restored(item, sources) for item in value))
    return cast("Value", value)


def test_media_paths_follow_the_contract() -> None:
    """As a caller finds them in the request that was sent."""
    medium = MediaInput(request_media.PLACEHOLDER, UploadSource("upl_1"))
    request = ModelRequest(
        Modality.TEXT,
        "",
        {
            "first_frame": medium,
            "reference_images": (MediaInput("https://a.example/b"), medium),
            "messages": (Message("user", ("a",)), Message("user", ("b", medium))),
        },
    )
    assert list(request_media.unresolved_media(request)) == [
        "first_frame",
        "reference_images[1]",
        "messages[1].parts[1].image",
    ]
    assert request_media.source_field("mask", UploadSource("upl_1")) == "mask.upload_id"
    assert request_media.source_field("mask", OutputSource("gen_1", 0)) == "mask.output"
    assert request_media.source_field("mask", InlineSource(b"x", "image/png")) == "mask.inline"
