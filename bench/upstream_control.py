"""Client of the fast upstream's control endpoints: script, counts, release of held streams."""

import http.client
import json
import time
from collections.abc import Mapping

from bench.upstream_responses import ResponseScript

_LOOK_EVERY = 0.02


class UpstreamControl:
    """Talks to the upstream's control address."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.url = f"http://{address}"

    def follow(self, script: ResponseScript) -> None:
        """Behave like this from now on, and count from zero."""
        self._ask("PUT", "/bench", script.to_json())

    def counts(self) -> Mapping[str, int]:
        """Creates, gets, cancels, streams and tokens since the script was set."""
        return self._ask("GET", "/bench")

    def go(self) -> None:
        """Let the streams that are held speak."""
        self._ask("POST", "/bench/go")

    def wait_for_streams(self, count: int, patience: float) -> int:
        """Wait until so many streams have been opened, or no more come for a while."""
        opened, since = 0, time.monotonic()
        while opened < count and time.monotonic() - since < patience:
            now = self.counts()["streams"]
            if now != opened:
                opened, since = now, time.monotonic()
            time.sleep(_LOOK_EVERY)
        return opened

    def _ask(self, verb: str, path: str, body: bytes | None = None) -> dict[str, int]:
        connection = http.client.HTTPConnection(self._address, timeout=10)
        try:
            connection.request(verb, path, body)
            counts: dict[str, int] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return counts
