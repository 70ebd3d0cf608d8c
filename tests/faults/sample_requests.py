"""What callers ask for: requests of all kinds, each with words and a request_id of its own."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any
from uuid import UUID

from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import (
    audio_pb2,
    image_pb2,
    options_pb2,
    safety_pb2,
    text_pb2,
    video_pb2,
)

from .mixed_load import FILMS, FRAME, GUARD, ONE_AT_A_TIME, PICTURES, SOUNDS, TEXTS

MARK = "zq7mark"
"""In whatever is asked here, and so in the texts that come of it; to be searched for later."""
KINDS = {"stream": 30, "text": 18, "picture": 16, "film": 14, "sound": 10, "verdict": 4}


@dataclass(frozen=True)
class SampleRequest:
    """One call: which rpc, with what. `cancelled`: whoever asked ends it once it is known."""

    rpc: str
    request: Any
    cancelled: bool = False


def draw(random: Random, number: int) -> SampleRequest:
    """The next call."""
    kind = random.choices(list(KINDS), weights=list(KINDS.values()))[0]
    words = f"{MARK} {number}, {random.getrandbits(64):x}"
    drawn = {
        "stream": _stream,
        "text": _text,
        "picture": _picture,
        "film": _film,
        "sound": _sound,
        "verdict": _verdict,
    }[kind](random, words)
    asked = named(random, drawn)
    if random.random() < 0.5:
        asked.request.options.labels["team"] = random.choice(("a", "b"))
    if random.random() < 0.5:
        asked.request.options.disconnect_grace.CopyFrom(Duration(seconds=30))
    return asked


def named(random: Random, asked: SampleRequest) -> SampleRequest:
    """The call with a request_id."""
    asked.request.request_id = str(UUID(int=random.getrandbits(128), version=4))
    return asked


def text(
    prompt: str, model: str = TEXTS[0], *, streamed: bool, cancelled: bool = False
) -> SampleRequest:
    """A text, as it is written or in one answer."""
    if streamed:
        request = text_pb2.StreamTextRequest(prompt=prompt, options=_model(model))
        return SampleRequest("StreamText", request, cancelled)
    whole = text_pb2.GenerateTextRequest(
        prompt=prompt, max_output_tokens=1024, options=_model(model)
    )
    return SampleRequest("GenerateText", whole, cancelled)


def picture(prompt: str, model: str = ONE_AT_A_TIME) -> SampleRequest:
    """A picture."""
    request = image_pb2.GenerateImageRequest(prompt=prompt, options=_model(model))
    return SampleRequest("GenerateImage", request)


def film(prompt: str, model: str = FILMS[0], *, cancelled: bool = False) -> SampleRequest:
    """A film."""
    request = video_pb2.GenerateVideoRequest(prompt=prompt, options=_model(model))
    if model.endswith("kling-v2.1"):
        request.first_frame.CopyFrom(FRAME)
    return SampleRequest("GenerateVideo", request, cancelled)


def _stream(random: Random, words: str) -> SampleRequest:
    ends, tokens = random.random(), random.randint(1, 60)
    if ends < 0.1:
        directive = f"hang_after={tokens}"
    elif ends < 0.2:
        directive = f"fail_after={tokens}"
    else:
        directive = f"tokens={tokens} interval_ms={random.choice([0, 5, 25])}"
    prompt = f"[[{directive}]] {words}"
    return text(prompt, random.choice(TEXTS), streamed=True, cancelled=ends < 0.1)


def _text(random: Random, words: str) -> SampleRequest:
    return text(words, random.choice(TEXTS), streamed=False)


def _picture(random: Random, words: str) -> SampleRequest:
    model = random.choice(PICTURES)
    fails = "[[fail=E1001: out of memory]] " if random.random() < 0.15 else ""
    asked = picture(fails + words, model)
    if model != ONE_AT_A_TIME:
        asked.request.count = random.randint(1, 3)
    return asked


def _film(random: Random, words: str) -> SampleRequest:
    hangs = random.random() < 0.2
    directive = "[[hang]]" if hangs else f"[[run_ms={random.randint(0, 900)}]]"
    return film(f"{directive} {words}", random.choice(FILMS), cancelled=hangs)


def _sound(random: Random, words: str) -> SampleRequest:
    model = random.choice(SOUNDS)
    request = audio_pb2.GenerateAudioRequest(options=_model(model))
    if model == "minimax/speech-02-turbo":
        request.text = words
    else:
        request.prompt = words
    return SampleRequest("GenerateAudio", request)


def _verdict(_: Random, words: str) -> SampleRequest:
    return SampleRequest(
        "CheckSafety", safety_pb2.CheckSafetyRequest(content=words, options=_model(GUARD))
    )


def _model(name: str) -> options_pb2.GenerationOptions:
    return options_pb2.GenerationOptions(model=name)
