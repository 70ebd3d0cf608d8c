"""How any model on Replicate is named: `owner/name`, with or without a version, or a deployment."""

import re
from dataclasses import dataclass
from typing import Final

from mediagate_server.errors import InvalidRequest

_NAME: Final = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}"
_BARE_VERSION: Final = re.compile(r"[0-9a-fA-F]{64}")
_FORM: Final = re.compile(
    rf"(?:(?P<deployment>deployments/{_NAME}/{_NAME})"
    rf"|(?P<slug>(?!deployments/){_NAME}/{_NAME})(?::(?P<version>[A-Za-z0-9_-]{{1,128}}))?)"
)


@dataclass(frozen=True, slots=True)
class Reference:
    """A name taken apart. `slug` is owner/name, of the model or of the deployment."""

    slug: str
    version: str = ""
    is_deployment: bool = False

    @classmethod
    def read(cls, text: str) -> "Reference":
        """Raises InvalidRequest, naming `model`, for anything else."""
        if _BARE_VERSION.fullmatch(text):
            words = (
                "is a version alone: write owner/name:version, so that its inputs can be checked"
            )
            raise InvalidRequest.of("model", words)
        # A version that is empty is none: programs put the colon there before they know it.
        found = _FORM.fullmatch(text.removesuffix(":"))
        if found is None:
            raise InvalidRequest.of(
                "model", "must be owner/name, owner/name:version or deployments/owner/name"
            )
        if found["deployment"]:
            return cls(found["deployment"].partition("/")[2], is_deployment=True)
        return cls(found["slug"], found["version"] or "")

    def __str__(self) -> str:
        if self.is_deployment:
            return f"deployments/{self.slug}"
        return f"{self.slug}:{self.version}" if self.version else self.slug
