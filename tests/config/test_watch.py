"""A file that was changed is noticed once, whatever kind of change it was."""

import os
from pathlib import Path

from mediagate_server.config import FileWatch


def test_a_change_is_reported_once(tmp_path: Path) -> None:
    """Written, replaced, gone, back."""
    file = tmp_path / "gate.toml"
    file.write_text("a = 1\n")
    watch = FileWatch(lambda: [file])
    assert not watch.changed()
    file.write_text("a = 22\n")
    assert watch.changed()
    assert not watch.changed()
    other = tmp_path / "new.toml"
    other.write_text("a = 33\n")
    os.utime(other, ns=(1, file.stat().st_mtime_ns))
    other.replace(file)
    assert watch.changed()
    file.unlink()
    assert watch.changed()
    assert not watch.changed()
    file.write_text("a = 4\n")
    assert watch.changed()


def test_watched_files_may_change(tmp_path: Path) -> None:
    """A configuration that names another file is looked at with that one."""
    files = [tmp_path / "one"]
    watch = FileWatch(lambda: files)
    files.append(tmp_path / "two")
    assert watch.changed()
    assert not watch.changed()
