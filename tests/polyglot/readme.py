"""The examples of the README, by language, pointed at the gate that runs."""

import re
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
ADDRESS = "127.0.0.1:50051"


def example(language: str, address: str) -> str:
    """The one example in a language that speaks to a gate."""
    found = [
        text
        for text in re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)
        if ADDRESS in text
    ]
    assert len(found) == 1, f"one example in {language}"
    return str(found[0]).replace(ADDRESS, address)
