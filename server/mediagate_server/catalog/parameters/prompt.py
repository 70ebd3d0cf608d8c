"""Prompt formatting: conversations for language models, content to classify for safety models.

Three chat styles: `turns` for models that take a list of messages, `llama3` for models that take
the raw text of Llama 3's chat format, `transcript` for models that take one prompt and nothing
else.

A turn that a safety model cannot be given is reported as left out or, where a verdict of safe could
be wrong without it, rejected.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from pydantic.dataclasses import dataclass

from mediagate_server.catalog.parameters.rule import (
    InputDraft,
    ParameterOutcome,
    adjusted_outcome,
    dropped_outcome,
    emulated_outcome,
    honoured_outcome,
)
from mediagate_server.catalog.request import MediaInput, Message, Value
from mediagate_server.catalog.schemas.input_spec import STRICT
from mediagate_server.errors import InvalidRequest, ParameterUnsupported, Violation
from mediagate_server.structs import replace

CHAT_FIELDS = ("prompt", "messages", "system_prompt")
"""Parameters of a conversation; no other rule maps them."""
_NO_READABLE_TURN = "there is nothing in it that the model can read"
_AS_TRANSCRIPT = "as a transcript in the prompt"
_IN_CHAT_FORMAT = "written out in the model's chat format"
# Llama 3's chat format as its model card gives it. The wrapper on Replicate sends the prompt as it
# is unless it gets a template, and an instruct model answers a bare prompt poorly.
_BEGIN = "<|begin_of_text|>"
_END_OF_TURN = "<|eot_id|>"


class ChatStyle(StrEnum):
    """Format of a conversation that the model takes."""

    TURNS = "turns"
    LLAMA3 = "llama3"
    TRANSCRIPT = "transcript"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ChatInputs:
    """Chat inputs of a language model; an empty name: the model has no such input.

    `images` takes the images of a conversation, one or a list.
    """

    style: ChatStyle = ChatStyle.TRANSCRIPT
    prompt: str = "prompt"
    messages: str = ""
    system: str = ""
    template: str = ""
    images: str = ""

    @property
    def targets(self) -> tuple[str, ...]:
        """Every input that it may write."""
        names = (self.prompt, self.messages, self.system, self.template, self.images)
        return tuple(name for name in names if name)

    def apply(
        self, parameters: Mapping[str, Value], draft: InputDraft
    ) -> dict[str, ParameterOutcome]:
        """Write the conversation; the outcome of each of CHAT_FIELDS that was set."""
        if "messages" not in parameters:
            return self._apply_prompt(parameters, draft)
        self._check_supported(request_messages(parameters), draft)
        turns, system = _split_system_prompt(parameters)
        outcomes: dict[str, ParameterOutcome] = {}
        if "prompt" in parameters:
            outcomes["prompt"] = honoured_outcome()
        if self._is_sent_as_messages(turns):
            draft.input[self.messages] = _chat_messages(parameters)
            outcomes["messages"] = honoured_outcome()
            if "system_prompt" in parameters:
                outcomes["system_prompt"] = honoured_outcome()
            return outcomes
        images = self._write_images(turns, draft)
        turn_texts = _turn_texts(turns, image_count=len(images))
        if not any(text for _, text in turn_texts) and not images:
            raise InvalidRequest.of("messages", _NO_READABLE_TURN)
        outcomes["messages"] = self._messages_outcome(turns)
        if "system_prompt" in parameters:
            outcomes["system_prompt"] = self._system_prompt_outcome()
        self._write(turn_texts, system, draft)
        return outcomes

    def _apply_prompt(
        self, parameters: Mapping[str, Value], draft: InputDraft
    ) -> dict[str, ParameterOutcome]:
        """A single user turn, which most conversations are."""
        prompt = str(parameters.get("prompt", ""))
        if not prompt:
            raise InvalidRequest.of("messages", _NO_READABLE_TURN)
        outcomes: dict[str, ParameterOutcome] = {}
        if "prompt" in parameters:
            outcomes["prompt"] = honoured_outcome()
        system = ""
        if "system_prompt" in parameters:
            outcomes["system_prompt"] = self._system_prompt_outcome()
            system = str(parameters["system_prompt"])
        self._write([("user", prompt)], system, draft)
        return outcomes

    def _check_supported(self, messages: Sequence[Message], draft: InputDraft) -> None:
        """Reject images and tools that the model cannot be given: the answer would be wrong."""
        violations = image_violations(messages)
        if self.images and draft.specs[self.images].is_list:
            violations = []
        elif self.images:
            violations = [
                replace(violation, description="the model looks at one picture")
                for violation in violations[1:]
            ]
        for index, message in enumerate(messages):
            for field, is_set in (
                ("role", message.role == "tool"),
                ("tool_calls", message.tool_calls),
            ):
                if is_set:
                    path = f"messages[{index}].{field}"
                    violations.append(Violation(path, "the model cannot be given tools"))
        if violations:
            raise ParameterUnsupported(*violations)

    def _is_sent_as_messages(self, turns: Sequence[Message]) -> bool:
        """Whether turns go as messages. Image inputs are only documented beside a prompt."""
        if self.style is not ChatStyle.TURNS:
            return False
        is_text_only = all(isinstance(part, str) for turn in turns for part in turn.parts)
        return is_text_only and all(turn.role in ("system", "user", "assistant") for turn in turns)

    def _write_images(self, turns: Sequence[Message], draft: InputDraft) -> list[str]:
        """Write the images to their input, and return what was sent."""
        media = [part for turn in turns for part in turn.parts if isinstance(part, MediaInput)]
        if not media or not self.images:
            return []
        uris = [medium.uri for medium in media]
        draft.input[self.images] = uris if draft.specs[self.images].is_list else uris[0]
        return uris

    def _write(self, turn_texts: list[tuple[str, str]], system: str, draft: InputDraft) -> None:
        if self.style is ChatStyle.LLAMA3:
            prompt, template = _format_llama3(turn_texts, system)
            draft.input[self.prompt], draft.input[self.template] = prompt, template
            return
        is_single = len(turn_texts) == 1 and turn_texts[0][0] == "user"
        prompt = turn_texts[0][1] if is_single else _format_transcript(turn_texts)
        if system and self.system:
            draft.input[self.system] = system
        elif system:
            prompt = f"{system}\n\n{prompt}"
        draft.input[self.prompt] = prompt

    def _messages_outcome(self, turns: Sequence[Message]) -> ParameterOutcome:
        if len(turns) == 1 and turns[0].role == "user":
            return honoured_outcome()
        reason = _IN_CHAT_FORMAT if self.style is ChatStyle.LLAMA3 else _AS_TRANSCRIPT
        return emulated_outcome("", reason)

    def _system_prompt_outcome(self) -> ParameterOutcome:
        if self.style is ChatStyle.LLAMA3:
            return emulated_outcome("", _IN_CHAT_FORMAT)
        return honoured_outcome() if self.system else emulated_outcome("", "put before the prompt")


def image_violations(messages: Sequence[Message], first: int = 0) -> list[Violation]:
    """A violation for each image from turn `first` on, for models without vision."""
    return [
        Violation(
            f"messages[{at}].parts[{part_index}].image", "the model does not look at pictures"
        )
        for at, message in enumerate(messages)
        if at >= first
        for part_index, part in enumerate(message.parts)
        if isinstance(part, MediaInput)
    ]


def _split_system_prompt(parameters: Mapping[str, Value]) -> tuple[list[Message], str]:
    """The turns, and the system prompt: the parameter, then the leading system messages."""
    messages = request_messages(parameters)
    leading = 0
    while leading < len(messages) and messages[leading].role == "system":
        leading += 1
    if leading == len(messages):
        raise InvalidRequest.of("messages", "must hold a turn that the model can answer")
    system = [str(parameters.get("system_prompt", ""))]
    system += [message.text for message in messages[:leading]]
    return messages[leading:], "\n\n".join(text for text in system if text)


def request_messages(parameters: Mapping[str, Value]) -> list[Message]:
    """The parameter `messages`; empty where it is not set."""
    messages = parameters.get("messages")
    items = messages if isinstance(messages, tuple) else ()
    return [item for item in items if isinstance(item, Message)]


def _chat_messages(parameters: Mapping[str, Value]) -> list[dict[str, Any]]:
    """Messages with the system prompt first: the model ignores its system input beside messages."""
    system = parameters.get("system_prompt")
    first = [{"role": "system", "content": str(system)}] if system else []
    turns = request_messages(parameters)
    return first + [{"role": turn.role, "content": turn.text} for turn in turns]


def _turn_texts(turns: Sequence[Message], *, image_count: int) -> list[tuple[str, str]]:
    """Role and text of each turn. Among several turns, a mark stands where an image was."""
    marks = image_count if len(turns) > 1 else 0
    written = []
    for turn in turns:
        text = ""
        for part in turn.parts:
            if isinstance(part, str):
                text += part
            elif marks:
                text, marks = text + "[image]", marks - 1
        written.append((turn.role, text))
    return written


def _format_transcript(turn_texts: list[tuple[str, str]]) -> str:
    """Turns prefixed by role, with the assistant's prefix at the end as the cue to answer."""
    lines = [f"{role.capitalize()}: {text}" for role, text in turn_texts]
    if turn_texts[-1][0] != "assistant":
        lines.append("Assistant:")
    return "\n\n".join(lines)


