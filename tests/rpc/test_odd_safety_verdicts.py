"""A safety model's answer in another form than its card has: what it found is told, never safe."""

import pytest

from mediagate.v1 import safety_pb2, verdict_pb2
from tests.builders import image_request

from .scripted_upstream import ScriptedUpstream, prediction, says
from .stubs import Stubs

FORMS = {
    "small": "unsafe\ns1,s10",
    "semicolons": "unsafe\nS1; S10",
    "names": "unsafe\nS1: Violent Crimes\nS10: Hate",
    "names alone": "unsafe\nViolent Crimes, Hate",
    "one line": "Unsafe (S1, S10)",
    "words": "unsafe\nThe text falls under S1 and S10.",
}


@pytest.mark.parametrize("form", FORMS)
async def test_safety_categories_are_read(
    scripted_upstream: ScriptedUpstream, stubs: Stubs, form: str
) -> None:
    """By CheckSafety, and by a screening, which lets nothing pass."""
    scripted_upstream.creates = [
        says(prediction(scripted_upstream, "succeeded", output=FORMS[form], metrics={}))
    ]
    answer = await stubs.safety.CheckSafety(safety_pb2.CheckSafetyRequest(content="x"))
    assert answer.verdict.verdict == verdict_pb2.SafetyVerdict.VERDICT_UNSAFE
    assert [(category.code, category.name) for category in answer.verdict.categories] == [
        ("S1", "Violent Crimes"),
        ("S10", "Hate"),
    ]
    assert not answer.verdict.unreadable
    request = image_request(prompt="x", screen_prompt=True)
    generation = (await stubs.image.GenerateImage(request)).generation
    assert "CONTENT_BLOCKED" in str(generation.error)
    assert [category.code for category in generation.safety.categories] == ["S1", "S10"]
    assert len(scripted_upstream.posted) == 2


@pytest.mark.parametrize("said", ["Safe", "safe.", "SAFE", "not unsafe", "safe\nS1", "S1"])
async def test_only_the_exact_word_is_safe(
    scripted_upstream: ScriptedUpstream, stubs: Stubs, said: str
) -> None:
    """However near it is."""
    scripted_upstream.creates = [
        says(prediction(scripted_upstream, "succeeded", output=said, metrics={}))
    ]
    answer = await stubs.safety.CheckSafety(safety_pb2.CheckSafetyRequest(content="x"))
    assert answer.verdict.verdict == verdict_pb2.SafetyVerdict.VERDICT_UNSAFE
    assert answer.verdict.unreadable
