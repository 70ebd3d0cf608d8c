"""Metrics of a run, by Replicate's names.

Times are those the model would have taken: how fast the sandbox plays a run changes no metric.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mediagate_sandbox.generators.dimensions import fill_defaults
from mediagate_sandbox.generators.spec import AudioRecipe, ImageRecipe, VideoRecipe
from mediagate_sandbox.models import AudioFacts, ImageFacts, Model, TextFacts, VideoFacts
from mediagate_sandbox.run_script import RunScript

Metrics = dict[str, Any]
"""Numbers mostly; a model may report any JSON."""


def run_metrics(
    model: Model,
    given: Mapping[str, Any],
    script: RunScript,
    *,
    boot_seconds: float,
    run_seconds: float,
    tokens: int,
    complete: bool,
) -> Metrics:
    """Return the metrics of an ended run; `complete`: it had all of its output."""
    metrics: Metrics = {
        **model.metrics,
        "predict_time": round(run_seconds, 6),
        "total_time": round(boot_seconds + run_seconds, 6),
    }
    if isinstance(model.facts, TextFacts):
        return metrics | _text_metrics(model.facts, script, run_seconds, tokens)
    if not complete or not model.official:
        return metrics
    return metrics | _media_metrics(model, given, script)


def _text_metrics(facts: TextFacts, script: RunScript, run_seconds: float, tokens: int) -> Metrics:
    metrics: Metrics = {
        "input_token_count": script.input_tokens,
        "output_token_count": tokens,
        "token_input_count": script.input_tokens,
        "token_output_count": tokens,
    }
    if tokens:
        writing = run_seconds - script.first_token.model
        pace = (tokens - 1) / writing if tokens > 1 and writing > 0 else facts.tokens_per_second
        metrics["time_to_first_token"] = round(script.first_token.model, 6)
        metrics["tokens_per_second"] = round(pace, 6)
    return metrics


def _media_metrics(model: Model, given: Mapping[str, Any], script: RunScript) -> Metrics:
    values = fill_defaults(model, given)
    metrics: Metrics = {
        metric: values[name] for metric, name in model.metric_inputs.items() if name in values
    }
    seconds = round(sum(_seconds(each) for each in script.files), 6)
    match model.facts:
        case ImageFacts() as facts:
            metrics |= {"image_output_count": len(script.files), "image_count": len(script.files)}
            if facts.by_megapixel:
                metrics |= _megapixels(facts, values, script)
        case VideoFacts():
            metrics |= {
                "video_output_count": len(script.files),
                "video_output_duration_seconds": seconds,
            }
        case AudioFacts(speech=speech):
            metrics |= {
                "audio_output_count": len(script.files),
                "audio_output_duration_seconds": seconds,
            }
            if speech:
                # Speech is billed by tokens, and there a token is a character.
                metrics |= {
                    "character_input_count": script.input_characters,
                    "token_input_count": script.input_characters,
                }
    return metrics


def _megapixels(facts: ImageFacts, values: Mapping[str, Any], script: RunScript) -> Metrics:
    """Return megapixels: an area by its name counts as such, an input image as one."""
    word = str(values.get(facts.area_input))
    free = all(values.get(name) == expected for name, expected in facts.free.items())
    megapixels = sum(
        recipe.width * recipe.height / 1_000_000 if free else facts.areas.get(word, 1.0)
        for recipe in script.files
        if isinstance(recipe, ImageRecipe)
    )
    return {
        "image_output_megapixels": round(megapixels, 6),
        "image_input_megapixels": len(values.get("input_images") or ()),
    }


def _seconds(recipe: object) -> float:
    match recipe:
        case VideoRecipe():
            return recipe.frames / recipe.fps
        case AudioRecipe():
            return recipe.seconds
        case _:
            return 0.0
