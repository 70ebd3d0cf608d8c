"""What callers ask for: requests of all kinds, each with words and a request_id of its own."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any
from uuid import UUID

from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import audio_pb2, options_pb2, safety_pb2
from tests.builders import image_request, stream_text_request, text_request, video_request

from .mixed_load import FILMS, FRAME, GUARD, PICTURES, SINGLE_IMAGE_MODEL, SOUNDS, TEXTS

MARK = "zq7mark"
"""In whatever is asked here, and so in the texts that come of it; to be searched for later."""
KINDS = {"stream": 30, "text": 18, "picture": 16, "film": 14, "sound": 10, "verdict": 4}


@dataclass(frozen=True)
class SampleRequest:
    """One call: which rpc, with what. `cancelled`: whoever asked ends it once it is known."""

    rpc: str
    request: Any
    cancelled: bool = False


def random_sample(random: Random, number: int) -> SampleRequest:
    """The next call."""
    kind = random.choices(list(KINDS), weights=list(KINDS.values()))[0]
    words = f"{MARK} {number}, {random.getrandbits(64):x}"
    samples = {
        "stream": _stream,
        "text": _text,
        "picture": _picture,
        "film": _film,
        "sound": _sound,
        "verdict": _verdict,
    }[kind](random, words)
    sample = named(random, samples)
    if random.random() < 0.5:
        sample.request.options.labels["team"] = random.choice(("a", "b"))
    if random.random() < 0.5:
        sample.request.options.disconnect_grace.CopyFrom(Duration(seconds=30))
    return sample


def named(random: Random, sample: SampleRequest) -> SampleRequest:
    """The call with a request_id."""
    sample.request.request_id = str(UUID(int=random.getrandbits(128), version=4))
    return sample


def text(
    prompt: str, model: str = TEXTS[0], *, streamed: bool, cancelled: bool = False
) -> SampleRequest:
    """A text, as it is written or in one answer."""
    if streamed:
        request = stream_text_request(prompt=prompt, options=_model(model))
        return SampleRequest("StreamText", request, cancelled)
    unary = text_request(prompt=prompt, max_output_tokens=1024, options=_model(model))
    return SampleRequest("GenerateText", unary, cancelled)


def picture(prompt: str, model: str = SINGLE_IMAGE_MODEL) -> SampleRequest:
    """A picture."""
    request = image_request(prompt=prompt, options=_model(model))
    return SampleRequest("GenerateImage", request)


def film(prompt: str, model: str = FILMS[0], *, cancelled: bool = False) -> SampleRequest:
    """A film."""
    request = video_request(prompt=prompt, options=_model(model))
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
    sample = picture(fails + words, model)
    if model != SINGLE_IMAGE_MODEL:
        sample.request.count = random.randint(1, 3)
    return sample


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
