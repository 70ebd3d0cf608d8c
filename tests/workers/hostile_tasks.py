"""Tasks as outside data would make them. A worker imports this module by its plain name."""

import hashlib
import os
import signal
import sys
import time
from pathlib import Path


def echo(payload: bytes) -> bytes:
    return payload


def digest(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()


def pid(payload: bytes) -> bytes:
    return str(os.getpid()).encode()


def open_files(payload: bytes) -> bytes:
    open_paths = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            open_paths.append(os.fsencode(descriptor.readlink()))
        except FileNotFoundError:
            continue  # That of the folder that is being read.
    return b"\n".join(open_paths)


def never_end(payload: bytes) -> bytes:
    while True:
        pass


def never_end_in_c(payload: bytes) -> bytes:
    """Holds the interpreter's lock within one call: no thread and no Python signal handler runs."""
    return str(pow(3, 3**30)).encode()


def wait(payload: bytes) -> bytes:
    time.sleep(float(payload))
    return b""


def reduce_on_signal(payload: bytes) -> bytes:
    """Reads a large answer, once there is a file that says so."""
    from mediagate_server.upstream.documents.json_member_filter import reduce_prediction

    while not Path(os.environ["TMPDIR"], "told").exists():
        time.sleep(0.01)
    return reduce_prediction(payload)


def eat(payload: bytes) -> bytes:
    return str(len([bytes(1024) for _ in range(int(payload))])).encode()


RETAINED: list[bytes] = []


def retain(payload: bytes) -> bytes:
    RETAINED.extend(bytes(1024) for _ in range(int(payload)))
    return payload


def die(payload: bytes) -> bytes:
    os.kill(os.getpid(), signal.SIGSEGV)
    return b""


def fail(payload: bytes) -> bytes:
    raise LookupError(payload.decode())


def environment(payload: bytes) -> bytes:
    return " ".join(sorted(os.environ)).encode()


def modules(payload: bytes) -> bytes:
    return " ".join(sorted(sys.modules)).encode()
