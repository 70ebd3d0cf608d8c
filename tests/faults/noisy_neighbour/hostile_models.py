"""Models that answer whatever JSON and HTTP can say: what each one's predictions are like.

Bodies are bytes, made when they are asked for: no encoder would write most of them.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

MEBIBYTE = 1024 * 1024
WORDS = b"a " * 100_000
EVENTS = {
    "streamed-other-words": (b"1:", WORDS, 30),
    "streamed-alone": (b"1:", WORDS, 30),
    "streamed-long-ids": (b"i" * 50_000, b"x", 2_000),
}
"""How an event's id begins, what it says, and how many such a stream has."""
PIECES = {
    "streamed-endless-line": (b"x" * MEBIBYTE, 64),
    "streamed-no-end": (b"x" * MEBIBYTE, 12),
    "streamed-comments": (b": nothing\n" * 10_000, 200),
}
"""What is no event at all, and how often it comes."""
LINK = {"type": "string", "format": "uri"}


@dataclass(frozen=True)
class Prediction:
    """What a hostile model's answer is made of: its id, and where this upstream is."""

    id: str
    root: str

    def document(self, output: str = '"done"', metrics: str = "", **fields: str) -> bytes:
        """A prediction that has succeeded; `output`, `metrics` and the fields are JSON already."""
        common_fields = {
            "id": json.dumps(self.id),
            "model": '"hostile/model"',
            "version": '"hidden"',
            "status": '"succeeded"',
            "input": "{}",
            "logs": '""',
            "error": "null",
            "created_at": '"2026-01-01T00:00:00Z"',
            "started_at": '"2026-01-01T00:00:00Z"',
            "completed_at": '"2026-01-01T00:00:01Z"',
            "output": output,
            "metrics": metrics or '{"predict_time": 1.0}',
            "urls": "{}",
        }
        body = ", ".join(f'"{name}": {value}' for name, value in (common_fields | fields).items())
        return f"{{{body}}}".encode()

    def file(self, name: str) -> str:
        """The address of one of the hostile files, as JSON."""
        return json.dumps(f"{self.root}/hostile/files/{self.id}/{name}")


Body = Callable[[Prediction], bytes]


def _input_of_equal_references() -> dict[str, Any]:
    """1.4 KB that unfold to two to the power of twenty."""
    levels = {
        f"L{n}": {"allOf": [{"$ref": f"#/components/schemas/L{n + 1}"}] * 2} for n in range(20)
    }
    return {**levels, "L20": {"type": "string"}}


BODIES: Mapping[str, Body] = {
    "plain": lambda prediction: prediction.document(),
    "small-values": lambda prediction: prediction.document("[" + "1," * (12 * MEBIBYTE) + "1]"),
    "long-text": lambda prediction: prediction.document('"' + "x" * (30 * MEBIBYTE) + '"'),
    "long-logs": lambda prediction: prediction.document(logs='"' + "y" * (30 * MEBIBYTE) + '"'),
    "nested": lambda prediction: prediction.document("[" * 1_000 + "]" * 1_000),
    "nested-deep": lambda prediction: prediction.document("[" * 200_000 + "]" * 200_000),
    "year-9999": lambda prediction: prediction.document(
        completed_at='"9999-12-31T23:59:59.999999Z"'
    ),
    "year-1": lambda prediction: prediction.document(started_at='"0001-01-01T00:00:00+14:00"'),
    "huge-metrics": lambda prediction: prediction.document(
        metrics='{"token_output_count": 9223372036854775808, "predict_time": 1e13,'
        ' "image_output_count": 2147483648, "token_input_count": -5}'
    ),
    "long-integer": lambda prediction: prediction.document("1" * 400),
    "streamed-alone": lambda prediction: prediction.document("null"),
    "not-a-number": lambda prediction: prediction.document(
        "[NaN, Infinity, -1e400]", metrics='{"x": NaN}'
    ),
    "many-links": lambda prediction: prediction.document(
        "[" + ",".join(prediction.file(f"{number}.png") for number in range(5_000)) + "]"
    ),
    "one-long-key": lambda prediction: prediction.document(
        '{"' + "k" * 50_000 + '": [' + "0," * 20_000 + "0]}"
    ),
    "empty-segments": lambda prediction: prediction.document(prediction.file("segments.jpg")),
    "trickle": lambda prediction: prediction.document(prediction.file("trickle.png")),
    "trickles": lambda prediction: prediction.document(
        "[" + ",".join([prediction.file("trickle.png")] * 64) + "]"
    ),
    "redirects": lambda prediction: prediction.document(prediction.file("around.png")),
}
"""What GET answers, by the model's name."""

SCHEMAS: Mapping[str, Mapping[str, Any]] = {
    "many-links": {"type": "array", "items": LINK},
    "empty-segments": LINK,
    "trickle": LINK,
    "trickles": {"type": "array", "items": LINK},
    "redirects": LINK,
    "streamed": {
        "type": "array",
        "items": {"type": "string"},
        "x-cog-array-type": "iterator",
        "x-cog-array-display": "concatenate",
    },
}
"""The shapes of outputs that are no plain values."""


def model_document(name: str) -> dict[str, Any]:
    """The model's page: it takes any input at all."""
    schemas: dict[str, Any] = {
        "Input": {
            "type": "object",
            "properties": {"prompt": {"type": "string"}, "n": {"type": "integer"}},
            "additionalProperties": True,
        },
        "Output": SCHEMAS.get(_shape(name), {}),
    }
    if name == "references":
        schemas |= _input_of_equal_references()
        schemas["Input"]["properties"]["prompt"] = {"$ref": "#/components/schemas/L0"}
    if name == "wide":
        schemas["Input"]["properties"] |= {
            f"p{number}": {"type": "string", "description": "d" * 50} for number in range(20_000)
        }
    return {
        "owner": "hostile",
        "name": name,
        "is_official": True,
        "visibility": "public",
        "default_example": None,
        "latest_version": {
            "id": "f" * 64,
            "openapi_schema": {"openapi": "3.0.2", "components": {"schemas": schemas}},
        },
    }


def _shape(name: str) -> str:
    return "streamed" if name.startswith("streamed") else name


async def stream_of(name: str) -> AsyncIterator[bytes]:
    """What a streaming model's connection says: too much, or what is no event at all."""
    if name == "streamed-tokens":
        page = b"".join(b"event: output\nid: 1:%d\ndata: x\n\n" % number for number in range(1_000))
        for _ in range(100):
            yield page
    elif name == "streamed-chunks":
        for number in range(2):
            yield b"event: output\nid: 1:%d\ndata: " % number + b"x" * 16_384 + b"\n\n"
    elif name in EVENTS:
        id_begins, data, count = EVENTS[name]
        for number in range(count):
            yield b"event: output\nid: %s%d\ndata: %s\n\n" % (id_begins, number, data)
    else:
        piece, count = PIECES.get(name, (b"", 0))
        for _ in range(count):
            yield piece
    yield b"event: done\ndata: {}\n\n"


def file_of(name: str) -> tuple[bytes, int, float]:
    """A hostile file: a piece of it, how many of those there are, seconds between two."""
    if name == "segments.jpg":
        segments = b"\xff\xe0\x00\x02" * (MEBIBYTE // 4)
        return segments, 40, 0.0
    if name == "trickle.png":
        return b"\x89PNG\r\n\x1a\n", 10_000, 0.2
    return b"\x89PNG\r\n\x1a\n" + bytes(64), 1, 0.0
