"""Run script of a prediction: boot, output steps and end, decided when it is created.

A script depends on the model, its input and the seed alone; the runner only plays it. Every wait is
a `TimeSpan`: the seconds of the model, and those of the sandbox.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

import orjson

from mediagate_sandbox.generators import json_answer, safety_verdict, text
from mediagate_sandbox.generators.dimensions import fill_defaults
from mediagate_sandbox.generators.recipes import recipes_for
from mediagate_sandbox.generators.spec import Recipe, find_limit_error
from mediagate_sandbox.models import Model, TextFacts
from mediagate_sandbox.prompt_directives import MOST_TOKENS, PromptDirectives, texts_in
from mediagate_sandbox.settings import SandboxSettings

_QUEUE_SECONDS = 0.2
"""Time an official, always warm model needs before it starts."""
_FEWEST_TOKENS, _MOST_TOKENS = 40, 120
_PROGRESS_STEPS = 4

Ending = Literal["succeed", "fail", "hang", "abort"]
"""`abort` ends the run before it starts; only a fault asks for that."""


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """One wait, in model seconds and in real seconds."""

    model: float
    real: float


@dataclass(frozen=True, slots=True)
class ScriptStep:
    """Step of a run after a wait: a token, a log line, or both."""

    after: TimeSpan
    token: str | None = None
    logs: str = ""


@dataclass(frozen=True, slots=True)
class RunScript:
    """Script of a run: boot, steps, end."""

    boot: TimeSpan
    steps: tuple[ScriptStep, ...]
    ending: Ending
    first_token: TimeSpan = field(default=TimeSpan(0.0, 0.0))
    files: tuple[Recipe, ...] = ()
    """What the run leaves behind, to be made when it is read."""
    answer: str | None = None
    """Output of a model that answers with one text."""
    error: str | None = None
    reason: str | None = None
    """What the stream's done event gives as reason instead of the usual."""
    input_tokens: int = 0
    input_characters: int = 0
    files_origin: str | None = None
    """Where output links point instead of at this server."""


