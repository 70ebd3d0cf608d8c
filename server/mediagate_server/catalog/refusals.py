"""Tells a model's refusal of the content from a failure: by what its vendor is known to say."""

import tomllib
from functools import cache
from importlib.resources import files


def is_content_refusal(slug: str, error: str | None) -> bool:
    """Whether the error of a failed run of this model means that it refused the content.

    A text that nobody has seen yet is a failure: it is said to be no more than that.
    """
    if not error:
        return False
    said = error.casefold()
    owner = slug.partition("/")[0]
    anyone, by_owner = _table()
    return any(text in said for text in (*anyone, *by_owner.get(owner, ())))


@cache
def _table() -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    text = files(__package__).joinpath("refusals.toml").read_text(encoding="utf-8")
    document = tomllib.loads(text)

    def folded(texts: list[str]) -> tuple[str, ...]:
        return tuple(text.casefold() for text in texts)

    owners = {owner: folded(texts) for owner, texts in document["owner"].items()}
    return folded(document["any"]), owners
