"""Operating system errors that are no caller's fault: a full or broken disk, too many open files.

What failed by one is retried later, and is neither blamed for it nor given up.
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
    """Whether an error is the machine's: out of disk, memory or file descriptors, or broken."""
    return isinstance(error, OSError) and error.errno in _NUMBERS
