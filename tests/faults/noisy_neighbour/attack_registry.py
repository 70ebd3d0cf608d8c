"""All attacks, by name. To add one: a function of ten lines, marked `@attack`, in a list below."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

from . import load_attacks, media_attacks, model_attacks, port_attacks, request_attacks
from .attack import Attack
from .baseline_load import harmless_load

GROUPS: Mapping[str, tuple[Attack, ...]] = {
    "requests": request_attacks.ATTACKS,
    "load": load_attacks.ATTACKS,
    "media": media_attacks.ATTACKS,
    "models": model_attacks.ATTACKS,
    "ports": port_attacks.ATTACKS,
}
ATTACKS: Mapping[str, Attack] = {
    attack.name: attack for attack in chain(*GROUPS.values(), (harmless_load,))
}
"""By name; the load that they are compared with is among them."""
