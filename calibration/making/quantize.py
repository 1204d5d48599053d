"""From an FP32 bundle to one in a lower precision; it appears only at the end."""

from __future__ import annotations

from pathlib import Path

from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.making import check_apart, check_target, new_bundle
from ...runtime.bundle.model_card import write_model_card
from ...runtime.machine.progress import Progress, silent
from ..options import VariantOptions
from .source import check_fp32
from .variants import make_variant


def quantize_bundle(
    source: Bundle,
    target: Path,
    options: VariantOptions,
    *,
    force: bool = False,
    progress: Progress = silent,
) -> Bundle:
    """Make a bundle in a lower precision at ``target`` and return it. Needs no torch.

    It is made in a hidden folder beside ``target`` and renamed when its verdicts have been
    compared with FP32's on images that it was not made with.

    Args:
        source: the bundle in FP32.
        target: where the new one shall be.
        options: which precision, on which images.
        force: replace a bundle at ``target``.
        progress: is told how far the work has come.

    Raises:
        AccuracyError: the verdicts differ too much, and the loss is not accepted.
        BundleError: the source was changed meanwhile.
        CalibrationError: the images are unreadable or show too little.
        EngineError: no engine of this machine runs this precision.
        InputError: the source is not in FP32, or ``target`` may not be replaced.
        OutputError: the bundle cannot be written.
    """
    check_fp32(source)
    check_target(target, force=force)
    check_apart(source.path, target)
    with new_bundle(target, force=force) as folder:
        make_variant(source, folder, options, progress)
        source.check_unchanged()  # its files are opened by their names
        write_model_card(Bundle.open(folder))
    return Bundle.open(target)
