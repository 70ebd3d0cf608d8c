"""What became of a generation, as a caller wants to know it."""

from typing import Final

from mediagate.v1.generation_pb2 import Generation
from mediagate.v1.medium_pb2 import Media
from mediagate_client.error_mapping import from_generation
from mediagate_client.errors import still_running
from mediagate_client.requests import UnaryRequest, waits_for_end

TERMINAL: Final = frozenset(
    {Generation.STATE_SUCCEEDED, Generation.STATE_FAILED, Generation.STATE_CANCELLED}
)


def is_terminal(generation: Generation) -> bool:
    """Say whether nothing more will happen to it."""
    return generation.state in TERMINAL


def is_failure(generation: Generation) -> bool:
    """Say whether it FAILED or was CANCELLED."""
    return generation.state in (Generation.STATE_FAILED, Generation.STATE_CANCELLED)


def raise_for_failure(generation: Generation, *, raise_on_failure: bool) -> Generation:
    """Return it, or raise why it FAILED or was CANCELLED."""
    if raise_on_failure and is_failure(generation):
        raise from_generation(generation)
    return generation


def result_of_call(
    generation: Generation, request: UnaryRequest, *, raise_on_failure: bool
) -> Generation:
    """Return what a paid call was answered with, or raise why it FAILED or was CANCELLED.

    Raises DeadlineExceeded, the generation attached, where the call was to wait for the end and its
    own time was over before: the gate answers then with the generation as it stands.
    """
    if waits_for_end(request) and not is_terminal(generation):
        raise still_running(generation)
    return raise_for_failure(generation, raise_on_failure=raise_on_failure)


def media_of(generation: Generation) -> list[Media]:
    """Return the files that it made, the one asked for first, those that are missing left out.

    One without `uri` is kept by the gate: `read_media` and `download` have it.
    """
    match generation.WhichOneof("output"):
        case "images":
            found = list(generation.images.images)
        case "video":
            found = [generation.video.video, *generation.video.other_media]
        case "audio":
            found = [generation.audio.audio, *generation.audio.other_media]
        case "raw":
            found = list(generation.raw.media)
        case _:
            found = []
    return [media for media in found if media.uri or media.id]
