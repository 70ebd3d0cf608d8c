"""Redaction: no secret gets into a cassette.

Secrets are found by where they stand (headers, query parameters, names, a model's schema) and then
taken out wherever else their value stands; a few kinds are known by their form alone.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, unquote, unquote_plus, urlsplit

from mediagate_sandbox.cassettes.json_strings import Change, strings_in

REDACTED = "[redacted]"
WEBHOOK = "https://webhook.invalid/"
"""Stands for the address of a webhook, which is its receiver's secret."""

_MOST_VALUES = 200
_LONGEST_TEXT_URI = 16 * 1024
"""Longer data URIs are files, which are kept as they are."""
_SHORTEST = 8
"""Shorter values are taken out where they stand alone, not within other texts."""

_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})
_SECRET_NAME = re.compile(
    r"(?:.*_)?(?:(?:api_?key|access_?key|private_?key|secret(?:_?key)?|password|credential)s?"
    r"|token|passwd|passphrase|authorization|bearer|cookie|auth|jwt)",
    re.IGNORECASE,
)
_OTHER_TOKEN = re.compile(
    r"(?:.*_)?(?:stop|eos|bos|end|start|pad|unk|sep|mask|special|trigger|page|next)_?token",
    re.IGNORECASE,
)
"""Tokens of languages and lists."""
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_TOKEN = re.compile(
    r"\b(?:r8_\w{16,}|hf_\w{16,}|sk-[\w-]{20,}|whsec_[A-Za-z0-9+/=]{16,}|gh[opsur]_\w{20,}"
    r"|github_pat_\w{20,}|AKIA[0-9A-Z]{16}|xox[abp]-[\w-]{10,}|AIza[\w-]{30,}"
    r"|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]+)"
    r"|(?<=\bBearer )[\w.~+/=-]{16,}",
)
_PLAIN_WORD = re.compile("[a-z]{1,15}")
"""Made-up tokens, such as `anything`: they would be taken out of prompts and texts."""
_URL = re.compile(r"\bhttps?://[^\s\"'<>\\]+", re.IGNORECASE)
_USER = re.compile(r"(?<=://)[^/?#@\s]+@")
_SIGNATURES = frozenset({"signature", "sig", "x-amz-signature", "x-goog-signature", "hm"})
_OF_A_SIGNATURE = frozenset(
    {"expires", "expiry", "se", "st", "ske", "skt", "ex", "is", "policy", "key-pair-id"}
    | {"awsaccesskeyid", "googleaccessid"}
)
"""Parameters that change with each signature of the same link."""


def is_secret_name(name: str) -> bool:
    """Whether a field or parameter of this name holds a secret."""
    if _OTHER_TOKEN.fullmatch(name):
        return False
    return _SECRET_NAME.fullmatch(_CAMEL.sub("_", name).replace("-", "_")) is not None


def secret_strings(document: Any) -> set[str]:
    """Return all strings that stand under the name of a secret, at any depth."""
    found: set[str] = set()
    waiting = [("", document)]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, str) and value and is_secret_name(name):
            found.add(value)
        elif isinstance(value, list):
            waiting += [(name, each) for each in value]
        elif isinstance(value, dict):
            waiting += value.items()
    return found


def schema_secrets(schemas: Mapping[str, Any], value: Any) -> set[str]:
    """Return all strings of an input that its schema marks as secret.

    `schemas` is `components.schemas` of a model's OpenAPI document. Marked is what has
    `x-cog-secret`, `format: password` or `writeOnly`.
    """
    return set(_marked(schemas, schemas.get("Input"), value, 0))


def _marked(schemas: Mapping[str, Any], schema: Any, value: Any, depth: int) -> Iterable[str]:
    if not isinstance(schema, dict) or depth > 32:
        return
    if (
        schema.get("x-cog-secret")
        or schema.get("format") == "password"
        or schema.get("writeOnly") is True
    ):
        yield from filter(None, strings_in(value))
        return
    reference = schema.get("$ref")
    if isinstance(reference, str):
        named = schemas.get(reference.rpartition("/")[2])
        yield from _marked(schemas, named, value, depth + 1)
    for union in ("allOf", "anyOf", "oneOf"):
        for each in schema.get(union) or ():
            yield from _marked(schemas, each, value, depth + 1)
    if isinstance(value, list):
        for each in value:
            yield from _marked(schemas, schema.get("items"), each, depth + 1)
    elif isinstance(value, dict):
        properties = schema.get("properties")
        known = properties if isinstance(properties, dict) else {}
        for name, each in value.items():
            other = schema.get("additionalProperties")
            yield from _marked(schemas, known.get(name, other), each, depth + 1)


