"""JSON of upstream's, as it should be and then not: built as text, so that it can be anything."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from random import Random
from typing import Final

Members = list[tuple[str, str]]
"""Name and value of each member of an object, both as JSON text."""

_NUMBERS = """
    0 -0 1 -1 0.1 -3.5 1e-31 1e30 1e31 1e308 1e309 -1e400 1E400 1e-400 NaN Infinity -Infinity
    2147483647 2147483648 -2147483649 4294967296 9007199254740992 9007199254740993
    9223372036854775807 9223372036854775808 -9223372036854775809 18446744073709551615
    18446744073709551616 1e999999999999999999 9.99999999999999999999999999999999
"""
_TIMES: Final = (
    "2026-11-30T00:00:00Z",
    "2026-11-30T00:00:00.123456789Z",
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-23:59",
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "1970-01-01T00:00:00Z",
    "1969-12-31T23:59:59Z",
    "2262-04-12T00:00:00Z",
    "2016-12-31T23:59:60Z",
    "2026-02-30T00:00:00Z",
    "2026-W01-1",
    "20261130T000000",
    "10000-01-01T00:00:00Z",
    "-0001-01-01T00:00:00Z",
    "2026-11-30T00:00:00+99:99",
    "now",
    "",
)
_WORDS: Final = (
    '""',
    '"x"',
    '"\\u0000"',
    '"\\ud800"',
    '"\\udfff\\ud800"',
    '"\x01"',
    '"\x7f"',
    '"\\ufeff"',
    '"\U0001f600"',
    '"null"',
    '"1e400"',
    '"data:image/png;base64,iVBORw0KGgo="',
    '"data:text/html\\r\\nX-A: b;base64,aGk="',
    '"data:,"',
    '"data:;base64,%%%"',
    '"data:image/png;base64"',
    '"http://127.0.0.1:1/x"',
    '"https://[::1"',
    '"https://user:pw@replicate.com/"',
    '"file:///etc/passwd"',
    '"//x"',
    '"{\\"a\\": 1}"',
    '"unsafe\\nS1,S99"',
    '"safe"',
    '"<think>"',
)
STATUSES: Final = ("succeeded", "failed", "canceled", "aborted")


def literal(random: Random, depth: int = 0) -> str:
    """Any JSON value, and some that are none."""
    pick = random.random()
    if depth < 3 and pick < 0.12:
        items = (literal(random, depth + 1) for _ in range(random.randint(0, 4)))
        return "[" + ",".join(items) + "]"
    if depth < 3 and pick < 0.24:
        members = [(name(random), literal(random, depth + 1)) for _ in range(random.randint(0, 4))]
        return written(members)
    makers: Sequence[Callable[[Random], str]] = (
        lambda chance: chance.choice(_NUMBERS.split()),
        lambda chance: chance.choice(_WORDS),
        lambda chance: json.dumps(chance.choice(_TIMES)),
        lambda chance: chance.choice(("null", "true", "false")),
        nested,
        long,
    )
    return random.choices(makers, (30, 25, 10, 20, 8, 7))[0](random)


def nested(random: Random) -> str:
    """A value of any depth, from what is usual to what no parser reads."""
    levels = random.choice((2, 24, 25, 32, 99, 100, 101, 254, 255, 500, 991, 1_024, 1_025, 3_000))
    if random.random() < 0.5:
        return "[" * levels + "]" * levels
    return '{"a":' * levels + "1" + "}" * levels


def long(random: Random) -> str:
    """A value that is large in one of many ways."""
    size = random.choice((100, 1_000, 10_000))
    return random.choice(
        (
            "9" * min(size, 5_000),
            f"0.{'3' * size}",
            json.dumps("x" * size),
            json.dumps('[{\\"' * size),
            json.dumps([0] * size),
            json.dumps([""] * size),
            json.dumps({f"k{number}": number for number in range(size)}),
            json.dumps({"k" * size: 1}),
        )
    )


def name(random: Random) -> str:
    """A member's name, as JSON text."""
    return random.choice(('"a"', '""', '"\\u0000"', '"\\ud800"', '"id"', '"metrics"', '"$ref"'))


def written(members: Members) -> str:
    """The object."""
    return "{" + ",".join(f"{key}:{value}" for key, value in members) + "}"


def prediction(
    random: Random,
    prediction_id: str,
    status: str,
    output: str,
    now: datetime,
    given: str = "{}",
    stream_url: str = "",
) -> Members:
    """A prediction as it should be, whatever it has put out."""
    metrics = {
        "predict_time": round(random.uniform(0.1, 9), 6),
        "total_time": 9.5,
        "input_token_count": random.randint(1, 999),
        "output_token_count": random.randint(1, 999),
        "image_count": 1,
        "video_output_duration_seconds": 5,
    }
    urls = {"get": "https://api.replicate.com/x", "cancel": "https://api.replicate.com/x/cancel"}
    is_terminal = status in STATUSES
    moment = json.dumps(now.isoformat())
    return [
        ('"id"', json.dumps(prediction_id)),
        ('"model"', '"replicate-internal/x"'),
        ('"version"', '"hidden"'),
        ('"input"', given),
        ('"logs"', '"x"'),
        ('"error"', '"it broke (E001)"' if status == "failed" else "null"),
        ('"status"', json.dumps(status)),
        ('"created_at"', moment),
        ('"started_at"', moment),
        ('"completed_at"', moment if is_terminal else "null"),
        ('"output"', output if status != "starting" else "null"),
        ('"metrics"', json.dumps(metrics) if is_terminal else "null"),
        ('"data_removed"', "false"),
        ('"urls"', json.dumps(urls | ({"stream": stream_url} if stream_url else {}))),
    ]


