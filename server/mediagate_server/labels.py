"""What the contract lets a label be: that of a request, and that which a budget counts by."""

import re
from typing import Final

KEY: Final = r"[a-z0-9_.-]{1,63}"
KEY_IN_WORDS: Final = "1 to 63 of [a-z0-9_.-]"
VALUE_MOST: Final = 128
"""Characters."""


def broken_by(key: str, value: str) -> str | None:
    """What is wrong with a label, as a phrase after its field's name; None: nothing."""
    if not re.fullmatch(KEY, key):
        return f"must have a key of {KEY_IN_WORDS}"
    if len(value) > VALUE_MOST:
        return f"must have a value of at most {VALUE_MOST} characters"
    return None
