"""Responses of the fast upstream: documents and streams, built once and sent many times.

The shapes are those of Replicate's API. Nothing here does I/O.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any, Self

MODEL = "meta/meta-llama-3-70b-instruct"
WORDS = ("The", " sky", " is", " blue", " because", " air", " scatters", " short", " waves", ".")
_ID_MARK = "@@id@@"
_CHUNK = 16 * 1024
_STARTED = "2026-11-24T10:00:00.100000Z"
_COMPLETED = "2026-11-24T10:00:00.600000Z"


@dataclass(frozen=True, slots=True)
class ResponseScript:
    """How the upstream behaves. `succeeded`: creates are answered with their end.

    `tokens`: how many a prediction has. `interval`: seconds from token to token of a stream; 0
    sends all at once. `held`: streams open and say nothing until they are let go.
    """

    succeeded: bool = True
    tokens: int = 10
    interval: float = 0.0
    held: bool = False

    def to_json(self) -> bytes:
        """As the control address takes it."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """What `to_json` wrote."""
        return cls(**json.loads(text))

    def words(self) -> tuple[str, ...]:
        """The tokens of every prediction."""
        return tuple(WORDS[index % len(WORDS)] for index in range(self.tokens))

    def text_bytes(self) -> int:
        """UTF-8 bytes of a whole text."""
        return len("".join(self.words()).encode())


class Document:
    """A prediction as JSON, with only its id left open."""

    def __init__(self, root: str, status: str, output: tuple[str, ...] | None) -> None:
        self._fragments = _prediction(root, status, output).encode().split(_ID_MARK.encode())

    def of(self, prediction_id: bytes) -> bytes:
        """The document of one prediction."""
        return prediction_id.join(self._fragments)


def _prediction(root: str, status: str, output: tuple[str, ...] | None) -> str:
    prediction = f"{root}/v1/predictions/{_ID_MARK}"
    ended = output is not None
    document: dict[str, Any] = {
        "id": _ID_MARK,
        "model": MODEL,
        "version": "hidden",
        "input": {"prompt": "Why is the sky blue?", "max_tokens": 512},
        "logs": "",
        "output": output,
        "data_removed": False,
        "error": None,
        "source": "api",
        "status": status,
        "created_at": "2026-11-24T10:00:00.000000Z",
        "started_at": _STARTED if ended else None,
        "completed_at": _COMPLETED if ended else None,
        "urls": {
            "get": prediction,
            "cancel": f"{prediction}/cancel",
            "stream": f"{root}/stream/{_ID_MARK}",
        },
        "metrics": {},
    }
    if output is not None:
        document["metrics"] = {
            "predict_time": 0.5,
            "total_time": 0.6,
            "token_input_count": 12,
            "token_output_count": len(output),
        }
    return json.dumps(document)


def event(index: int, word: str) -> bytes:
    """One token as a server-sent event."""
    return f"event: output\nid: 1690212292:{index}\ndata: {word}\n\n".encode()


def done(index: int) -> bytes:
    """The event that ends a stream."""
    return f"event: done\nid: 1690212292:{index}\ndata: {{}}\n\n".encode()


def chunked(body: bytes) -> bytes:
    """A chunk of an HTTP body whose length nobody knows yet."""
    return b"%x\r\n%s\r\n" % (len(body), body)


LAST_CHUNK = b"0\r\n\r\n"


def stream_body(words: tuple[str, ...]) -> bytes:
    """A stream's body from its first token to its end, in chunks of many tokens."""
    pieces: list[bytes] = []
    chunk = bytearray()
    for index, word in enumerate(words):
        chunk += event(index, word)
        if len(chunk) >= _CHUNK:
            pieces.append(chunked(bytes(chunk)))
            chunk.clear()
    chunk += done(len(words))
    return b"".join((*pieces, chunked(bytes(chunk)), LAST_CHUNK))
