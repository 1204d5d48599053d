"""The FP32 bundle that ``glass-quantize`` starts from."""

from __future__ import annotations

from pathlib import Path

from ...runtime.bundle.bundle import Bundle
from ...runtime.commands.inputs import chosen_bundle
from ...runtime.machine.progress import Progress
from ..making.source import check_fp32
from .options import Lowering

LIBRARIES = ("onnx", "onnxruntime", "ml_dtypes")
"""What making anything of it needs."""


def chosen_source(named: Path | None, lowering: Lowering) -> Path:
    """Return the bundle that the user named, or the one that is meant without a name.

    Raises:
        InputError: there is none, or which one is meant cannot be told.
    """
    images = [] if lowering.calibrate is None else [str(lowering.calibrate)]
    return chosen_bundle(named, images, option=None)


def open_fp32(path: Path, progress: Progress) -> Bundle:
    """Open the bundle and check that it is in FP32.

    Raises:
        BundleError: it is damaged.
        InputError: it is in a lower precision.
    """
    with progress("checking the bundle"):
        bundle = Bundle.open(path)
    check_fp32(bundle)
    return bundle