def spoiled(random: Random, members: Members, required: frozenset[str] = frozenset()) -> Members:
    """Some members with other values, left out, doubled or moved; those in `keep` stay."""
    changed = list(members)
    for _ in range(random.choice((0, 1, 1, 2, 3, 8))):
        if not changed:
            break
        at = random.randrange(len(changed))
        key, value = changed[at]
        if key.strip('"') in required:
            continue
        match random.randrange(6):
            case 0:
                del changed[at]
            case 1:
                changed.insert(at, (key, literal(random)))
            case 2 if key == '"metrics"' and value.startswith("{"):
                changed[at] = (key, _spoiled_metrics(random, value))
            case _:
                changed[at] = (key, literal(random))
    if random.random() < 0.1:
        changed.append((name(random).replace("id", "ids"), literal(random)))
    random.shuffle(changed)
    return changed


def _spoiled_metrics(random: Random, value: str) -> str:
    try:
        metrics = json.loads(value)
    except (ValueError, RecursionError):  # Spoiled before, to what this parser does not take.
        return literal(random)
    members = [(json.dumps(key), json.dumps(metric)) for key, metric in metrics.items()]
    for _ in range(random.randint(1, 3) if members else 0):
        at = random.randrange(len(members))
        members[at] = (members[at][0], literal(random))
    return written(members)


def garbled(random: Random, document: str) -> bytes:
    """The document as bytes that are no longer just that."""
    body = document.encode("utf-8", "surrogatepass")
    match random.randrange(10):
        case 0:
            return body[: random.randrange(len(body) + 1)]
        case 1:
            return b"\xef\xbb\xbf" + body
        case 2:
            return body + body
        case 3:
            at = random.randrange(len(body) + 1)
            return body[:at] + random.randbytes(random.randint(1, 8)) + body[at:]
        case 4:
            return b""
        case 5:
            return b"<html><body>502 Bad Gateway</body></html>"
        case 6:
            return b"[" + body + b"]"
        case 7:
            return body.replace(b"null", random.choice((b"01", b"1.", b".5", b"+1", b"nul")))
        case 8:
            return body.decode("utf-8", "replace").encode("utf-16")
        case _:
            return json.dumps(document).encode()


def output(random: Random, links: str) -> str:
    """What a model has made: text, links, objects, or anything."""
    usual = (
        '["Hel","lo"]',
        '"Hello"',
        '{"a": 1}',
        '"{\\"answer\\": 5}"',
        json.dumps([links]),
        json.dumps(links),
        json.dumps({"audio_out": links, "x": None}),
        '"data:image/png;base64,iVBORw0KGgo="',
        '["data:video/mp4;base64,AAAA"]',
        '"safe"',
        "null",
        "[]",
    )
    return random.choice(usual) if random.random() < 0.6 else literal(random)


def model(random: Random, owner: str, title: str) -> str:
    """A model's document with a schema, spoiled anywhere within."""
    schema = {
        "openapi": "3.0.2",
        "components": {
            "schemas": {
                "Input": {
                    "type": "object",
                    "required": ["prompt"],
                    "properties": {
                        "prompt": {"type": "string"},
                        "seed": {"type": "integer", "minimum": 0, "maximum": 9},
                        "size": {"allOf": [{"$ref": "#/components/schemas/size"}], "default": "a"},
                        "image": {"type": "string", "format": "uri", "nullable": True},
                    },
                },
                "size": {"type": "string", "enum": ["a", "b"]},
                "Output": {"type": "array", "items": {"type": "string", "format": "uri"}},
            }
        },
    }
    document = {
        "owner": owner,
        "name": title,
        "is_official": random.random() < 0.5,
        "latest_version": {"id": "f" * 64, "openapi_schema": schema},
        "default_example": {"metrics": {"predict_time": 2.5}},
    }
    return _spoiled_inside(random, document, random.choice((0, 1, 1, 2, 4)))


def deployment(random: Random, owner: str, title: str) -> str:
    """A deployment's document, likewise."""
    document = {
        "owner": owner,
        "name": title,
        "current_release": {
            "model": f"{owner}/{title}",
            "version": random.choice(("", "f" * 64)),
            "configuration": {"hardware": "gpu-t4"},
        },
    }
    return _spoiled_inside(random, document, random.choice((0, 1, 2)))


def _spoiled_inside(random: Random, document: object, times: int) -> str:
    """The document as text, with so many of its values made into something else."""
    values = list(_values(document))
    struck = {random.randrange(len(values)) for _ in range(times)}
    counter = iter(range(len(values)))

    def text(value: object) -> str:
        if next(counter) in struck:
            _skip(value, counter)
            return literal(random)
        if isinstance(value, dict):
            return written([(json.dumps(key), text(inner)) for key, inner in value.items()])
        if isinstance(value, list):
            return "[" + ",".join(text(item) for item in value) + "]"
        return json.dumps(value)

    return text(document)


def _values(value: object) -> Sequence[object]:
    values = [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in inner:
        values += _values(item)
    return values


def _skip(value: object, counter: object) -> None:
    for _ in range(len(_values(value)) - 1):
        next(counter)  # type: ignore[call-overload]
