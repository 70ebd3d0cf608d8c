"""Answers that must be JSON: what is taken off around it, and what is no answer."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mediagate_server.generations.outputs.json_output import JsonReading, read_json

ANY = "{}"
POINT = json.dumps(
    {
        "type": "object",
        "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}},
        "required": ["x", "y"],
        "additionalProperties": False,
    }
)


@pytest.mark.parametrize(
    ("answer", "schema", "text"),
    [
        ('{"x": 1, "y": 2}', POINT, '{"x": 1, "y": 2}'),
        ('\n {"x":1,"y":2}\n', POINT, '{"x":1,"y":2}'),
        ('```json\n{"x": 1, "y": 2}\n```', POINT, '{"x": 1, "y": 2}'),
        (
            'Here it is:\n\n```\n{"x": 1,\n "y": 2}\n```\nAnything else?',
            POINT,
            '{"x": 1,\n "y": 2}',
        ),
        ('<think>{"x": 0}</think>\n\n{"x": 1, "y": 2}', POINT, '{"x": 1, "y": 2}'),
        ('"```"', ANY, '"```"'),
        ('\ufeff{"x":1,"y":2}', POINT, '{"x":1,"y":2}'),
        ('\u200b\ufeff```json\n\ufeff{"x":1,"y":2}\n```\x00', POINT, '{"x":1,"y":2}'),
        ('so I take 1.\n</think>\n\n{"x":1,"y":2}', POINT, '{"x":1,"y":2}'),
        ('so {"x":0}\n</think>\n```json\n{"x":1,"y":2}\n```', POINT, '{"x":1,"y":2}'),
        ('```json\n{"x":0}\n``` no.</think>{"x":1,"y":2}', POINT, '{"x":1,"y":2}'),
        ('<thinking>a</thinking>{"x":1,"y":2}', POINT, '{"x":1,"y":2}'),
        ('<think>a</think>b</think>{"x":1,"y":2}', POINT, '{"x":1,"y":2}'),
        ('Well. <think>a</think> {"x":1,"y":2}</s>', POINT, '{"x":1,"y":2}'),
        ('```json {"x":1,"y":2}```', POINT, '{"x":1,"y":2}'),
        ('```{"x":1,"y":2}```', POINT, '{"x":1,"y":2}'),
        ('```JSON\n{"x":1,"y":2}```', POINT, '{"x":1,"y":2}'),
        ('Here: ```json{"x":1,"y":2}``` Anything else?', POINT, '{"x":1,"y":2}'),
        ('`{"x":1,"y":2}`', POINT, '{"x":1,"y":2}'),
        ('json\n{"x":1,"y":2}', POINT, '{"x":1,"y":2}'),
        ('<json>{"x":1,"y":2}</json>', POINT, '{"x":1,"y":2}'),
        ('<answer>\n```json\n{"x":1,"y":2}\n```\n</answer>', POINT, '{"x":1,"y":2}'),
        ('```bash\nls\n```\n```json\n{"x":1,"y":2}\n```', POINT, '{"x":1,"y":2}'),
        ('{"x":1,"y":2}<|endoftext|>', POINT, '{"x":1,"y":2}'),
        ('{"x":1,"y":2}<|eot_id|>\n', POINT, '{"x":1,"y":2}'),
        ('{"x":1,"y":2}</s></s>', POINT, '{"x":1,"y":2}'),
        ('<s> {"x":1,"y":2} <|im_end|>', POINT, '{"x":1,"y":2}'),
        ('{"x":1,"y":2}<|eot_id|>assistant\n\nAnything else?', POINT, '{"x":1,"y":2}'),
        (
            '<|start_header_id|>assistant<|end_header_id|>\n\n{"x":1,"y":2}<|eot_id|>',
            POINT,
            '{"x":1,"y":2}',
        ),
        (
            '<|channel|>analysis<|message|>{}<|end|><|channel|>final<|message|>{"x":1,"y":2}<|return|>',
            POINT,
            '{"x":1,"y":2}',
        ),
        ('{"x":1,"y":2}<\uff5cend\u2581of\u2581sentence\uff5c>', POINT, '{"x":1,"y":2}'),
        ('```json\n{"x":1,"y":2}\n```<end_of_turn>', POINT, '{"x":1,"y":2}'),
        ('"</think>"', ANY, '"</think>"'),
        ('"a</s>"', ANY, '"a</s>"'),
        ('```json\n{"a": "</think>"}\n```', ANY, '{"a": "</think>"}'),
        ('```json\n{"a": "```"}\n```', ANY, '{"a": "```"}'),
        ("```true```", ANY, "true"),
        ("5", ANY, "5"),
        ("null", ANY, "null"),
        ("[]", ANY, "[]"),
    ],
)
def test_json_is_extracted_from_the_answer(answer: str, schema: str, text: str) -> None:
    """The JSON as the model wrote it, without what stood around it."""
    assert read_json(answer, schema) == JsonReading(text)


@pytest.mark.parametrize(
    ("answer", "schema", "problem"),
    [
        ("", ANY, "it is no JSON"),
        ("Sure!", ANY, "it is no JSON"),
        ("<think>{}", ANY, "it is no JSON"),
        ("```json\n{}\n``` no, I cannot</think>", ANY, "it is no JSON"),
        ("well</think>", ANY, "it is no JSON"),
        ("</s>", ANY, "it is no JSON"),
        ('{"x": 1', ANY, "it is no JSON"),
        ("{'x': 1}", ANY, "it is no JSON"),
        ("NaN", ANY, "it is no JSON"),
        ("[Infinity]", ANY, "it is no JSON"),
        ('{"x": 1} {"y": 2}', ANY, "it is no JSON"),
        ("```json\n1\n```\n```json\n2\n```", ANY, "it is no JSON"),
        ("```json\n1", ANY, "it is no JSON"),
        ("[" * 100_000, ANY, "it is nested deeper than 100 levels"),
        ("[" * 101 + "]" * 101, ANY, "it is nested deeper than 100 levels"),
        ('{"x": 1}', POINT, "/y is required"),
        ('{"x": "1", "y": 2}', POINT, "/x is not of type integer"),
        ('{"x": 1, "y": 2, "z": 3}', POINT, "/z is not known"),
        ("[]", POINT, "it is not of type object"),
    ],
)
def test_answers_without_valid_json(answer: str, schema: str, problem: str) -> None:
    """Nothing is mended: cut JSON, single quotes and two answers are no answer."""
    assert read_json(answer, schema) == JsonReading(problem=problem)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=20,
)
SURROUNDING_TEXTS = st.sampled_from(
    [
        "{}",
        "```json\n{}\n```",
        "```\n{}\n```\n",
        "<think>x</think>\n{}",
        "x</think>{}</s>",
        "\ufeff{}<|endoftext|>",
        "```json {}```",
    ]
)


@given(JSON, SURROUNDING_TEXTS, st.sampled_from([None, 2]))
def test_every_value_is_extracted_from_every_wrapping(
    value: Any, surrounding: str, indent: int | None
) -> None:
    """And comes out as the same value."""
    text = json.dumps(value, indent=indent)
    assert json.loads(read_json(surrounding.format(text), ANY).text) == value


@given(st.text())
@example("```" * 1000)
@example("```a\n" * 10_000)
@example("</s>" * 50_000)
@example("<|a|>" * 50_000 + "x")
@example("</think>" * 50_000)
@example("<" * 200_000)
@example(" " * 200_000 + "x")
def test_extracted_answers_are_always_json(answer: str) -> None:
    """Never anything else, whatever the model wrote."""
    reading = read_json(answer, ANY)
    if not reading.problem:
        json.loads(reading.text)