def _format_llama3(turn_texts: list[tuple[str, str]], system: str) -> tuple[str, str]:
    """Prompt and prompt template in Llama 3's format: the template holds all but the last turn's
    text.

    Text of callers may hold braces, which a template may not but for `{prompt}`; then the whole
    conversation is the prompt, and the template only opens and closes it.
    """
    before = "".join(
        _llama3_turn(role, text)
        for role, text in ([("system", system)] if system else []) + turn_texts[:-1]
    )
    role, prompt = turn_texts[-1]
    before += _llama3_header(role)
    after = "" if role == "assistant" else _END_OF_TURN + _llama3_header("assistant")
    if "{" in before or "}" in before:
        return before + prompt, f"{_BEGIN}{{prompt}}{after}"
    return prompt, f"{_BEGIN}{before}{{prompt}}{after}"


def _llama3_turn(role: str, text: str) -> str:
    return _llama3_header(role) + text + _END_OF_TURN


def _llama3_header(role: str) -> str:
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n"


SAFETY_FIELDS = ("content", "messages", "role", "context")
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
        """Write the content; the outcome of each of SAFETY_FIELDS that was set."""
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
        first_sent = last - 1 if is_reply else last
        _reject_images(turns, first_sent)
        if not judged.text.strip():
            raise InvalidRequest.of(f"{field}.parts", "must hold something to judge")
        context = previous.text if is_reply and previous is not None else ""
        self._write(judged.role, f"{field}.role", judged.text, context, draft)
        if first_sent == 0:
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
