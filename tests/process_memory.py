"""How much memory another process has."""

import re
from pathlib import Path


class Memory:
    """What a process has resident, in bytes, and had at most since it was told to forget."""

    def __init__(self, pid: int) -> None:
        self._folder = Path("/proc") / str(pid)

    def now(self) -> int:
        """Resident now."""
        return self._read("VmRSS")

    def anonymous(self) -> int:
        """Resident now, without what is mapped from files: libraries, which processes share."""
        return self._read("RssAnon") + self._read("RssShmem")

    def most(self) -> int:
        """At most, since the last `forget`."""
        return self._read("VmHWM")

    def forget(self) -> None:
        """The peak begins anew."""
        (self._folder / "clear_refs").write_text("5")

    def _read(self, name: str) -> int:
        match = re.search(
            rf"^{name}:\s+(\d+) kB", (self._folder / "status").read_text(), re.MULTILINE
        )
        assert match
        return int(match[1]) * 1024
