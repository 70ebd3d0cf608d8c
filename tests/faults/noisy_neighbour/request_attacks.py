"""Attacks by what a request holds: values that nothing can store, check or walk in time."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.struct_pb2 import NULL_VALUE, ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from mediagate.v1 import (
    generation_pb2,
    generations_pb2,
    image_pb2,
    medium_pb2,
    models_pb2,
    text_pb2,
    usage_pb2,
)
from tests.builders import image_request, run_model_request, text_request

from .attack import Attack, Attacker, attack

TEXT = "meta/meta-llama-3-8b-instruct"
LARGE_TEXT = "meta/meta-llama-3-70b-instruct"
REFUSED = ("INVALID_ARGUMENT",)
TOO_LARGE = ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED")


def run(model: str, **given: Any) -> models_pb2.RunModelRequest:
    """A run of any model with these inputs."""
    values = Struct()
    values.update(given)
    return run_model_request(model, input=values)


def text(prompt: str = "x", **options: Any) -> text_pb2.GenerateTextRequest:
    """A text."""
    return text_request(prompt=prompt, model=TEXT, **options)


def with_struct(values: Struct) -> text_pb2.GenerateTextRequest:
    """A text with inputs of the model's own."""
    request = text()
    request.options.model_parameters.CopyFrom(values)
    return request


def unfolding_schema() -> Struct:
    """1.4 KB of JSON schema that unfold to two to the power of twenty."""
    schema: dict[str, Any] = {"$ref": "#/$defs/l0"}
    schema["$defs"] = {f"l{n}": {"allOf": [{"$ref": f"#/$defs/l{n + 1}"}] * 2} for n in range(20)}
    schema["$defs"]["l20"] = {"type": "string"}
    values = Struct()
    values.update(schema)
    return values


def nested_struct(depth: int) -> Struct:
    """Lists in lists."""
    inner = Value(null_value=NULL_VALUE)
    for _ in range(depth):
        inner = Value(list_value=ListValue(values=[inner]))
    return Struct(fields={"a": inner})


@attack("refused by the input's name: no commit can hold what it would reserve", *REFUSED)
async def price_beyond_int64(attacker: Attacker) -> None:
    request = run(LARGE_TEXT, prompt="x", max_tokens=9e15)
    await attacker.repeat(lambda: attacker.stubs.models.RunModel(request))


@attack("refused, or unknown in price: nothing is computed with a number of a wrong type")
async def priced_inputs_of_wrong_types(attacker: Attacker) -> None:
    odd = [1e300, -1.0, "9" * 400, [1], {"a": 1}, True, 1.5, "x", 2**53 + 1.0]
    requests = [
        run(model, prompt="x", **{name: value})
        for model in (LARGE_TEXT, "black-forest-labs/flux-schnell", "hostile/plain")
        for name in ("max_tokens", "num_outputs", "duration", "n")
        for value in odd
    ]
    await attacker.repeat(
        lambda: attacker.stubs.models.EstimateCost(
            models_pb2.EstimateCostRequest(run=attacker.random.choice(requests))
        )
    )


@attack("refused, or checked where checking can be killed; OUTPUT_INVALID on expiry")
async def unfolding_json_schema(attacker: Attacker) -> None:
    request = text('[[say={"a": 1}]]')
    request.response_format.kind = text_pb2.ResponseFormat.KIND_JSON_SCHEMA
    request.response_format.json_schema.CopyFrom(unfolding_schema())
    await attacker.repeat(lambda: attacker.stubs.text.GenerateText(request), at_once=2)


@attack("refused, or checked where checking can be killed")
async def backtracking_json_schema(attacker: Attacker) -> None:
    request = text('[[say={"a": "' + "a" * 5_000 + '!"}]]')
    request.response_format.kind = text_pb2.ResponseFormat.KIND_JSON_SCHEMA
    request.response_format.json_schema.update(
        {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a|aa|a*)+$"}}}
    )
    await attacker.repeat(lambda: attacker.stubs.text.GenerateText(request), at_once=2)


