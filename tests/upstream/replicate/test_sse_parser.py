"""The event parser: every trap of the format, and the same events however the bytes are split."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagate_server.upstream.port import DoneEvent, ErrorEvent, OutputEvent, StreamEvent
from mediagate_server.upstream.replicate.sse_parser import EventTooLarge, SseParser

LARGEST = 1 << 20


def parse(*reads: bytes) -> list[StreamEvent]:
    parser = SseParser(LARGEST)
    return [event for read in reads for event in parser.feed(read)]


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e"])
def test_only_lf_and_cr_end_lines(character: str) -> None:
    """Characters that other splitters take for line ends stay in the text."""
    text = f"a{character}b"
    assert parse(f"event: output\nid: 1:0\ndata: {text}\n\n".encode()) == [OutputEvent(text, "1:0")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_ending_is_parsed_split_anywhere(end: str) -> None:
    """LF, CR LF and CR, with a read ending after every byte."""
    text = "event: output\nid: 1:0\ndata: a\ndata: b\n\nevent: done\ndata: {}\n\n"
    raw = text.replace("\n", end).encode()
    expected = [OutputEvent("a\nb", "1:0"), DoneEvent()]
    assert parse(raw) == expected
    assert parse(*(raw[i : i + 1] for i in range(len(raw)))) == expected
    for cut in range(len(raw)):
        assert parse(raw[:cut], raw[cut:]) == expected


def test_an_event_is_emitted_by_the_read_that_completes_it() -> None:
    """A CR ends the blank line at once: nothing waits for an LF that may never come."""
    parser = SseParser(LARGEST)
    assert parser.feed(b"event: output\rdata: a\r") == ()
    assert parser.feed(b"\r") == (OutputEvent("a"),)
    assert parser.feed(b"\nevent: output\rdata: b\r\r") == (OutputEvent("b"),)


def test_utf8_split_across_reads_and_invalid_utf8() -> None:
    """A character in two reads is whole; bytes that are none become replacement characters."""
    raw = "event: output\ndata: é😀\n\n".encode()
    for cut in range(len(raw)):
        assert parse(raw[:cut], raw[cut:]) == [OutputEvent("é😀")]
    assert parse(b"event: output\ndata: a\xf0\x9f\n\n") == [OutputEvent("a\ufffd")]


def test_byte_order_mark_counts_only_at_the_start() -> None:
    """One mark before the first event is no part of it; a later one is text."""
    raw = b"\xef\xbb\xbfevent: output\ndata: a\n\nevent: output\ndata: \xef\xbb\xbfb\n\n"
    for cut in range(len(raw)):
        assert parse(raw[:cut], raw[cut:]) == [OutputEvent("a"), OutputEvent("\ufeffb")]


def test_comments_unknown_events_logs_and_retry_are_ignored() -> None:
    """None of them is output, and none of their data leaks into the next event."""
    raw = (
        b": hi\n\n"
        b":408: 408 Request Timeout\n\n"
        b"event: logs\nid: 1:0\ndata: secret\n\n"
        b"event: novelty\ndata: x\n\n"
        b"data: no name\n\n"
        b"retry: 10\n\n"
        b"event: output\n: between\nretry: 5\ndata: a\nunknown: y\nnocolon\n\n"
    )
    assert parse(raw) == [OutputEvent("a")]


COG = (
    b'event: start\ndata: {"id":"p","status":"processing"}\n\n'
    b'event: log\ndata: {"source":"stdout","data":"secret"}\n\n'
    b'event: output\ndata: {"chunk":"On\\n","index":0}\n\n'
    b": keep-alive\n\n"
    b'event: metric\ndata: {"name":"a","value":[1],"mode":"replace"}\n\n'
    b'event: output\ndata: {"index":1,"chunk":"ions"}\n\n'
    b'event: output\ndata: {"chunk":"","index":2}\n\n'
    b'event: output\ndata: {"chunk":{"a":1},"index":3}\n\n'
)


@pytest.mark.parametrize(
    ("status", "reason"),
    [("succeeded", ""), ("failed", "error"), ("canceled", "canceled"), ("aborted", "canceled")],
)
def test_cogs_dialect(status: str, reason: str) -> None:
    """JSON chunks, numbered in place of ids; the end is the whole prediction."""
    end = f'event: completed\ndata: {{"id":"p","status":"{status}","output":["x"]}}\n\n'.encode()
    expected = [
        OutputEvent("On\n", "0:0"),
        OutputEvent("ions", "0:1"),
        OutputEvent('{"a":1}', "0:3"),
        DoneEvent(reason),
    ]
    assert parse(COG + end) == expected
    assert parse(*(bytes([each]) for each in COG + end)) == expected


@pytest.mark.parametrize(
    "text",
    ['{"chunk":"x","index":0}', '{"chunk":"x"}', '{"chunk":"x","index":-1}', "{", '{"a":1}'],
)
def test_text_resembling_cogs_dialect_stays_text(text: str) -> None:
    """With an id always, as Replicate's events have one; without, unless it is just so."""
    assert parse(f"event: output\nid: 1:0\ndata: {text}\n\n".encode()) == [OutputEvent(text, "1:0")]
    if text != '{"chunk":"x","index":0}':
        assert parse(f"event: output\ndata: {text}\n\n".encode()) == [OutputEvent(text)]
    assert parse(b"event: completed\ndata: x\n\nevent: completed\ndata: {}\n\n") == []


