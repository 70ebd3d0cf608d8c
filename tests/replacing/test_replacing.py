"""`replace` does what the standard one does, for the records that it is for."""

import dataclasses
import gc
import weakref
from dataclasses import dataclass, field
from typing import Any

import pytest

from mediagate_server.replacing import replace
from mediagate_server.store.records import Entry, Generation, State
from tests.store.samples import made, reservation


@dataclass(frozen=True, slots=True)
class Checked:
    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("upside down")


@pytest.mark.parametrize("name", [one.name for one in dataclasses.fields(Generation)])
def test_any_one_field_as_the_standard_does(name: str) -> None:
    generation = made("one")
    change: dict[str, Any] = {name: "other"}
    ours = replace(generation, **change)
    assert ours == dataclasses.replace(generation, **change) != generation


def test_nothing_and_much_at_once() -> None:
    generation = made("one")
    assert replace(generation) == generation
    assert replace(generation) is not generation
    ours = replace(generation, version=7, state=State.FAILED, logs="", labels={"a": "b"})
    theirs = dataclasses.replace(
        generation, version=7, state=State.FAILED, logs="", labels={"a": "b"}
    )
    assert ours == theirs
    assert repr(ours) == repr(theirs)


def test_what_a_class_checks_is_checked() -> None:
    assert replace(Checked(1, 2), low=2) == Checked(2, 2)
    with pytest.raises(ValueError, match="upside down"):
        replace(Checked(1, 2), low=3)
    (entry,) = reservation(made("one"))
    with pytest.raises(ValueError, match="negative"):
        replace(entry, amount_nanos=-1)
    assert isinstance(entry, Entry)


def test_a_name_that_is_no_field() -> None:
    wrong: dict[str, Any] = {"nonsense": 1}
    with pytest.raises(TypeError, match="nonsense"):
        replace(made("one"), **wrong)


def test_a_class_that_it_is_not_for_is_refused() -> None:
    @dataclass(frozen=True)
    class Open:
        one: int
        two: int

    @dataclass(frozen=True, slots=True)
    class Drawn:
        one: int
        two: int = field(init=False, default=2)

    for record in (Open(1, 2), Drawn(1)):
        with pytest.raises(TypeError, match="no dataclass with slots"):
            replace(record, one=3)


def test_a_copy_is_freed_like_any_other() -> None:
    @dataclass(frozen=True, slots=True, weakref_slot=True)
    class Held:
        one: int
        two: int

    copy = replace(Held(1, 2), two=3)
    gone = weakref.ref(copy)
    gc.disable()
    try:
        del copy
        assert gone() is None
    finally:
        gc.enable()
