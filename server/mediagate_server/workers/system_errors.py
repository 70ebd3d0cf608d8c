"""Operating system errors that are nobody's fault: a full or broken disk, too many open files.

Whatever met one is tried again later, and is neither blamed for it nor given up.
"""

import errno
from typing import Final

_NUMBERS: Final = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EIO,
        errno.EROFS,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
    }
)


def is_system_error(error: BaseException) -> bool:
    """Whether the machine was short of something, or broken, and nothing else was wrong."""
    return isinstance(error, OSError) and error.errno in _NUMBERS
