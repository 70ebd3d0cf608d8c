"""Standard streams of the process: any encoding, closed, full or non-blocking.

A text that was paid for must not be lost for want of a character in the terminal's encoding, and
nothing that goes wrong while writing may end in a traceback.
"""

import asyncio
import codecs
import errno
import io
import os
import select
import stat
import sys
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

ENCODING_ERRORS: Final = "mediagate.escape"
"""Error handler: bytes of argv as they came, other characters as backslash escapes."""
_CONTROLS: Final = {
    number: f"\\x{number:02x}"
    for number in (*range(0x20), *range(0x7F, 0xA0))
    if chr(number) not in "\t\n"
} | {ord("\r"): ""}


class OutputFile(io.RawIOBase):
    """Raw file of stdout or stderr: never blocks in a write, but waits until there is room.

    With `fails_once` what is written after an error is dropped, so that buffers are flushed at the
    end in peace.
    """

    is_waiting: ClassVar[bool] = False
    """True while one waits for a reader who has paused: only an exception ends that."""
    is_interrupted: ClassVar[bool] = False
    """Set by a signal: from then on nobody is waited for."""

    def __init__(self, number: int, *, fails_once: bool) -> None:
        self._number: Final = number
        self._fails_once: Final = fails_once
        self._failed = False

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self._number

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._number)

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write some of the bytes; return how many. Raises OSError."""
        view = memoryview(data)
        while not self._failed:
            try:
                self._wait()
                return os.write(self._number, view[: select.PIPE_BUF])
            except BlockingIOError:
                continue  # Another process has filled it meanwhile.
            except BaseException:
                self._failed = self._fails_once
                raise
        return view.nbytes

    def _wait(self) -> None:
        """Wait until a piece can be written without blocking."""
        if select.select((), (self._number,), (), 0)[1]:
            return
        OutputFile.is_waiting = True
        try:
            if OutputFile.is_interrupted:
                raise KeyboardInterrupt
            select.select((), (self._number,), ())
        finally:
            OutputFile.is_waiting = False


def prepare_standard_streams() -> None:
    """Replace sys.stdout and sys.stderr by streams that take any text.

    A closed descriptor is first occupied by /dev/null, for reading where it should be written:
    else the next file or socket gets its number, and what is printed goes into that.
    """
    codecs.register_error(ENCODING_ERRORS, _escape)
    closed = (sys.stdin is None, sys.stdout is None, sys.stderr is None)
    for number, is_closed in enumerate(closed):
        if is_closed and not _is_open(number):
            os.open(os.devnull, os.O_RDONLY if number else os.O_WRONLY)
    sys.stdout = _text_stream(1, sys.stdout)
    sys.stderr = _text_stream(2, sys.stderr)


def is_stdout_closed() -> bool:
    """Whether nothing can be written to stdout: it was closed when the process began."""
    return sys.__stdout__ is None


async def write_stdout(text: str) -> None:
    """Print a text to stdout without a newline. Raises OSError.

    A reader who pauses (a pager, a stopped terminal) does not stop the event loop, by which the
    connection to the server and Ctrl-C live.
    """
    out = sys.stdout
    if out.isatty():
        text = visible_controls(text)
    try:
        number = out.fileno()
    except (OSError, ValueError):
        number = -1
    if number < 0 or stat.S_ISREG(os.fstat(number).st_mode):
        out.write(text)
        out.flush()
        return
    data = memoryview(text.encode(out.encoding, out.errors or "strict"))
    while data:
        await _writable(number)
        out.buffer.write(data[: select.PIPE_BUF])
        out.buffer.flush()
        data = data[select.PIPE_BUF :]


def visible_controls(text: str) -> str:
    """Escape control characters, which a terminal would obey; keep tabs and line ends."""
    return text.translate(_CONTROLS)


def is_unicode(stream: object) -> bool:
    """Whether a text stream's encoding has every character."""
    encoding = getattr(stream, "encoding", None) or ""
    return encoding.lower().replace("_", "-").startswith(("utf-8", "utf8", "utf-16", "utf-32"))


def _text_stream(number: int, current: "io.TextIOBase | object | None") -> io.TextIOWrapper:
    # What goes to stderr is tried again: a server's log must go on once a full disk has room.
    raw = OutputFile(number, fails_once=number == 1)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(current, "encoding", None) or "utf-8",
        errors=ENCODING_ERRORS,
        line_buffering=number == 2 or raw.isatty(),
    )


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        return False
    return True


def _escape(error: UnicodeError) -> tuple[bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    escaped = bytearray()
    for character in error.object[error.start : error.end]:
        is_byte = "\udc80" <= character <= "\udcff"
        escaped += character.encode("ascii", "surrogateescape" if is_byte else "backslashreplace")
    return bytes(escaped), error.end


async def _writable(number: int) -> None:
    """Wait until a descriptor can be written to; at once where it can always be."""
    loop = asyncio.get_running_loop()
    writable = asyncio.Event()
    try:
        loop.add_writer(number, writable.set)
    except OSError:
        return  # What epoll does not know, such as /dev/null and /dev/full, never waits.
    try:
        await writable.wait()
    finally:
        loop.remove_writer(number)
