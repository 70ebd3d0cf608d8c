"""A frozen record with some of its fields changed: one way for both kinds of records.

Those that every call is made of are msgspec's structs, which are copied in C: a call copies twenty,
and a record of thirty fields took `dataclasses.replace` 9 us and takes this 0.4
(docs/decisions/0021).
"""

from typing import TYPE_CHECKING, Any

__all__ = ["replace"]

if TYPE_CHECKING:
    # The same signature, which mypy checks against the fields of each record.
    from dataclasses import replace
else:
    import dataclasses

    import msgspec

    def replace(record: Any, /, **changes: Any) -> Any:
        """The copy. Raises TypeError for a name that is no field, and what the class's own check
        raises.
        """
        if isinstance(record, msgspec.Struct):
            return msgspec.structs.replace(record, **changes)
        return dataclasses.replace(record, **changes)
