"""One gate as a process: its event loop, its signals, and the one line it says to people."""

import asyncio
import signal
from collections.abc import Callable
from typing import Final

import structlog

from mediagate_server.app import Server
from mediagate_server.config import ConfigError, Configuration, FileWatch
from mediagate_server.observability.bug_report import BackgroundJob, report_bug
from mediagate_server.observability.logging import configure_logging
from mediagate_server.runtime.fair_thread_pool import FairThreadPool
from mediagate_server.runtime.process import raise_fd_limit, tune_gc, tune_malloc

_log = structlog.get_logger()

_LOOK_SECONDS: Final = 1.0
"""How often the configuration's files are looked at; not read, unless they look changed."""


async def serve(configuration: Configuration, announce: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; SIGHUP reads the configuration again, and so does a change.

    `announce` gets one line for people once the gate is ready.
    """
    gate = Server(configuration)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(FairThreadPool())
    # Before the doors open: whoever is answered may also ask for an orderly end.
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, gate.stop)
    loop.add_signal_handler(signal.SIGHUP, _reload, configuration)
    async with gate:
        tune_gc()
        announce(
            f"Mediagate serves gRPC on {gate.grpc_address}, operations on "
            f"{gate.operations_address}. Answers come from {gate.upstream}."
        )
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(_watch(configuration))
            await gate.until_stopped()
            watching.cancel()
        # Not in the group, which would wrap its words for people in its own.
        gate.check_ownership()


def run(configuration: Configuration, announce: Callable[[str], None]) -> None:
    """`serve` on the fastest event loop there is. For the command line.

    Raises ConfigError, DataFolderInUse or DataFolderLost of store.sqlite, or OSError where a port
    is taken.
    """
    configure_logging(configuration.current.log_level)
    raise_fd_limit()
    tune_malloc()
    try:
        import uvloop  # noqa: PLC0415 - an extra speed, not there on every platform
    except ImportError:
        asyncio.run(serve(configuration, announce))
    else:
        uvloop.run(serve(configuration, announce))


async def _watch(configuration: Configuration) -> None:
    """Read the configuration again whenever one of its files was changed."""
    watch = FileWatch(configuration.files)
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        if watch.changed():
            _reload(configuration)


def _reload(configuration: Configuration) -> None:
    """What is wrong is said, and what was in force stays."""
    try:
        waiting = configuration.reload()
    except ConfigError as error:
        _log.error("configuration_reload_failed", problem=str(error))
    except Exception as error:  # noqa: BLE001 - a gate that serves is not to end by it
        report_bug(BackgroundJob.RELOAD, error)
    else:
        configure_logging(configuration.current.log_level)
        _log.info("configuration_reloaded", needs_restart=list(waiting))
