"""What is looked at before a request is run: the words that would reach the model. Pure.

Screening is a check by the operator's safety model, planned like any other. All that a caller's
user can have written is judged as one turn: of a conversation every turn of the user, because
what is harmless alone may not be so as the answer to "go on".
"""

from collections.abc import Iterator, Mapping
from typing import Any

from mediagate_server.catalog.request import Message, Modality, ModelRequest, RunRequest, Value

_PROSE = ("prompt", "text", "lyrics")
"""Parameters that say what is to be made. A negative prompt says what is not."""
_LINKS = ("https://", "http://", "data:")


def screening_request(request: ModelRequest | RunRequest) -> ModelRequest | None:
    """The check that comes before `request`; None where it has no words to be checked.

    It names no model: it is planned with the default safety model, and is bound by no
    `max_cost_nanos` of its own, because the bound is on the sum.
    """
    if isinstance(request, RunRequest):
        words = list(_strings(request.input))
    else:
        words = list(_said(request.parameters))
    content = "\n\n".join(word for word in words if word.strip())
    if not content:
        return None
    return ModelRequest(Modality.SAFETY, "", {"content": content})


def _said(parameters: Mapping[str, Value]) -> Iterator[str]:
    for name in _PROSE:
        value = parameters.get(name)
        if isinstance(value, str):
            yield value
    messages = parameters.get("messages")
    for message in messages if isinstance(messages, tuple) else ():
        if isinstance(message, Message) and message.role == "user":
            yield message.text


def _strings(value: Any) -> Iterator[str]:
    """Every string in a model's own input, which may be a prompt whatever it is called."""
    if isinstance(value, str):
        if not value.startswith(_LINKS):
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)
