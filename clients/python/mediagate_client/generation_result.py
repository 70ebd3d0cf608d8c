"""Results of generations: terminal states, failures as exceptions, output files."""

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
    """Whether a generation is in a terminal state."""
    return generation.state in TERMINAL


def is_failure(generation: Generation) -> bool:
    """Whether a generation is FAILED or CANCELLED."""
    return generation.state in (Generation.STATE_FAILED, Generation.STATE_CANCELLED)


def raise_for_failure(generation: Generation, *, raise_on_failure: bool) -> Generation:
    """Raise the typed error of a FAILED or CANCELLED generation, else return it."""
    if raise_on_failure and is_failure(generation):
        raise from_generation(generation)
    return generation


def result_of_call(
    generation: Generation, request: UnaryRequest, *, raise_on_failure: bool
) -> Generation:
    """Return the generation of a billable call, or raise its typed error.

    Raises DeadlineExceeded, the generation attached, where the call was to wait for the end and its
    own time was over before: the server answers then with the running generation.
    """
    if waits_for_end(request) and not is_terminal(generation):
        raise still_running(generation)
    return raise_for_failure(generation, raise_on_failure=raise_on_failure)


def media_of(generation: Generation) -> list[Media]:
    """Return the output files of a generation, the main one first, without missing ones.

    One without `uri` is stored by the server: `read_media` and `download` get it.
    """
    match generation.WhichOneof("output"):
        case "images":
            media = list(generation.images.images)
        case "video":
            media = [generation.video.video, *generation.video.other_media]
        case "audio":
            media = [generation.audio.audio, *generation.audio.other_media]
        case "raw":
            media = list(generation.raw.media)
        case _:
            media = []
    return [medium for medium in media if medium.uri or medium.id]
