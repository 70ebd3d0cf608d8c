"""What the operating system and Python are told, once, about a process that serves."""

import ctypes
import gc
import resource
from typing import Final

_OPEN_FILES: Final = 16_384
_M_MMAP_THRESHOLD: Final = -3
_MAPPED_FROM: Final = 128 * 1024
"""glibc's own default, which it would raise by itself."""
_COLLECT_AFTER: Final = (20_000, 20, 20)


def raise_fd_limit() -> None:
    """Each stream holds two sockets; the usual soft limit of 1,024 files is soon used up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def tune_gc() -> None:
    """Call it once everything that lives as long as the process has been made.

    The cyclic collector then leaves those objects alone (catalog, descriptors, classes: most of
    what there is), and looks at new ones less often than by default, where it takes a twentieth
    of all processor time under load. Almost everything here is freed by counting references.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


def tune_malloc() -> None:
    """Pieces of media are mapped, so that the memory of each is given back when it is freed.

    Left alone, glibc takes the first large piece it sees freed as a sign that many will follow,
    and from then on keeps some megabytes of them for every thread. Other C libraries do not.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM)
