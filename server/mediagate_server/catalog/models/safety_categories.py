"""Hazard categories of safety models: each taxonomy as its model card gives it.

The same code means other hazards in other generations of a model, so a code is only ever read with
the taxonomy of the model that returned it.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

SAFETY_CATEGORIES: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        # Llama Guard 3 and 4 share it; Llama Guard 2 does not.
        "llama_guard_3": MappingProxyType(
            {
                "S1": "Violent Crimes",
                "S2": "Non-Violent Crimes",
                "S3": "Sex-Related Crimes",
                "S4": "Child Sexual Exploitation",
                "S5": "Defamation",
                "S6": "Specialized Advice",
                "S7": "Privacy",
                "S8": "Intellectual Property",
                "S9": "Indiscriminate Weapons",
                "S10": "Hate",
                "S11": "Suicide & Self-Harm",
                "S12": "Sexual Content",
                "S13": "Elections",
                "S14": "Code Interpreter Abuse",
            }
        ),
    }
)
"""Hazard by code, by the name of the taxonomy in a model file's output."""
