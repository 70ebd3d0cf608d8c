"""`replace` copies both kinds of records, checks what they check, and knows their fields."""

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from mediagate_server.store.records import Generation, LedgerEntry, State
from mediagate_server.structs import replace
from tests.store.records import generation_record, reservation


@dataclass(frozen=True, slots=True)
class Checked:
    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("upside down")


@pytest.mark.parametrize("name", Generation.__struct_fields__)
def test_replace_changes_one_field(name: str) -> None:
    generation = generation_record("one")
    change: dict[str, Any] = {name: "other"}
    changed = msgspec.structs.asdict(replace(generation, **change))
    assert changed == msgspec.structs.asdict(generation) | change


def test_replace_changes_none_or_many_fields() -> None:
    generation = generation_record("one")
    assert replace(generation) == generation
    assert replace(generation) is not generation
    changed = replace(generation, version=7, state=State.FAILED, labels={"a": "b"})
    assert (changed.version, changed.state, changed.labels) == (7, State.FAILED, {"a": "b"})
    assert generation.version == 1


def test_replace_runs_the_structs_checks() -> None:
    assert replace(Checked(1, 2), low=2) == Checked(2, 2)
    with pytest.raises(ValueError, match="upside down"):
        replace(Checked(1, 2), low=3)
    (entry,) = reservation(generation_record("one"))
    with pytest.raises(ValueError, match="negative"):
        replace(entry, amount_nanos=-1)
    assert isinstance(entry, LedgerEntry)


def test_replace_refuses_unknown_fields() -> None:
    wrong: dict[str, Any] = {"nonsense": 1}
    for record in (generation_record("one"), Checked(1, 2)):
        with pytest.raises(TypeError, match="nonsense"):
            replace(record, **wrong)
