"""A model's own refusal, told from a failure by what its vendor is known to say."""

import pytest

from mediagate_server.catalog.refusals import is_content_refusal

REFUSALS = [
    (
        "bytedance/seedance-1-pro",
        "The input or output was flagged as sensitive. Please try other inputs. (E005) (a1b2c3)",
    ),
    ("stability-ai/sdxl", "NSFW content detected. Try running it again, or try another prompt."),
    ("qwen/qwen-image", "All generated images contained NSFW content."),
    ("openai/gpt-image-1", "400: Your request was rejected by the safety system."),
    ("openai/gpt-image-1", '{"code": "moderation_blocked"}'),
    ("openai/dall-e", "content_policy_violation"),
    ("anthropic/claude-4.5-sonnet", "Output blocked by content filtering policy"),
    ("google/veo-3", "This prompt contains words that violate Vertex AI's usage guidelines."),
    ("google/nano-banana", "finish reason: PROHIBITED_CONTENT"),
    ("kwaivgi/kling-v2.1", "Failure to pass the risk control system"),
    ("runwayml/gen4-turbo", "SAFETY.INPUT.TEXT"),
    ("black-forest-labs/flux-1.1-pro", "Task failed: Content Moderated"),
    ("minimax/video-01", "status: output new_sensitive"),
    ("bytedance/seedream-4", "OutputImageSensitiveContentDetected"),
    ("ideogram-ai/ideogram-v3-turbo", "Prompt provided failed safety check"),
    ("stability-ai/sd3.5", "Your request was flagged by our content moderation system"),
    ("nobody/fine-tune", "nsfw CONTENT detected"),
]
FAILURES = [
    ("meta/llama", None),
    ("meta/llama", ""),
    ("meta/llama", "CUDA out of memory (E1001)"),
    ("meta/llama", "Prediction interrupted; please retry (code: PA)"),
    ("stability-ai/sdxl", "could not load the safety checker"),
    ("google/veo-3", "content moderation service timed out"),
    ("nobody/fine-tune", "Failure to pass the risk control system"),
    ("kwaivgi/kling-v2.1", "Output blocked by content filtering policy"),
    ("nobody/fine-tune", "this prompt is not allowed"),
]


@pytest.mark.parametrize(("slug", "error"), REFUSALS)
def test_refusals(slug: str, error: str) -> None:
    """Whatever stands around the words, whatever their case."""
    assert is_content_refusal(slug, error)
    assert is_content_refusal(slug, f"Prediction failed: {error.upper()} :(")


@pytest.mark.parametrize(("slug", "error"), FAILURES)
def test_failures(slug: str, error: str | None) -> None:
    """A filter that broke down, another vendor's words, and what nobody has seen yet."""
    assert not is_content_refusal(slug, error)