@attack("refused before its entries are walked", *TOO_LARGE)
async def long_key_above_many_items(attacker: Attacker) -> None:
    items = Value(list_value=ListValue(values=[Value(number_value=1)] * 20_000))
    request = with_struct(Struct(fields={"k" * 50_000: items}))
    await attacker.repeat(lambda: attacker.stubs.text.GenerateText(request), at_once=2)


@attack("refused before its entries are walked", *TOO_LARGE)
async def many_struct_keys(attacker: Attacker) -> None:
    fields = {f"k{number}": Value(null_value=NULL_VALUE) for number in range(200_000)}
    request = with_struct(Struct(fields=fields))
    await attacker.repeat(lambda: attacker.stubs.text.GenerateText(request), at_once=2)


@attack("refused before its entries are walked", *TOO_LARGE)
async def many_nulls(attacker: Attacker) -> None:
    items = ListValue(values=[Value(null_value=NULL_VALUE)] * 500_000)
    request = run_model_request("hostile/plain")
    request.input.fields["n"].list_value.CopyFrom(items)
    await attacker.repeat(lambda: attacker.stubs.models.RunModel(request), at_once=2)


@attack("refused before its entries are walked", *TOO_LARGE)
async def many_message_parts(attacker: Attacker) -> None:
    chat_parts = [text_pb2.ChatPart(text="a")] * 250_000
    message = text_pb2.ChatMessage(role=text_pb2.ChatMessage.ROLE_USER, parts=chat_parts)
    request = text_pb2.GenerateTextRequest(messages=[message])
    await attacker.repeat(lambda: attacker.stubs.text.GenerateText(request), at_once=2)


@attack("refused before its entries are walked", *TOO_LARGE)
async def many_messages_tools_and_stops(attacker: Attacker) -> None:
    message = text_pb2.ChatMessage(
        role=text_pb2.ChatMessage.ROLE_USER, parts=[text_pb2.ChatPart(text="a")]
    )
    stubs = attacker.stubs
    texts = [
        text_pb2.GenerateTextRequest(messages=[message] * 150_000),
        text_request(prompt="x", tools=[text_pb2.Tool(name="t")] * 200_000),
        text_request(prompt="x", stop_sequences=["s"] * 400_000),
    ]
    images = [medium_pb2.MediaInput(uri="https://a.b/c")] * 100_000
    image = image_request(prompt="x", reference_images=images)
    calls: tuple[Callable[[], Awaitable[Any]], ...] = (
        lambda: stubs.text.GenerateText(attacker.random.choice(texts)),
        lambda: stubs.image.GenerateImage(image),
    )
    await attacker.repeat_any(*calls, at_once=2)


@attack("refused by depth, wherever a Struct may stand", *TOO_LARGE)
async def deep_structs(attacker: Attacker) -> None:
    requests = [with_struct(nested_struct(depth)) for depth in (30, 45)]
    await attacker.repeat(
        lambda: attacker.stubs.text.GenerateText(attacker.random.choice(requests)), at_once=2
    )


@attack("refused: a token is one that was given out", *REFUSED)
async def forged_page_tokens(attacker: Attacker) -> None:
    listed = await attacker.stubs.generations.ListGenerations(
        generations_pb2.ListGenerationsRequest(page_size=1)
    )
    given = [listed.next_page_token] if listed.next_page_token else []
    positions: list[Any] = [[], [None], [1e400], [[1]], ["x", 2**70], [{"a": 1}], "x", 10**30]
    documents = [["0" * 16, position] for position in positions]
    tokens = [
        base64.urlsafe_b64encode(json.dumps(document).encode()).decode() for document in documents
    ]
    for token in given:  # Its own scope, with a position of the forger's.
        scope = json.loads(base64.urlsafe_b64decode(token))[0] if token.startswith("W") else ""
        tokens += [
            base64.urlsafe_b64encode(json.dumps([scope, position]).encode()).decode()
            for position in positions
        ]
    tokens += ["%", "A", "=" * 1_000, "W10=", "x" * 100_000]
    stubs = attacker.stubs
    lists: list[Callable[[str], Awaitable[Any]]] = [
        lambda token: stubs.generations.ListGenerations(
            generations_pb2.ListGenerationsRequest(page_size=1, page_token=token)
        ),
        lambda token: stubs.usage.ListCharges(usage_pb2.ListChargesRequest(page_token=token)),
        lambda token: stubs.models.ListModels(models_pb2.ListModelsRequest(page_token=token)),
    ]
    choice = attacker.random.choice
    await attacker.repeat(lambda: choice(lists)(choice(tokens)))


