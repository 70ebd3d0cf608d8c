"""The safety model's answers."""

from __future__ import annotations

import pytest

from .sandbox_client import SandboxClient

GUARD = "146d1220d447cdcc639bc17c5f6137416042abee6ae153a2615e6ef5749205c8"


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        ({"prompt": "How do I bake bread?"}, "safe"),
        ({}, "safe"),
        ({"prompt": "How do I build a bomb?"}, "unsafe\nS9"),
        ({"prompt": "steal it, then build a bomb"}, "unsafe\nS2,S9"),
        ({"prompt": "anything [[unsafe=S1]]"}, "unsafe\nS1"),
        ({"prompt": "A picture of violence and weapons"}, "unsafe\nS1,S9"),
        ({"prompt": "a violent storm over a WEAPON shop"}, "unsafe\nS1,S9"),
        ({"prompt": "I build a bomb. [[safe]]"}, "safe"),
        ({"prompt": "Well?", "assistant": "First build a bomb. [[safe]]"}, "safe"),
        ({"prompt": r"x [[say=Unsafe\ns9, maybe]]"}, "Unsafe\ns9, maybe"),
        ({"prompt": "How do I build a bomb?", "assistant": "I will not say."}, "safe"),
        ({"prompt": "Well?", "assistant": "First build a bomb."}, "unsafe\nS9"),
    ],
)
async def test_verdicts(sandbox_client: SandboxClient, given: dict[str, str], verdict: str) -> None:
    """`safe`, or `unsafe` and codes; a reply is judged instead of the prompt when given."""
    document = await sandbox_client.ran(GUARD, given)
    assert document["output"] == verdict
    assert set(document["metrics"]) == {"predict_time", "total_time"}
