"""The parameters of a request of the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

from ...machine.errors import InputError
from ..options import quoted, unknown

Scalar: TypeAlias = bool | int | float | str
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]

_TRUTH = (bool, "true or false")
_WHOLE = (Int64, "a whole number of 64 bits")
OPTIONS: dict[str, tuple[Any, str]] = {
    "crops": (Int64 | Literal["auto"], "a whole number or auto"),
    "seed": _WHOLE,
    "threshold": (float, "a number"),
    "provenance": _TRUTH,
    "influence": _TRUTH,
}
"""How to judge: each parameter's type, and the type in words."""

_UNSUPPORTED: dict[str, tuple[Any, str]] = {
    "sequence_id": (Int64 | str, "a whole number or text"),
    "sequence_start": _TRUTH,
    "sequence_end": _TRUTH,
    "priority": _WHOLE,
    "timeout": _WHOLE,
}
"""Parameters of the protocol that may only ask for nothing: 0, false or no text."""

BINARY_OUTPUT: Final = "binary_data_output"
_PARAMETERS = {**OPTIONS, **_UNSUPPORTED, BINARY_OUTPUT: _TRUTH}


def checked_parameters(parameters: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return a request's parameters, if each is known and has a value of its type.

    Raises:
        InputError: one has not, or is one of the protocol's that this server cannot obey.
    """
    checked: dict[str, Scalar] = {}
    for name, value in parameters.items():
        if name not in _PARAMETERS:
            raise unknown("parameter", name, (*OPTIONS, BINARY_OUTPUT))
        kind, words = _PARAMETERS[name]
        try:
            checked[name] = msgspec.convert(value, kind)
        except msgspec.ValidationError:
            text = quoted(msgspec.json.encode(value).decode())
            raise InputError(f"{name} must be {words}, not {text}.") from None
        if name in _UNSUPPORTED and value:
            raise InputError(f"the parameter {name} is not supported here: leave it out.")
    return checked
