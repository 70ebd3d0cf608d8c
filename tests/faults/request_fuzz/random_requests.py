"""Which rpc is sent what: requests that are nearly right, wholly random ones, and bytes of none."""

from __future__ import annotations

import base64
from collections import deque
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from mediagate.v1 import (
    admin_pb2,
    audio_pb2,
    generations_pb2,
    image_pb2,
    media_pb2,
    models_pb2,
    safety_pb2,
    text_pb2,
    usage_pb2,
    video_pb2,
)
from tests.catalog.builders import shipped_catalog
from tests.random_messages import JSON_SCALARS, Pools, RandomMessages, struct_of

from .permissive_upstream import MODELS

CONTRACT: Final = (
    admin_pb2,
    audio_pb2,
    generations_pb2,
    image_pb2,
    media_pb2,
    models_pb2,
    safety_pb2,
    text_pb2,
    usage_pb2,
    video_pb2,
)
METHODS: Final[tuple[MethodDescriptor, ...]] = tuple(
    method
    for file in CONTRACT
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
)
OFTEN: Final = ("RunModel", "EstimateCost", "ListGenerations", "ListCharges", "GenerateText")
"""What is asked three times as often as the rest."""
GOOD: Final[dict[str, dict[str, Any]]] = {
    "StreamText": {"prompt": "a cat"},
    "GenerateText": {"prompt": "a cat"},
    "GenerateImage": {"prompt": "a cat"},
    "GenerateVideo": {"prompt": "a cat"},
    "GenerateAudio": {"prompt": "a cat"},
    "CheckSafety": {"content": "a cat"},
    "RunModel": {"model": "fuzz/anything"},
    "StreamModel": {"model": "fuzz/anything"},
}
"""What is right by itself; what of all other requests is right they are with nothing set."""
ESTIMATED: Final = {
    "text": "GenerateText",
    "image": "GenerateImage",
    "video": "GenerateVideo",
    "audio": "GenerateAudio",
    "safety": "CheckSafety",
    "run": "RunModel",
}
"""What EstimateCost can be asked, and the rpc that would be sent."""
CATALOG: Final = shipped_catalog().models()


@dataclass
class KnownIds:
    """What the server has given out so far, to be sent back to it."""

    ids: deque[str] = field(default_factory=lambda: deque(maxlen=200))
    uploads: deque[str] = field(default_factory=lambda: deque(maxlen=50))
    tokens: deque[str] = field(default_factory=lambda: deque(maxlen=50))
    request_ids: deque[str] = field(default_factory=lambda: deque(maxlen=20))

    def learn(self, response: Any) -> None:
        """Note what a response names."""
        fields = response.DESCRIPTOR.fields_by_name
        if "generation" in fields and response.generation.id:
            self.ids.append(response.generation.id)
        if "upload_id" in fields and response.upload_id:
            self.uploads.append(response.upload_id)
        if "next_page_token" in fields and response.next_page_token:
            self.tokens.append(response.next_page_token)


@dataclass(frozen=True)
class Sent:
    """One call: the bytes of its messages."""

    number: int
    method: MethodDescriptor
    messages: tuple[bytes, ...]
    key: str | None
    """None: the caller's own."""

    def __str__(self) -> str:
        encoded = ", ".join(
            base64.b64encode(message[:600]).decode() for message in self.messages[:3]
        )
        return f"message {self.number} of {self.method.full_name}, key {self.key!r}: {encoded}"


def random_call(seed: int, number: int, ids: KnownIds, keys: tuple[str, ...]) -> Sent:
    """The call of this number. `keys` are such as name nobody."""
    random = Random(f"{seed} {number}")
    method = random.choice(METHODS)
    if random.random() < 0.25:
        method = random.choice([method for method in METHODS if method.name in OFTEN])
    generator = RandomMessages(random, pools(random, ids))
    count = random.randint(0, 4) if method.client_streaming else 1
    messages = []
    for index in range(count):
        content = request(random, generator, method, index).SerializeToString()
        messages.append(generator.garbled(content) if random.random() < 0.1 else content)
    key = random.choice(keys) if random.random() < 0.04 else None
    return Sent(number, method, tuple(messages), key)