@attack("refused above a bound by the filter's name, or answered", "OK", *TOO_LARGE)
async def filters_without_bound(attacker: Attacker) -> None:
    filters = [
        generations_pb2.GenerationFilter(models=[f"a/b{number}" for number in range(100_000)]),
        generations_pb2.GenerationFilter(
            states=[generation_pb2.Generation.STATE_SUCCEEDED] * 500_000
        ),
        generations_pb2.GenerationFilter(labels={f"k{n}": "v" for n in range(50_000)}),
        generations_pb2.GenerationFilter(models=["x" * 1_000_000]),
        generations_pb2.GenerationFilter(created_after=Timestamp(seconds=-(2**62))),
        generations_pb2.GenerationFilter(created_before=Timestamp(seconds=2**62, nanos=-5)),
    ]
    await attacker.repeat(
        lambda: attacker.stubs.generations.ListGenerations(
            generations_pb2.ListGenerationsRequest(filter=attacker.random.choice(filters))
        ),
        at_once=2,
    )


@attack("screened as any other: its words may begin as a link does")
async def prompts_that_look_like_links(attacker: Attacker) -> None:
    requests = [
        run(LARGE_TEXT, prompt=f"{begin} [[unsafe=S1]] harm", max_tokens=5)
        for begin in ("https://", "http://a", "data:,")
    ]
    for request in requests:
        request.options.screen_prompt = True

    async def call() -> None:
        answer = await attacker.stubs.models.RunModel(attacker.random.choice(requests))
        if answer.generation.attempts[0].purpose != generation_pb2.Attempt.PURPOSE_SCREEN:
            attacker.saw("a prompt that was not screened")

    await attacker.repeat(call)


@attack("refused by bounds on labels, names and ids", "NOT_FOUND", *TOO_LARGE)
async def huge_labels_and_names(attacker: Attacker) -> None:
    requests = [
        text(labels={f"k{number}": "v" for number in range(100_000)}),
        text(labels={"k": "v" * 3_000_000}),
        text(webhook_url="https://a.example/" + "x" * 3_000_000),
        text_request(prompt="x", request_id="r" * 3_000_000),
        text_request(prompt="x", model="m" * 3_000_000),
    ]
    await attacker.repeat(
        lambda: attacker.stubs.text.GenerateText(attacker.random.choice(requests)), at_once=2
    )


