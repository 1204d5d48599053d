"""The FP32 bundle that others are made from."""

from __future__ import annotations

from pathlib import Path

from ...runtime.bundle.bundle import Bundle
from ...runtime.machine.errors import InputError


def check_fp32(bundle: Bundle) -> None:
    """Refuse a bundle from which no other precision can be made.

    Raises:
        InputError: it is in a lower precision itself.
    """
    precision = bundle.manifest.precision
    if precision != "fp32":
        raise InputError(f"{bundle.name} is {precision}; name the FP32 bundle it came from.")


def check_apart(source: Path, target: Path) -> None:
    """Refuse to make a bundle where the one that it comes from lies.

    Raises:
        InputError: the two are the same folder, or one lies in the other.
    """
    first, second = source.resolve(), target.resolve()
    if first.is_relative_to(second) or second.is_relative_to(first):
        raise InputError(
            f"{target} cannot be made from {source}, because it would replace or change that: "
            "choose another name."
        )
