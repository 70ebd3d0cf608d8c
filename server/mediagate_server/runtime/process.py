"""Process tuning, once at the start of a server: file limit, garbage collector, malloc."""

import ctypes
import gc
import resource
from typing import Final

_MAX_OPEN_FILES: Final = 16_384
_M_MMAP_THRESHOLD: Final = -3
_MMAP_THRESHOLD_BYTES: Final = 128 * 1024
"""glibc's initial default, which it would otherwise raise dynamically."""
_GC_THRESHOLDS: Final = (20_000, 20, 20)


def raise_fd_limit() -> None:
    """Raise the soft limit of open files: each stream holds two sockets, and 1,024 are few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(_MAX_OPEN_FILES, hard)
    if soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def tune_gc() -> None:
    """Freeze the long-lived objects and collect less often. Call it once all of them exist.

    The cyclic collector then skips those objects (catalog, descriptors, classes: most of the heap)
    and runs less often than by default, where it takes a twentieth of all processor time under
    load. Almost everything here is freed by reference counting.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


def tune_malloc() -> None:
    """Fix glibc's mmap threshold, so that the memory of large buffers is returned when freed.

    Otherwise glibc raises the threshold when the first large buffer is freed, and then keeps some
    megabytes for every thread. Other C libraries do not.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
