"""Resuming a text: wherever a reader goes on, nothing is lost and nothing repeated."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagate_server.errors import StreamExpired
from mediagate_server.generations.streaming.text_buffer import TextBuffer

PIECES = st.lists(st.text(min_size=1, max_size=12), max_size=12)


@given(PIECES, st.data())
def test_reading_from_any_sequence_returns_the_rest(pieces: list[str], data: st.DataObject) -> None:
    """A reader that stops after any chunk and comes back gets exactly the bytes after it."""
    buffer = TextBuffer()
    boundaries = [0]
    for piece in pieces:
        buffer.append(piece)
        boundaries.append(buffer.sequence)
    after = data.draw(st.sampled_from(boundaries))
    full_text = "".join(pieces).encode()
    chunk = buffer.reader(after).read()
    assert (chunk.text.encode() if chunk else b"") == full_text[after:]
    assert buffer.sequence == len(full_text)


@given(PIECES, st.integers(1, 4))
def test_a_slow_reader_gets_one_combined_chunk(pieces: list[str], every: int) -> None:
    """Chunks come in order, their sequences grow, and nothing comes twice."""
    buffer = TextBuffer()
    reader = buffer.reader(0)
    got, reached = [], 0
    for number, piece in enumerate(pieces):
        buffer.append(piece)
        if number % every == 0 and (chunk := reader.read()):
            assert chunk.sequence > reached
            reached = chunk.sequence
            got.append(chunk.text)
    if chunk := reader.read():
        got.append(chunk.text)
    assert "".join(got) == "".join(pieces)
    assert reader.read() is None


def test_a_sequence_within_a_character_is_refused() -> None:
    """Half a letter cannot be continued."""
    buffer = TextBuffer()
    buffer.append("é")
    with pytest.raises(StreamExpired):
        buffer.reader(1).read()


def test_a_sequence_beyond_the_end_is_refused_at_the_end() -> None:
    """While the text grows it may still be reached; at the end it is not there."""
    buffer = TextBuffer()
    buffer.append("abc")
    reader = buffer.reader(9)
    assert reader.read() is None
    with pytest.raises(StreamExpired):
        reader.check_reached()
