"""INT8 by the static quantiser of ONNX Runtime."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import onnx
from onnx import ModelProto
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from ...calibration.int8.observe import CalibrationViews
from ...calibration.making.variants import Made
from ...runtime.bundle.streams import Role
from ...runtime.engines.base import Array
from .libraries import quantised_by
from .makers import Given, Maker


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Feeds the views of a backbone to the quantiser, a few at a time.

    Its length and ranges count batches, so that it can be read in strides of one batch: the
    histograms of all batches at once would need gigabytes.
    """

    def __init__(self, source: str, views: CalibrationViews, role: Role) -> None:
        self._source = source
        self._batches = list(views.batches(role))
        self.set_range(0, len(self._batches))

    def __len__(self) -> int:
        return len(self._batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._coming = iter(self._batches[start_index:end_index])

    def get_next(self) -> dict[str, Array] | None:
        batch = next(self._coming, None)
        return None if batch is None else {self._source: batch}


def _made(given: Given, method: CalibrationMethod) -> Made:
    return quantised_by("ONNX Runtime", given, partial(_quantise, given.views, method))


def _quantise(
    views: CalibrationViews, method: CalibrationMethod, role: Role, model: ModelProto
) -> ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        first, prepared, quantised = (
            Path(folder, f"{name}.onnx") for name in ("fp32", "prepared", "int8")
        )
        onnx.save(model, first)
        # The exported graph holds its shapes, and what would infer them needs SymPy.
        quant_pre_process(first, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantised,
            _Reader(model.graph.input[0].name, views, role),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=method,
            extra_options={"CalibStridedMinMax": 1},
        )
        return onnx.load(quantised)


_SETTINGS = "Q/DQ, uint8 activations, int8 weights per channel, after `quant_pre_process`"
MAKERS = (
    Maker(
        "onnxruntime-minmax",
        f"ONNX Runtime's `quantize_static`: MinMax, {_SETTINGS}",
        partial(_made, method=CalibrationMethod.MinMax),
    ),
    Maker(
        "onnxruntime-percentile",
        "the same with ranges that hold 99.999 % of the values",
        partial(_made, method=CalibrationMethod.Percentile),
    ),
)
