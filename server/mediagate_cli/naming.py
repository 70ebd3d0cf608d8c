"""Which model an invoice means: the ledger has one name for each, an invoice may have many.

black-forest-labs/flux-dev            as the ledger has it
stability-ai/sdxl:7762fd07cf82…       with its version
7762fd07cf82…                         its version alone, or how that begins
flux-dev, mistral-large               an alias, or a name that another model stands in for
https://replicate.com/acme/ours       a link to its page
acme/ours                             a deployment, where only that was run
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mediagate.v1.models_pb2 import Model

_PAGE: Final = re.compile(r"(https?://)?(www\.)?replicate\.com/|https?://[^/]+/", re.IGNORECASE)
_OF_DEPLOYMENTS: Final = "deployments/"
_VERSION: Final = re.compile(r"[0-9a-f]{8,64}", re.ASCII)


def plain_name(model: str) -> str:
    """Return owner/name of a model, without its version or the address of its page, lower-cased."""
    path = _PAGE.sub("", model.strip(), count=1).partition(":")[0].partition("?")[0]
    parts = [part for part in path.strip().casefold().split("/") if part]
    return "/".join(parts[: 3 if parts[:1] == ["deployments"] else 2])


@dataclass(frozen=True, slots=True)
class Names:
    """Every name that is known besides those of the ledger itself, and whose it is.

    `own` are names of the very model, `others` those of models that another is run instead of,
    `versions` pinned ones, whole. All are in lower case.
    """

    own: Mapping[str, str]
    others: Mapping[str, str]
    versions: Mapping[str, str]

    @classmethod
    def of(cls, models: "Iterable[Model]") -> "Names":
        """Return the names of a catalog."""
        own: dict[str, str] = {}
        others: dict[str, str] = {}
        versions: dict[str, str] = {}
        for model in models:
            slug = model.slug.casefold()
            own |= {name.casefold(): slug for name in (slug, *model.aliases)}
            others |= {other.name.casefold(): slug for other in model.stands_in_for}
            if model.successor:
                others[slug] = model.successor.casefold()
            if model.version:
                versions[model.version.casefold()] = slug
        return cls(own, others, versions)

    def meant(self, name: str, charged: "frozenset[str]") -> str:
        """Return what the ledger calls the model of this plain name.

        `charged` are the plain names that it has. What it has under that very name is meant; what
        nobody knows keeps its name, and so does a model that nothing was run instead of.
        """
        if name in charged:
            return name
        known = self.own.get(name) or self._of_version(name) or name
        deployed = known.removeprefix(_OF_DEPLOYMENTS)
        if deployed == known:
            deployed = _OF_DEPLOYMENTS + known
        instead = self.others.get(name) or self.others.get(known) or ""
        candidates = (known, deployed, instead)
        return next((one for one in candidates if one in charged), known)

    def _of_version(self, name: str) -> str:
        """Return whose version begins like this; empty where it is none, or that of several."""
        if not _VERSION.fullmatch(name):
            return ""
        found = {slug for version, slug in self.versions.items() if version.startswith(name)}
        return found.pop() if len(found) == 1 else ""


NO_NAMES: Final = Names({}, {}, {})
