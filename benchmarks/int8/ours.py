"""INT8 as ``glass-quantize`` makes it."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import onnx

from ...calibration.making.quantize import quantize_bundle
from ...calibration.making.variants import Made
from ...calibration.options import CalibrationOptions, VariantOptions
from .makers import Given, Maker


def _made(given: Given, options: CalibrationOptions) -> Made:
    """Make the bundle that a user gets, and give its graphs."""
    variant = VariantOptions("int8", given.sets, options, accept_loss=True)
    with tempfile.TemporaryDirectory(prefix="glass-bench-") as scratch:
        target = Path(scratch, "int8.glass")
        made = quantize_bundle(given.bundle, target, variant, progress=given.progress)
        graphs = {role: onnx.load(made.graph_path(role)) for role in made.manifest.streams}
    manifest = made.manifest
    kept = {role: manifest.kept.get(role, ()) for role in manifest.streams}
    return Made(graphs, kept, manifest.calibration, "fp32")


MAKERS = (
    Maker(
        "glass-quantize",
        "`glass-quantize --precision int8`, whose seconds include its comparison with FP32 on "
        "images held out",
        lambda given: _made(given, given.options),
        reads_images=True,
    ),
    Maker(
        "glass-quantize-all",
        "the same with `--int8-keep 0`: no layer is kept",
        lambda given: _made(given, replace(given.options, keep=0)),
        reads_images=True,
    ),
)
