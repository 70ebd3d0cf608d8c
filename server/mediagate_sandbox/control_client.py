"""Client of the sandbox's control endpoints: state, bill, faults, limits, reset.

It needs nothing but the standard library and no event loop, so that any test can use it.
"""

from __future__ import annotations

import json
import ssl
from contextlib import closing
from datetime import datetime
from http import HTTPStatus
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

_SECONDS = 30
_PREDICTIONS = "/sandbox/predictions/"
"""Here a 404 means that there is no such prediction; elsewhere, that there is no such path."""


class ControlError(RuntimeError):
    """Error of a control endpoint; the message is the sandbox's, with the invalid field."""


class SandboxControl:
    """Client of the control endpoints of the sandbox at `url`."""

    def __init__(self, url: str, ca_file: Path | None = None) -> None:
        """Create a client of this origin, without a path; it connects at the first call.

        `ca_file` is what a sandbox with TLS is trusted by; None: what this machine trusts.
        """
        self.url = url.rstrip("/")
        self.ca_file = ca_file
        self._scheme, self._host = urlsplit(url)[:2]

    def bill(self, since: datetime | None = None, model: str | None = None) -> Any:
        """Get the bill: `total_nanos`, and `entries` with id, status, metrics and nano-dollars."""
        parameters = {"since": None if since is None else since.isoformat(), "model": model}
        query = urlencode({name: value for name, value in parameters.items() if value is not None})
        return self._ask("GET", f"/sandbox/bill?{query}")

    def state(self) -> Any:
        """Get the request log: creates, cancels, polls, streams, webhooks, authorization."""
        return self._ask("GET", "/sandbox/state")

    def faults(self, *faults: dict[str, Any], seed: int | None = None) -> Any:
        """Replace the fault plan. Raises ControlError for an invalid one.

        `faults({"do": "lose_answer", "on": "create", "times": 1})`; without any, nothing does.
        """
        plan: dict[str, Any] = {"faults": faults} | ({} if seed is None else {"seed": seed})
        return self._ask("POST", "/sandbox/faults", plan)

    def fired(self) -> list[Any]:
        """Get the fired faults of the current plan, in order."""
        fired: list[Any] = self._ask("GET", "/sandbox/faults")["fired"]
        return fired

    def limits(self, **changes: Any) -> Any:
        """Change the rate limits and return them: `limits(credit="none")`.

        The others are `creates_per_minute`, `requests_per_minute` and `gets_per_minute`; None does
        not limit.
        Raises ControlError for what makes no sense.
        """
        if not changes:
            return self._ask("GET", "/sandbox/limits")
        return self._ask("POST", "/sandbox/limits", changes)

    def rotate_webhook_secret(self, overlap_seconds: float = 0) -> str:
        """Rotate the webhook secret; both sign until the overlap ends."""
        answer = self._ask("POST", "/sandbox/webhooks/secret", {"overlap_seconds": overlap_seconds})
        return str(answer["key"])

    def forget(self, prediction: str) -> None:
        """Delete a prediction; the bill still has it."""
        self._ask("DELETE", f"{_PREDICTIONS}{prediction}")

    def amend(self, prediction: str, **metrics: Any) -> Any:
        """Change metrics of an ended prediction; others stay, and so does the bill.

        Returns all of its metrics. Raises ControlError where it is not there, or still runs.
        """
        return self._ask("POST", f"{_PREDICTIONS}{prediction}", {"metrics": metrics})

    def reset(self) -> None:
        """Reset the sandbox: no predictions, uploads or counts; first secret, limits and faults.

        What still ran is stopped, and webhooks under way are given up. The bill alone stays.
        """
        self._ask("POST", "/sandbox/reset")

    def _connection(self) -> HTTPConnection:
        if self._scheme != "https":
            return HTTPConnection(self._host, timeout=_SECONDS)
        context = ssl.create_default_context(cafile=self.ca_file)
        return HTTPSConnection(self._host, timeout=_SECONDS, context=context)

    def _ask(self, method: str, path: str, content: Any = None) -> Any:
        data = None if content is None else json.dumps(content).encode()
        with closing(self._connection()) as connection:
            connection.request(method, path, body=data)
            answer = connection.getresponse()
            body = answer.read()
        if answer.status == HTTPStatus.NOT_FOUND and not path.startswith(_PREDICTIONS):
            raise ControlError(
                f"{method} {path}: 404: {self.url} is no sandbox, or one that was started without "
                "control endpoints (`--no-control`, `control=False`)"
            )
        if answer.status != HTTPStatus.OK:
            words = body.decode(errors="replace")
            raise ControlError(f"{method} {path}: {answer.status}: {words}")
        return json.loads(body)
