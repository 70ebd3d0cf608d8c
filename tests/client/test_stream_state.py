"""A streamed text over all its connections, as a pure state."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagate.v1.text_pb2 import StreamTextRequest, TextDelta, ToolCallDelta
from mediagate_client.errors import StreamLost
from mediagate_client.events import TextEvent
from mediagate_client.stream_info import TextStreamInfo
from mediagate_client.stream_state import StreamState

from .stream_events import completed, delta, started, status, stream_events

PIECES = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=12)


def request() -> StreamTextRequest:
    return StreamTextRequest(request_id="r-1", prompt="Why?")


@given(PIECES, st.lists(st.integers(0, 15), max_size=10), st.booleans())
def test_pieces_are_neither_lost_nor_repeated(
    pieces: list[str], cuts: list[int], forgetful: bool
) -> None:
    """However often a text is cut, its pieces add up to it, even if a server repeats itself."""
    state = StreamState(request())
    heard = ""
    for cut in [*cuts, 1000]:
        sent = state.next_request()
        assert sent.request_id == "r-1"
        after = 0 if forgetful else sent.after_sequence
        for message in list(stream_events(pieces, after))[:cut]:
            heard += state.receive(message) or ""
        if state.completed:
            break
    assert heard == "".join(pieces)
    assert state.completed is not None


def test_the_first_request_is_the_callers_own() -> None:
    """A caller who goes on with a text of another process begins where that one stood."""
    mine = request()
    mine.after_sequence = 7
    state = StreamState(mine)
    assert state.next_request() == mine
    assert state.receive(delta("old", 7)) is None
    assert state.receive(delta("new", 10)) == "new"
    assert state.next_request().after_sequence == 10
    assert mine.after_sequence == 7


def test_texts_of_two_runs_are_not_joined() -> None:
    """Half of one text and half of another are worse than an error."""
    state = StreamState(request())
    state.receive(started("g-1"))
    state.receive(delta("one", 3))
    with pytest.raises(StreamLost) as raised:
        state.receive(started("g-2"))
    assert raised.value.request_id == "r-1"


def test_a_text_that_had_not_started_may_restart() -> None:
    """A generation that nobody took gives its request_id back; the next try is another one."""
    state = StreamState(request())
    state.receive(started("g-1"))
    state.receive(started("g-2"))
    assert state.generation_id == "g-2"


def test_status_and_completion_are_attributes() -> None:
    """Status and completion are no pieces of text, and are there to be asked for."""
    state = StreamState(request())
    assert state.generation_id == ""
    assert [state.receive(m) for m in (started(), status(4), completed(0))] == [None] * 3
    assert state.status is not None
    assert state.status.queue_position == 4
    cost = TextStreamInfo(state).cost
    assert cost is not None
    assert cost.usd_nanos == 12_000


def test_a_piece_is_a_string() -> None:
    """Pieces join to the answer; reasoning and tool calls travel beside it as empty strings."""
    text = TextEvent(TextDelta(text="sky"), 3)
    thought = TextEvent(TextDelta(reasoning="hm"), 5)
    call = TextEvent(TextDelta(tool_call=ToolCallDelta(name="look")), 9)
    pieces = [text, thought, call]
    assert "".join(pieces) == "sky"
    assert (text.text, text.sequence, text.tool_call) == ("sky", 3, None)
    assert (thought.text, thought.reasoning) == ("", "hm")
    assert call.tool_call is not None
    assert call.tool_call.name == "look"
