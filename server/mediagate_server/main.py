"""Process entry point: event loop, signals and configuration reload."""

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

_WATCH_SECONDS: Final = 1.0
"""How often the configuration's files are checked; they are read only where they changed."""


async def serve(configuration: Configuration, announce: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; SIGHUP reads the configuration again, and so does a change.

    `announce` gets one line for people once the server is ready.
    """
    server = Server(configuration)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(FairThreadPool())
    # Before the ports open: whoever gets an answer may also request a shutdown.
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, server.stop)
    loop.add_signal_handler(signal.SIGHUP, _reload, configuration)
    async with server:
        tune_gc()
        announce(
            f"Mediagate serves gRPC on {server.grpc_address}, operations on "
            f"{server.operations_address}. Answers come from {server.upstream}."
        )
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(_watch(configuration))
            await server.until_stopped()
            watch.cancel()
        # Outside the group, which would wrap its message in an ExceptionGroup.
        server.check_ownership()


def run(configuration: Configuration, announce: Callable[[str], None]) -> None:
    """Run `serve` on uvloop where it is installed. For the command line.

    Raises ConfigError, DataFolderInUse, DataFolderUnusable or DataFolderLost of store.sqlite, or
    OSError where a port is taken.
    """
    _configure_logging(configuration)
    raise_fd_limit()
    tune_malloc()
    try:
        import uvloop  # noqa: PLC0415 - faster, and not on every platform
    except ImportError:
        asyncio.run(serve(configuration, announce))
    else:
        uvloop.run(serve(configuration, announce))


async def _watch(configuration: Configuration) -> None:
    """Reload the configuration whenever one of its files changes."""
    watch = FileWatch(configuration.files)
    while True:
        await asyncio.sleep(_WATCH_SECONDS)
        if watch.changed():
            _reload(configuration)


def _configure_logging(configuration: Configuration) -> None:
    settings = configuration.current
    configure_logging(settings.log_level, log_format=settings.log_format)


def _reload(configuration: Configuration) -> None:
    """Reload the configuration; where it is wrong, log that and keep the one in force."""
    try:
        needs_restart = configuration.reload()
    except ConfigError as error:
        _log.error("configuration_reload_failed", problem=str(error))
    except Exception as error:  # noqa: BLE001 - it must not end a server
        report_bug(BackgroundJob.RELOAD, error)
    else:
        _configure_logging(configuration)
        _log.info("configuration_reloaded", needs_restart=list(needs_restart))
