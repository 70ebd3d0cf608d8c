"""Directives in prompts, and the text a language model writes."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediagate_sandbox.generators.text import compose_text, split_tokens
from mediagate_sandbox.prompt_directives import (
    DirectiveError,
    PromptDirectives,
    parse_directives,
    strip_directives,
)

from .conftest import Opener
from .sandbox_client import LLAMA, SCHNELL, SandboxClient


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no directive at all", PromptDirectives()),
        ("[[tokens=4 interval_ms=2.5]]", PromptDirectives(tokens=4, interval_ms=2.5)),
        ("[[tokens=4]] and [[tokens=5]]", PromptDirectives(tokens=5)),
        ("[[fail=it broke]]", PromptDirectives(fails=True, fail="it broke")),
        ("[[fail]]", PromptDirectives(fails=True)),
        ("[[hang]]", PromptDirectives(hang=True)),
        ("[[hang boot_ms=1]]", PromptDirectives(hang=True, boot_ms=1)),
        (r"[[say=a|b\|c\u2028]]", PromptDirectives(say=("a", "b|c\u2028"))),
        ("[[say=two\nlines]]", PromptDirectives(say=("two\nlines",))),
        ("if [[ -f x ]]; then", PromptDirectives()),
        ("[[tokens]] [[hanging=1]] [[Tokens=3]]", PromptDirectives()),
    ],
)
def test_directives_are_read(text: str, expected: PromptDirectives) -> None:
    """What opens with a known name is a directive; all else is text."""
    assert parse_directives({"prompt": text}) == expected


def test_directives_stand_in_any_text() -> None:
    """In a system prompt and in messages too, but not in an inlined file."""
    messages = [{"role": "user", "content": [{"type": "text", "text": "[[tokens=3]]"}]}]
    assert parse_directives({"messages": messages}).tokens == 3
    assert parse_directives({"system_prompt": "[[tokens=3]]"}).tokens == 3
    assert parse_directives({"image": "data:text/plain,[[tokens=3]]"}).tokens is None


@pytest.mark.parametrize(
    "text",
    ["[[tokens=many]]", "[[tokens=-1]]", "[[tokens=4 colour=red]]", "[[interval_ms=nan]]",
     "[[unsafe=S99]]", r"[[say=\ud800]]"],
)  # fmt: skip
async def test_invalid_directives_are_refused(sandbox_client: SandboxClient, text: str) -> None:
    """422: a test that misspells its stage direction should know."""
    answer = await sandbox_client.create(LLAMA, {"prompt": text})
    assert (answer.status, answer.json["title"]) == (422, "Invalid sandbox directive")


@given(st.text(alphabet=st.sampled_from("[]=\\| tokensayfilhgu0129_|S,\n")) | st.text())
@settings(deadline=None)
def test_any_prompt_is_parsed(text: str) -> None:
    """Whatever a prompt holds, it is read or refused, and the rest of it stays."""
    try:
        directives = parse_directives({"prompt": text})
    except DirectiveError:
        return
    if directives == PromptDirectives() and "[[" not in text:
        assert strip_directives(text) == text


async def test_directives_are_not_repeated(sandbox_client: SandboxClient) -> None:
    """The text takes up the prompt without them."""
    document = await sandbox_client.ran(LLAMA, {"prompt": "Why is snow white? [[tokens=60]]"})
    assert 'You asked: "Why is snow white?"' in "".join(document["output"])


async def test_directives_can_be_switched_off(open_sandbox: Opener) -> None:
    """Then they are text like any other."""
    async with open_sandbox(directives=False) as caller:
        document = await caller.ran(SCHNELL, {"prompt": "x [[fail=no]]"})
        assert document["status"] == "succeeded"


async def test_text_is_the_same_for_the_same_seed(open_sandbox: Opener) -> None:
    """Two sandboxes of one seed say the same; another seed or prompt says something else."""
    texts = []
    for seed, prompt in ((1, "a"), (1, "a"), (2, "a"), (1, "b")):
        async with open_sandbox(seed=seed) as caller:
            document = await caller.ran(LLAMA, {"prompt": prompt})
            texts.append("".join(document["output"]))
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3


@pytest.mark.parametrize(
    ("version", "given", "tokens"),
    [
        (LLAMA, {"prompt": "x", "max_tokens": 7}, 7),
        (LLAMA, {"prompt": "x [[tokens=50]]", "max_tokens": 7}, 7),
        (LLAMA, {"prompt": "x", "max_tokens": 0}, 0),
        ("openai/gpt-5-mini", {"prompt": "x", "max_completion_tokens": 5}, 5),
    ],
)
async def test_max_tokens_is_respected(
    sandbox_client: SandboxClient, version: str, given: dict[str, object], tokens: int
) -> None:
    """Whatever the model calls that input."""
    document = await sandbox_client.ran(version, given)
    assert len(document["output"]) == tokens == document["metrics"]["token_output_count"]


async def test_min_tokens_is_respected(sandbox_client: SandboxClient) -> None:
    """min_tokens is honoured, within max_tokens."""
    document = await sandbox_client.ran(
        LLAMA, {"prompt": "x", "min_tokens": 300, "max_tokens": 400}
    )
    assert 300 <= len(document["output"]) <= 400
    document = await sandbox_client.ran(LLAMA, {"prompt": "x", "min_tokens": 10**12})
    assert len(document["output"]) == 512


async def test_the_last_message_is_the_prompt(sandbox_client: SandboxClient) -> None:
    """A model that takes messages answers the last one."""
    messages = [{"role": "user", "content": "first"}, {"role": "user", "content": "and now?"}]
    document = await sandbox_client.ran(
        "openai/gpt-4o-mini", {"messages": messages, "prompt": "unused"}
    )
    assert 'You asked: "and now?"' in "".join(document["output"])


@given(st.text())
def test_tokens_join_to_the_text(text: str) -> None:
    """Cutting loses nothing and makes no empty token."""
    tokens = split_tokens(text)
    assert "".join(tokens) == text
    assert all(tokens)


@given(st.text(), st.integers(), st.integers(0, 300), st.integers(0, 300))
def test_texts_have_the_requested_length(prompt: str, seed: int, least: int, most: int) -> None:
    """Between the least and the most, the most winning."""
    tokens = compose_text("a/b", prompt, Random(seed), at_least=least, at_most=most)
    assert min(least, most) <= len(tokens) <= most
