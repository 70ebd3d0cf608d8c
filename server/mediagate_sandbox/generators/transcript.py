"""Transcript generator: invented words in the format of speech recognition models."""

from __future__ import annotations

from typing import Any

_SECONDS_A_WORD = 0.4


def transcript(text: str) -> dict[str, Any]:
    """Return the output for a recording of `text`: full text, and timed segments."""
    segments: list[dict[str, Any]] = []
    begin = 0.0
    for number, sentence in enumerate(sentence for sentence in text.split(". ") if sentence):
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
