"""The text in an output of any shape."""

from typing import Any

import pytest

from mediagate_server.upstream.documents.output_text import find_text, json_answers


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("hello", "hello"),
        ("", ""),
        ([], ""),
        (["he", "llo"], "hello"),
        (["he", None, "llo"], "hello"),
        ([["he"], ["llo"]], "hello"),
        (["The answer is ", 42, "."], "The answer is 42."),
        (42, "42"),
        (0, "0"),
        (2**70, str(2**70)),
        (0.5, "0.5"),
        (False, "false"),
        ([1, 2, 3], "[1, 2, 3]"),
        ([[0.1, 0.2]], "[[0.1, 0.2]]"),
        ({"text": "hello"}, "hello"),
        ([{"text": "he"}, {"text": "llo"}], "hello"),
        ({"output": {"response": "hello"}}, "hello"),
        ({"output": ["he", "llo"], "usage": {"tokens": 3}}, "hello"),
        ({"content": [{"type": "text", "text": "hello"}]}, "hello"),
        ({"choices": [{"message": {"role": "assistant", "content": "hello"}}, {}]}, "hello"),
        (
            [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}],
            "hello",
        ),
        ({"text": None, "response": "hello"}, "hello"),
        ({"text": ""}, ""),
        ({"text": "", "output": "hello"}, "hello"),
        ([{"label": "cat"}, {"label": "dog"}], '[{"label": "cat"}, {"label": "dog"}]'),
        ([{"type": "thinking", "thinking": "well"}, {"type": "text", "text": "hello"}], "hello"),
        (
            {
                "output": [
                    {"type": "reasoning", "summary": []},
                    {"type": "message", "content": [{"type": "output_text", "text": "hello"}]},
                ]
            },
            "hello",
        ),
        ({"candidates": [{"content": {"parts": [{"text": "hello"}], "role": "model"}}]}, "hello"),
        ([[]], ""),
        ({"message": "success", "result": "the long text"}, "the long text"),
        ({"message": "ok", "results": ["the", " text"]}, "the text"),
        ({"message": "ok", "transcription": "the text"}, "the text"),
        ({"message": {"code": "ok", "text": "done"}, "parts": ["the text"]}, "the text"),
        ({"result": "ok", "transcription": "the text"}, "the text"),
        ({"message": "the text", "result": None}, "the text"),
        ({"message": "the text", "result": True}, "the text"),
        ({"message": {"role": "assistant", "content": "hello"}, "result": "ok"}, "hello"),
        ({"message": {"role": "user", "content": "hi"}, "response": "hello"}, "hello"),
        ({"message": {"content": None}, "result": "hello"}, "hello"),
        ({"result": True, "transcription": "yes"}, "yes"),
        ({"text": 0, "answer": "yes"}, "yes"),
        ({"text": 0.5, "answer": ["y", "es"]}, "yes"),
        ({"text": {"text": 0}, "answer": "yes"}, "yes"),
        ({"output": [{"text": True}], "answer": "yes"}, "yes"),
        ({"output": {"result": True, "transcription": "yes"}}, "yes"),
        ([{"result": 1, "text": "y"}, {"result": 2, "text": "es"}], "yes"),
        ([{"text": "It is "}, {"text": 42}, {"text": "."}], "It is 42."),
        ({"choices": [True], "text": "yes"}, "yes"),
        ({"choices": [{"finish_reason": "stop"}], "text": "yes"}, "yes"),
        ({"result": True, "output": 42}, "42"),
        ({"result": True, "transcription": ""}, ""),
        ({"result": True}, "true"),
        ({"text": 0}, "0"),
        ({"score": 0.5, "label": "é"}, '{"score": 0.5, "label": "é"}'),
    ],
)
def test_text_of_an_output(output: Any, text: str) -> None:
    """Whole, and nothing is thrown away."""
    assert find_text(output) == text


@pytest.mark.parametrize("output", [None, {}, [None], [[None]], [{}]])
def test_outputs_without_text(output: Any) -> None:
    """It is lost, not empty."""
    assert find_text(output) is None
    assert json_answers(output) == ()
    assert find_text({"text": output, "n": 1}) is None


@pytest.mark.parametrize(
    ("output", "answers"),
    [
        ('{"a": 1}', ('{"a": 1}',)),
        (['{"a"', ": 1}"], ('{"a": 1}',)),
        (["a", "b"], ("ab",)),
        ({"a": 1}, ('{"a": 1}',)),
        ({"text": "{}"}, ("{}", '{"text": "{}"}')),
        ([{"a": 1}, {"a": 2}], ('[{"a": 1}, {"a": 2}]',)),
        ({"text": None, "a": 1}, ('{"text": null, "a": 1}',)),
        (7, ("7",)),
    ],
)
def test_candidates_for_structured_output(output: Any, answers: tuple[str, ...]) -> None:
    """The text, else the value itself; pieces of a text are no list that was asked for."""
    assert json_answers(output) == answers
