"""Notices that a file which the configuration was read from is another one now."""

from collections.abc import Callable, Iterable
from pathlib import Path

_Look = tuple[tuple[Path, tuple[int, ...]], ...]


class FileWatch:
    """Remembers how some files looked. `files` is asked each time: a reload may name others."""

    def __init__(self, files: Callable[[], Iterable[Path]]) -> None:
        self._files = files
        self._seen = self._look()

    def changed(self) -> bool:
        """Whether any of them is another than at the last call: written, replaced, gone or back.

        A file that was looked at is not told of again, whatever came of reading it.
        """
        before, self._seen = self._seen, self._look()
        return before != self._seen

    def _look(self) -> _Look:
        return tuple((path, _marks(path)) for path in self._files())


def _marks(path: Path) -> tuple[int, ...]:
    """What tells one state of a file from another, without reading it; nothing where it is gone."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev
