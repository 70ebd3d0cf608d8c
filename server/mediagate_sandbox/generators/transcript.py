"""What the sandbox hears in a recording: made-up words, in the form that transcribers answer."""

from __future__ import annotations

from typing import Any

_SECONDS_A_WORD = 0.4


def transcript(text: str) -> dict[str, Any]:
    """The output of a transcriber that heard `text`: whole, and in timed segments."""
    segments: list[dict[str, Any]] = []
    begin = 0.0
    for number, sentence in enumerate(part for part in text.split(". ") if part):
        end = round(begin + _SECONDS_A_WORD * len(sentence.split()), 2)
        segments.append({"id": number, "start": begin, "end": end, "text": f" {sentence}"})
        begin = end
    return {
        "detected_language": "english",
        "transcription": f" {text}",
        "segments": segments,
        "translation": None,
        "srt_file": None,
        "txt_file": None,
    }