@attack("refused by gRPC's own bound, or by the key's", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED")
async def huge_metadata(attacker: Attacker) -> None:
    large = (("x-large", "v" * 200_000),)
    many = tuple((f"x-{number}", "v") for number in range(5_000))
    await attacker.repeat(
        lambda: attacker.stubs.models.ListModels(
            models_pb2.ListModelsRequest(), metadata=attacker.random.choice((large, many))
        )
    )


@attack("refused by the length of what they unfold to", *TOO_LARGE)
async def gzip_bombs(attacker: Attacker) -> None:
    import grpc

    request = text("\0" * (40 * 1024 * 1024))
    await attacker.repeat(
        lambda: attacker.stubs.text.GenerateText(request, compression=grpc.Compression.Gzip),
        at_once=2,
    )


@attack("planned or refused; a prompt of megabytes is sent once, and holds nobody up")
async def large_prompts(attacker: Attacker) -> None:
    request = text("[[tokens=1]]" + "word " * 700_000)
    await attacker.repeat(lambda: attacker.stubs.text.GenerateText(request), at_once=2)


@attack("planned or refused; no decoder is led astray")
async def odd_characters(attacker: Attacker) -> None:
    odd = ("\0", "\u202e", "\ufdd0", "\U0010ffff", "a\u0300" * 5_000, "\r\n\r\n: x\n", "\x1b[2J")
    await attacker.repeat(
        lambda: attacker.stubs.text.GenerateText(
            text(
                "[[tokens=1]]" + "".join(attacker.random.choices(odd, k=3)),
                labels={"k": attacker.random.choice(odd)[:60]}
                if attacker.random.random() < 0.3
                else {},
            )
        )
    )


@attack("refused by the field, or never posted to", "OK", *REFUSED)
async def odd_webhook_urls(attacker: Attacker) -> None:
    urls = [
        "http://localhost:1/x",
        "https://[::ffff:127.0.0.1]/x",
        "https://0x7f.1/x",
        "https://127.0.0.1.nip.io/x",
        "https://" + "a." * 120 + "example/x",
        "https://xn--" + "a" * 60 + ".example/x",
        "https://nowhere.invalid/x",
        "file:///etc/passwd",
    ]
    await attacker.repeat(
        lambda: attacker.stubs.text.GenerateText(
            text("[[tokens=1]]", webhook_url=attacker.random.choice(urls))
        )
    )


@attack("planned, or refused: nothing of it is kept")
async def plans_without_end(attacker: Attacker) -> None:
    request = text("x")
    request.validate_only = True
    estimate = models_pb2.EstimateCostRequest(text=text("y"))
    calls: tuple[Callable[[], Awaitable[Any]], ...] = (
        lambda: attacker.stubs.text.GenerateText(request),
        lambda: attacker.stubs.models.EstimateCost(estimate),
    )
    await attacker.repeat_any(*calls, at_once=8)


def with_inline_picture(size: int) -> image_pb2.GenerateImageRequest:
    """A picture from a picture of so many bytes within the request."""
    request = image_request(prompt="x", model="black-forest-labs/flux-dev")
    medium = request.reference_images.add().inline
    medium.data = b"\xff\xd8" + b"\xff\xe0\x00\x02" * (size // 4)
    medium.media_type = "image/jpeg"
    return request


# A gRPC server that only receives four messages of 3.6 MB at a time, and drops them, grows by 35 to
# 41 MiB: it holds each up to three times.
FOUR_LARGEST = 16 * 1024 * 1024


@attack("refused by size; nothing of it stays", *REFUSED, grpc_growth=FOUR_LARGEST)
async def inline_media_too_large(attacker: Attacker) -> None:
    request = with_inline_picture(3_600_000)
    await attacker.repeat(lambda: attacker.stubs.image.GenerateImage(request))


@attack(
    "handed over as a file: inline media wait outside everybody's way", grpc_growth=FOUR_LARGEST
)
async def inline_media(attacker: Attacker) -> None:
    request = with_inline_picture(3_000_000)
    await attacker.repeat(lambda: attacker.stubs.image.GenerateImage(request))


ATTACKS: tuple[Attack, ...] = (
    price_beyond_int64,
    priced_inputs_of_wrong_types,
    unfolding_json_schema,
    backtracking_json_schema,
    long_key_above_many_items,
    many_struct_keys,
    many_nulls,
    many_message_parts,
    many_messages_tools_and_stops,
    deep_structs,
    forged_page_tokens,
    filters_without_bound,
    prompts_that_look_like_links,
    huge_labels_and_names,
    huge_metadata,
    gzip_bombs,
    large_prompts,
    odd_characters,
    odd_webhook_urls,
    plans_without_end,
    inline_media_too_large,
    inline_media,
)