def request(
    random: Random, generator: RandomMessages, method: MethodDescriptor, index: int
) -> Message:
    """A request: in three of four cases one that is right, or was until some fields were set."""
    if random.random() < 0.25:
        return generator.message(method.input_type)
    message: Any = GetMessageClass(method.input_type)(**GOOD.get(method.name, {}))
    if method.name == "EstimateCost":
        kind = random.choice(sorted(ESTIMATED))
        getattr(message, kind).MergeFrom(type(getattr(message, kind))(**GOOD[ESTIMATED[kind]]))
        _spoil(random, generator, getattr(message, kind))
    elif method.name == "UploadMedia" and index:
        message.chunk = b"x" * 2_000
    elif method.name == "UploadMedia":
        message.metadata.SetInParent()
    else:
        named = {"id", "upload_id"} & set(method.input_type.fields_by_name)
        for name in sorted(named):
            generator.put(message, method.input_type.fields_by_name[name])
        _spoil(random, generator, message)
    return message  # type: ignore[no-any-return]


def _spoil(random: Random, generator: RandomMessages, message: Any) -> None:
    """Set some fields; the input of a run as a rule, to what its price may go by."""
    fields: list[FieldDescriptor] = list(message.DESCRIPTOR.fields)
    for descriptor in random.sample(fields, min(len(fields), random.randint(0, 3))):
        generator.put(message, descriptor)
    if "input" in message.DESCRIPTOR.fields_by_name and random.random() < 0.7:
        model = random.choice(CATALOG)
        names = random.sample(sorted(model.inputs), min(len(model.inputs), random.randint(1, 5)))
        values = {name: random.choice((*JSON_SCALARS, generator.json())) for name in names}
        if random.random() < 0.8:
            values.setdefault("prompt", "a")
        message.model = random.choice((model.slug, model.slug, *MODELS))
        message.input.CopyFrom(struct_of(values))


def pools(random: Random, ids: KnownIds) -> Pools:
    """Values that mean something to the server, or nearly."""

    def of(given: deque[str], *others: str) -> str:
        """One that was given out, changed in a place or not; or another."""
        if not given or random.random() < 0.3:
            return random.choice(others)
        slug = random.choice(given)
        if random.random() < 0.6:
            return slug
        index = random.randrange(len(slug))
        return slug[:index] + random.choice("0aZ_-=é") + slug[index + 1 :]

    def model() -> str:
        model = random.choice(CATALOG)
        return random.choice(
            (*model.names, model.slug, *MODELS, "a/b", "nobody", f"{model.slug}:1")
        )

    def request_id() -> str:
        ids.request_ids.append(f"{random.getrandbits(128):032x}")
        return random.choice(ids.request_ids)

    def number() -> int:
        return random.choice((0, 1, 2, 5, 17, 2**31, 2**62))

    def words() -> str:
        return random.choice(("a cat", "the sea", "x" * 9_000, "😀"))

    forged = base64.urlsafe_b64encode(b'["%s", [%d, "x"]]' % (b"0" * 16, random.choice((1, 2**70))))
    tenant = random.choice(("fuzz", "victim", "boss", "*", "nobody"))
    return {
        "id": lambda: of(ids.ids, "gen_" + "0" * 32, "gen_x", "upl_x"),
        "generation_id": lambda: of(ids.ids, "gen_" + "0" * 32),
        "upload_id": lambda: of(ids.uploads, "upl_" + "0" * 32, "upl_../../x"),
        "page_token": lambda: of(ids.tokens, forged.decode(), "eyJ", "W10="),
        "request_id": request_id,
        "model": model,
        "models": model,
        "tenant": lambda: tenant,
        "after_sequence": number,
        "page_size": lambda: random.choice((0, 1, 3, 50, 2**31 - 1)),
        "webhook_url": lambda: random.choice(("https://receiver.invalid/x", "http://127.0.0.1:1/")),
        "uri": lambda: random.choice(("https://a.example/x.png", "http://10.0.0.1/x", "data:,x")),
        "prompt": words,
        "content": words,
        "text": words,
        "label_key": lambda: "team",
        "value": lambda: random.choice(("a", "b")),
        "max_cost_usd_nanos": lambda: random.choice((0, 1, 10**6, 10**9, 2**63 - 1)),
        "key": lambda: random.choice(("team", "job", "x" * 63, "Prompt", "image")),
        "media_type": lambda: "image/png",
        "budget": lambda: random.choice(("all", "team")),
    }