class Redactor:
    """Takes secrets out of texts. It learns their values as it meets them."""

    def __init__(self) -> None:
        """Create a redactor that knows secrets by their form alone."""
        self._values: dict[str, None] = {}
        self._longest_first: list[str] = []

    def learn(self, values: Iterable[str]) -> None:
        """Learn secret values; short ones are left out, and the oldest are forgotten."""
        met = {each for each in values if len(each) >= _SHORTEST}
        met |= {quote(each, safe="") for each in met}
        is_new = not met <= self._values.keys()
        for each in met:
            self._values.pop(each, None)
            self._values[each] = None
        if is_new:
            for each in list(self._values)[:-_MOST_VALUES]:
                del self._values[each]
            self._longest_first = sorted(self._values, key=len, reverse=True)

    def learn_headers(self, headers: Mapping[str, str]) -> None:
        """Learn the secrets of a request's or a response's headers."""
        for name, value in headers.items():
            if name.lower() in _SECRET_HEADERS or is_secret_name(name):
                found = _header_secrets(value)
                self.learn(each for each in found if not _PLAIN_WORD.fullmatch(each))

    def learn_query(self, target: str) -> None:
        """Learn the secrets of a query."""
        for name, value in _parameters(target):
            if is_secret_name(name):
                self.learn((value, unquote(value), unquote_plus(value)))

    def learn_document(self, document: Any) -> None:
        """Learn the secrets of a request's JSON: by their names, and in links."""
        self.learn(secret_strings(document))
        for text in strings_in(document):
            self._learn_links(text)

    def learn_webhook(self, url: str) -> None:
        """Learn the address of a webhook, and what may be secret in it by itself."""
        self.learn((url,))
        self.learn(each for each in urlsplit(url).path.split("/") if len(each) >= 2 * _SHORTEST)
        self.learn(unquote(value) for _, value in _parameters(url))

    def text(self, text: str) -> str:
        """Return a text without secrets; those in its links are learned."""
        if text == WEBHOOK or (text.startswith("data:") and len(text) > _LONGEST_TEXT_URI):
            return text
        self._learn_links(text)
        for each in self._longest_first:
            if each in text:
                text = text.replace(each, REDACTED)
        if "://" in text:
            text = _URL.sub(lambda match: redact_url(match.group()), text)
        return _TOKEN.sub(REDACTED, text)

    def _learn_links(self, text: str) -> None:
        if "://" in text:
            for url in _URL.findall(text):
                self.learn(_link_secrets(url))

    def change(self, private: Iterable[str] = ()) -> Change:
        """Return the change of a document's strings that leaves no secret in it.

        `private` are values that are secret in this document.
        """
        hidden = set(private)
        within = [each for each in hidden if len(each) >= _SHORTEST]

        def redact(name: str, text: str) -> str:
            if name == "webhook":
                return WEBHOOK
            if text in hidden or (text and is_secret_name(name)):
                return REDACTED
            for each in within:
                text = text.replace(each, REDACTED)
            return self.text(text)

        return redact


def redact_url(url: str) -> str:
    """Return a URL, or the path and query of one, without user, tokens and signature."""
    url = _USER.sub("", url)
    head, question, rest = url.partition("?")
    if not question:
        return url
    query, hash_sign, fragment = rest.partition("#")
    parts = []
    names = {part.partition("=")[0].lower() for part in query.split("&")}
    is_signed = bool(names & _SIGNATURES)
    for part in query.split("&"):
        name, equals, _ = part.partition("=")
        is_secret = name.lower() in _SIGNATURES or is_secret_name(name)
        is_secret |= name.lower().startswith(("x-amz-", "x-goog-"))
        is_secret |= is_signed and name.lower() in _OF_A_SIGNATURE
        parts.append(f"{name}=redacted" if equals and is_secret else part)
    return f"{head}?{'&'.join(parts)}{hash_sign}{fragment}"


def _link_secrets(url: str) -> Iterable[str]:
    """Return the user in front of a link's host, and its tokens and signatures."""
    user = _USER.search(url)
    if user is not None:
        yield user.group()[:-1]
        yield unquote(user.group()[:-1].partition(":")[2])
    for name, value in _parameters(url):
        if name.lower() in _SIGNATURES or is_secret_name(name):
            yield value
            yield unquote(value)


def _parameters(target: str) -> Iterable[tuple[str, str]]:
    for part in target.partition("?")[2].split("&"):
        name, _, value = part.partition("=")
        yield unquote(name), value


def _header_secrets(value: str) -> Iterable[str]:
    """Return what is secret in a header: all of it, each part of it, and what Basic encodes."""
    yield value
    for part in re.split(r"[\s,;]+", value):
        yield part
        yield part.partition("=")[2]
    scheme, _, encoded = value.partition(" ")
    if scheme.lower() == "basic":
        try:
            decoded = base64.b64decode(encoded.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError, ValueError):
            return
        yield decoded
        yield from decoded.partition(":")[::2]
