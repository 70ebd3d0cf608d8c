"""The examples of README.md and docs/clients.md, by language, pointed at the server that runs."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "docs" / "clients.md")
ADDRESS = "127.0.0.1:50051"


def example(language: str, address: str) -> str:
    """The one example in a language that speaks to a server."""
    examples = [
        text
        for page in PAGES
        for text in re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)
        if ADDRESS in text
    ]
    assert len(examples) == 1, f"one example in {language}"
    return str(examples[0]).replace(ADDRESS, address)
