"""Safety prompt formatting: the content to classify as a safety model's user turn or reply.

A turn that the model cannot be given is reported as left out or, where a verdict of safe could be
wrong without it, rejected.
"""

from collections.abc import Mapping, Sequence

from pydantic.dataclasses import dataclass

from mediagate_server.catalog.parameters.chat import image_violations, request_messages
from mediagate_server.catalog.parameters.rule import (
    InputDraft,
    ParameterOutcome,
    adjusted_outcome,
    dropped_outcome,
    honoured_outcome,
)
from mediagate_server.catalog.request import Message, Value
from mediagate_server.catalog.schemas.input_spec import STRICT
from mediagate_server.errors import InvalidRequest, ParameterUnsupported, Violation

FIELDS = ("content", "messages", "role", "context")
"""Parameters of a safety check; no other rule maps them."""

_NO_CONTEXT_REASON = "the model judges a user's turn by itself"
_LAST_TURN_ONLY_REASON = "the model was shown the last turn{reply}; what came before was left out"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class SafetyPrompt:
    """Prompt inputs of a safety model.

    `prompt` takes the user's turn; it is always sent, because the model's own default is a text of
    its vendor. `reply` takes the assistant's turn, which is classified instead where it is given;
    empty: the model classifies user turns only.
    """

    prompt: str = "prompt"
    reply: str = ""

    @property
    def targets(self) -> tuple[str, ...]:
        """Every input that it may write."""
        return (self.prompt, self.reply) if self.reply else (self.prompt,)

    def apply(
        self, parameters: Mapping[str, Value], draft: InputDraft
    ) -> dict[str, ParameterOutcome]:
        """Write the content; the outcome of each of FIELDS that was set."""
        if "messages" in parameters:
            return {"messages": self._write_last_turn(request_messages(parameters), draft)}
        content = str(parameters.get("content", ""))
        if not content.strip():
            raise InvalidRequest.of("content", "must hold something to judge")
        role = str(parameters.get("role", "user"))
        context = str(parameters.get("context", ""))
        self._write(role, "role", content, context, draft)
        outcomes = {"content": honoured_outcome()}
        if "role" in parameters:
            outcomes["role"] = honoured_outcome(role)
        if "context" in parameters:
            outcomes["context"] = (
                honoured_outcome() if role == "assistant" else dropped_outcome(_NO_CONTEXT_REASON)
            )
        return outcomes

    def _write_last_turn(self, turns: Sequence[Message], draft: InputDraft) -> ParameterOutcome:
        last = len(turns) - 1
        previous = turns[last - 1] if last else None
        judged = turns[last]
        field = f"messages[{last}]"
        if judged.role not in ("user", "assistant"):
            raise InvalidRequest.of(f"{field}.role", "must be ROLE_USER or ROLE_ASSISTANT")
        is_reply = judged.role == "assistant" and previous is not None and previous.role == "user"
        first_shown = last - 1 if is_reply else last
        _reject_images(turns, first_shown)
        if not judged.text.strip():
            raise InvalidRequest.of(f"{field}.parts", "must hold something to judge")
        context = previous.text if is_reply and previous is not None else ""
        self._write(judged.role, f"{field}.role", judged.text, context, draft)
        if first_shown == 0:
            return honoured_outcome()
        return adjusted_outcome(
            "", _LAST_TURN_ONLY_REASON.format(reply=" and what it answers" if is_reply else "")
        )

    def _write(self, role: str, field: str, content: str, context: str, draft: InputDraft) -> None:
        if role != "assistant":
            draft.input[self.prompt] = content
            return
        if not self.reply:
            raise ParameterUnsupported(Violation(field, "the model judges users' turns only"))
        draft.input[self.prompt] = context
        draft.input[self.reply] = content


def _reject_images(turns: Sequence[Message], first: int) -> None:
    """Reject turns with images: a verdict without them would not be about those turns."""
    if violations := image_violations(turns, first):
        raise ParameterUnsupported(*violations)