def test_ids_are_not_carried_over_to_later_events() -> None:
    """An id is not carried to events that came without; a NUL makes it none."""
    raw = (
        b"event: output\nid: 7:0\ndata: a\n\n"
        b"event: output\ndata: b\n\n"
        b"id: 7:1\nevent: output\ndata: c\n\n"
        b"event: output\nid: 7\x00:2\ndata: d\n\n"
        b"event: output\nid\ndata: e\n\n"
    )
    assert parse(raw) == [
        OutputEvent("a", "7:0"),
        OutputEvent("b"),
        OutputEvent("c", "7:1"),
        OutputEvent("d"),
        OutputEvent("e"),
    ]


def test_spaces_and_colons_in_data() -> None:
    """Exactly one space after the colon goes; none is needed; the rest is text."""
    raw = (
        b"event:output\ndata:a\n\n"
        b"event: output\ndata:  b: c\n\n"
        b"event: output\nid: 1\ndata:d\ndata: e\n\n"
        b"event: output\ndata: \ndata: \n\n"
        b"event: output\ndata\ndata: f\n\n"
    )
    assert [event.text for event in parse(raw) if isinstance(event, OutputEvent)] == [
        "a",
        " b: c",
        "d\ne",
        "\n",
        "\nf",
    ]


def test_empty_output_makes_no_event() -> None:
    """Neither an empty data line nor a missing one makes an event."""
    assert parse(b"event: output\nid: 1:0\ndata: \n\nevent: output\nid: 1:1\n\n") == []


def test_urls_are_plain_text() -> None:
    """Tokens that look like files stay what they are."""
    raw = b"event: output\ndata: https:\n\nevent: output\ndata: data:,\n\n"
    assert parse(raw) == [OutputEvent("https:"), OutputEvent("data:,")]


