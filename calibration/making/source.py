"""The FP32 bundle that others are made from."""

from __future__ import annotations

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