class RunScriptBuilder:
    """Builder of run scripts by the sandbox's settings."""

    def __init__(self, settings: SandboxSettings) -> None:
        """Create a builder; it has no state of its own."""
        self._settings = settings

    def build(
        self, model: Model, given: Mapping[str, Any], directives: PromptDirectives, *, cold: bool
    ) -> RunScript:
        """Build the script of `model` on the input `given`, by the prompt's directives."""
        boot = self._boot(model, directives, cold=cold)
        if isinstance(model.facts, TextFacts):
            return self._text(model, model.facts, given, directives, boot)
        return self._single_output(model, given, directives, boot)

    def _boot(self, model: Model, directives: PromptDirectives, *, cold: bool) -> TimeSpan:
        if directives.boot_ms is not None:
            return _exactly(directives.boot_ms)
        return self._scaled(model.boot_seconds if cold else _QUEUE_SECONDS)

    def _text(
        self,
        model: Model,
        facts: TextFacts,
        given: Mapping[str, Any],
        directives: PromptDirectives,
        boot: TimeSpan,
    ) -> RunScript:
        tokens = self._tokens(model, facts, given, directives)
        scale = self._settings.token_time_scale
        interval, first = 1 / facts.tokens_per_second, facts.first_token_seconds
        between, before = TimeSpan(interval, interval * scale), TimeSpan(first, first * scale)
        if directives.interval_ms is not None:
            between = _exactly(directives.interval_ms)
        if directives.first_ms is not None:
            before = _exactly(directives.first_ms)
        steps = [
            ScriptStep(before if at == 0 else between, token) for at, token in enumerate(tokens)
        ]
        ending, token_count = _text_ending(directives, len(steps))
        return RunScript(
            boot=boot,
            steps=tuple(steps[:token_count]),
            ending=ending,
            first_token=before,
            error=directives.fail,
            reason=directives.reason,
            input_tokens=text.count_input_tokens(given.values()),
        )

    def _tokens(
        self, model: Model, facts: TextFacts, given: Mapping[str, Any], directives: PromptDirectives
    ) -> list[str]:
        if directives.say is not None:
            return (
                list(directives.say)
                if len(directives.say) > 1
                else text.split_tokens("".join(directives.say))
            )
        values = fill_defaults(model, given)
        random = Random(self._seed(model, given))
        limit = values.get(facts.limit_input)
        most = MOST_TOKENS if limit is None else min(MOST_TOKENS, max(0, int(limit)))
        target = random.randint(_FEWEST_TOKENS, _MOST_TOKENS)
        target = min(most, max(target, int(values.get("min_tokens") or 0)))
        if directives.tokens is not None:
            target = most = min(most, directives.tokens)
        schema = json_answer.find_schema(texts_in(given.values()))
        if schema is not None and directives.tokens is None:
            return text.split_tokens(json_answer.answer_for_schema(schema, random))[:most]
        prompt = text.prompt_of(values, model.prompt_input)
        return text.compose_text(model.slug, prompt, random, at_least=target, at_most=most)

    def _single_output(
        self, model: Model, given: Mapping[str, Any], directives: PromptDirectives, boot: TimeSpan
    ) -> RunScript:
        """Build the script of a run with one output at the end: a safety verdict or media."""
        values = fill_defaults(model, given)
        prompt = text.prompt_of(values, model.prompt_input)
        seed = self._seed(model, given)
        files = recipes_for(model, values, prompt, seed)
        refusals = [reason for reason in map(find_limit_error, files) if reason is not None]
        error = directives.fail if directives.fails else (refusals[0] if refusals else None)
        failing = directives.fails or bool(refusals)
        steps = self._progress(self._run_time(model, files, directives, seed), seed)
        return RunScript(
            boot=boot,
            steps=steps[:1] if directives.hang else steps,
            ending="hang" if directives.hang else "fail" if failing else "succeed",
            files=files,
            answer=_answer(model, values, prompt, directives, seed),
            error=error,
            input_tokens=text.count_input_tokens(given.values()),
            input_characters=len(prompt),
        )

    def _run_time(
        self, model: Model, files: tuple[Recipe, ...], directives: PromptDirectives, seed: int
    ) -> TimeSpan:
        if directives.run_ms is not None:
            return _exactly(directives.run_ms)
        length = sum(getattr(each, "seconds", 0.0) for each in files)
        seconds = model.run_seconds * max(1, len(files)) + model.run_seconds_per_second * length
        return self._scaled(round(seconds * Random(seed).uniform(0.9, 1.1), 6))

    def _progress(self, run: TimeSpan, seed: int) -> tuple[ScriptStep, ...]:
        share = TimeSpan(run.model / _PROGRESS_STEPS, run.real / _PROGRESS_STEPS)
        start = ScriptStep(TimeSpan(0.0, 0.0), logs=f"Using seed: {seed}\n")
        steps = (
            ScriptStep(share, logs=_progress_line(number))
            for number in range(1, _PROGRESS_STEPS + 1)
        )
        return (start, *steps)

    def _scaled(self, seconds: float) -> TimeSpan:
        return TimeSpan(seconds, seconds * self._settings.time_scale)

    def _seed(self, model: Model, given: Mapping[str, Any]) -> int:
        """Return the input's seed if it has one, else one by the hash of the input."""
        own = given.get("seed")
        if own is not None:
            return int(own)
        canonical = orjson.dumps(given, option=orjson.OPT_SORT_KEYS)
        content = f"{self._settings.seed} {model.slug} ".encode() + canonical
        return int.from_bytes(hashlib.sha256(content).digest()[:4], "big") & 0x7FFF_FFFF


def _exactly(milliseconds: float) -> TimeSpan:
    return TimeSpan(milliseconds / 1000, milliseconds / 1000)


def _text_ending(directives: PromptDirectives, tokens: int) -> tuple[Ending, int]:
    """Return how a text ends, and after how many tokens."""
    if directives.fails:
        return "fail", min(tokens, directives.fail_after or 0)
    if directives.hang or directives.hang_after is not None:
        return "hang", min(tokens, directives.hang_after or 0)
    return "succeed", tokens


def _answer(
    model: Model, values: Mapping[str, Any], prompt: str, directives: PromptDirectives, seed: int
) -> str | None:
    """Return the text of a model with a single text output: a verdict or a transcript."""
    if model.kind == "transcript":
        pieces = text.compose_text(model.slug, "", Random(seed), at_least=40, at_most=60)
        return "".join(directives.say or pieces)
    if model.kind != "safety":
        return None
    if directives.say is not None:
        return "".join(directives.say)
    if directives.unsafe is not None:
        return safety_verdict.unsafe(directives.unsafe)
    if directives.safe:
        return safety_verdict.SAFE
    reply = values.get("assistant")
    return safety_verdict.judge_text(reply if isinstance(reply, str) and reply else prompt)


def _progress_line(step: int) -> str:
    share = step * 100 // _PROGRESS_STEPS
    bar = "#" * (step * 10 // _PROGRESS_STEPS)
    return f"{share:3d}%|{bar:<10}| {step}/{_PROGRESS_STEPS}\n"