def test_an_incomplete_last_event_is_dropped() -> None:
    """Only a blank line completes an event."""
    assert parse(b"event: output\ndata: a\n\nevent: output\ndata: b\n") == [OutputEvent("a")]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{}", ""),
        (b"", ""),
        (b'{"reason":null}', ""),
        (b'{"reason": "canceled"}', "canceled"),
        (b'{"reason": "error"}', "error"),
        (b'{"reason": "meteorite"}', "error"),
        (b"canceled", "canceled"),
        (b'"error"', "error"),
        (b"[1]", ""),
        (b"{broken", ""),
        (b"bye", ""),
    ],
)
def test_done_reasons(data: bytes, reason: str) -> None:
    """The reason is read from JSON or from the bare words."""
    assert parse(b"event: done\ndata: " + data + b"\n\n") == [DoneEvent(reason)]


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b'{"detail": "out of memory"}', "out of memory"),
        (b"bare words", "bare words"),
        (b'{"detail": 5}', '{"detail": 5}'),
        (b"[]", "[]"),
        (b"", ""),
    ],
)
def test_error_details(data: bytes, detail: str) -> None:
    """`detail` of a JSON object, otherwise the text itself."""
    assert parse(b"event: error\ndata: " + data + b"\n\n") == [ErrorEvent(detail)]


@pytest.mark.parametrize("read", [b"x" * 40, b"data: x\n", b"\xf0"])
def test_an_oversized_event_is_an_error(read: bytes) -> None:
    """What is kept for later is bounded, whatever it is made of."""
    parser = SseParser(100)

    def flood() -> None:
        for _ in range(101):
            parser.feed(read)

    with pytest.raises(EventTooLarge):
        flood()


def test_the_size_limit_applies_to_single_events() -> None:
    """The bound is on what is unfinished, not on what a stream holds."""
    parser = SseParser(64)
    event = b"event: output\nid: 1:1\ndata: tok\n\n"
    assert sum(len(parser.feed(event * 3 + event[:20] + event[20:])) for _ in range(50)) == 200


def by_the_letter(raw: bytes) -> list[StreamEvent]:  # noqa: C901, PLR0912 - as the format tells it
    """The format's own algorithm, a byte at a time; slow and independent of the parser."""
    if raw.startswith(b"\xef\xbb\xbf"):
        raw = raw[3:]
    lines, line, index = [], bytearray(), 0
    while index < len(raw):
        if raw[index] in b"\r\n":
            lines.append(bytes(line))
            line.clear()
            index += 2 if raw[index : index + 2] == b"\r\n" else 1
        else:
            line.append(raw[index])
            index += 1
    events: list[StreamEvent] = []
    name, event_id, data = "", "", list[str]()
    for each in (ended.decode("utf-8", "replace") for ended in lines):
        if not each:
            text = "\n".join(data)
            if name == "output" and text:
                events.append(OutputEvent(text, event_id))
            elif name == "done":
                events.append(DoneEvent())
            elif name == "error":
                events.append(ErrorEvent(text))
            name, event_id, data = "", "", []
            continue
        if each.startswith(":"):
            continue
        field, value = each.split(":", 1) if ":" in each else (each, "")
        value = value[1:] if value[:1] == " " else value
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif field == "id" and "\0" not in value:
            event_id = value
    return events


PIECES = st.sampled_from(
    [
        *(b"\n", b"\r", b"\r\n", b"\n\n", b": hi\n", b"\xef\xbb\xbf", b" "),
        *(b"event: output\n", b"event: done\n", b"event: error\n", b"event: logs\n"),
        *(b"data: tok\n", b"data:tok\r\n", b"data: \n", b"data\n", b"data: \xff\n"),
        *(b"data: \xe2\x80\xa8x\n", b"data: \xf0\x9f\x98\x80\n"),
        *(b"id: 1:2\n", b"id: \x00\n", b"retry: 3\n"),
        b"event: output\nid: 9:1\ndata: t\n\n",
    ]
)
STREAMS = st.lists(PIECES | st.binary(max_size=6), max_size=25).map(b"".join)


@given(STREAMS, st.lists(st.integers(0, 400), max_size=12))
def test_any_split_of_any_bytes_yields_the_same_events(raw: bytes, cuts: list[int]) -> None:
    """Reads may end anywhere; the events are those that the format's own algorithm gives."""
    boundaries = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
    reads = [raw[a:b] for a, b in pairwise(boundaries)]
    assert parse(*reads) == parse(raw) == by_the_letter(raw)
