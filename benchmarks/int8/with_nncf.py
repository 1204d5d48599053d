"""INT8 by NNCF, OpenVINO's own quantiser, on the ONNX graphs."""

from __future__ import annotations

from functools import partial

import nncf
from onnx import ModelProto

from ...calibration.making.variants import Made
from ...runtime.bundle.streams import Role
from ...runtime.engines.base import Array
from .accuracy_control import LIMIT, MOST_ERROR, RANKED_ON, Validation, trial_of
from .libraries import quantised_by
from .makers import Given, Maker

_NAME = "NNCF"


def _made(given: Given, preset: nncf.QuantizationPreset, fast: bool) -> Made:
    def quantise(role: Role, model: ModelProto) -> ModelProto:
        views = given.views.of(role)
        quantised: ModelProto = nncf.quantize(
            model,
            _dataset(views, model),
            preset=preset,
            subset_size=len(views),
            fast_bias_correction=fast,
            model_type=_model_type(model),
        )
        return quantised

    return quantised_by(_NAME, given, quantise)


def _with_accuracy_control(given: Given) -> Made:
    trial = trial_of(given)

    def quantise(role: Role, model: ModelProto) -> ModelProto:
        views = given.views.of(role)
        quantised: ModelProto = nncf.quantize_with_accuracy_control(
            model,
            calibration_dataset=_dataset(views, model),
            validation_dataset=nncf.Dataset(range(trial.images)),
            validation_fn=Validation(trial, role, model),
            max_drop=MOST_ERROR,
            drop_type=nncf.DropType.ABSOLUTE,
            subset_size=len(views),
            model_type=_model_type(model),
            advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
                ranking_subset_size=RANKED_ON, num_ranking_workers=1
            ),
        )
        return quantised

    return quantised_by(_NAME, given, quantise)


def _dataset(views: Array, model: ModelProto) -> nncf.Dataset:
    """Give views one at a time: NNCF measures whole batches less well."""
    source = model.graph.input[0].name
    return nncf.Dataset(views[:, None], lambda view: {source: view})


def _model_type(model: ModelProto) -> nncf.ModelType | None:
    """Tell NNCF of attention, as its manual asks."""
    attention = any(node.op_type == "Softmax" for node in model.graph.node)
    return nncf.ModelType.TRANSFORMER if attention else None


MAKERS = (
    *(
        Maker(
            f"nncf-{preset.value}{'' if fast else '-accurate'}",
            f"`nncf.quantize` with the preset {preset.name}"
            + ("" if fast else " and `fast_bias_correction=False`")
            + "; `ModelType.TRANSFORMER` if there is attention",
            partial(_made, preset=preset, fast=fast),
        )
        for fast in (True, False)
        for preset in (nncf.QuantizationPreset.PERFORMANCE, nncf.QuantizationPreset.MIXED)
    ),
    Maker(
        "nncf-accuracy-control",
        "`nncf.quantize_with_accuracy_control` with its default preset. Its metric is one minus "
        "the root mean square change of the margin, in draw noise, on trial views of the "
        f"calibration images with the other backbone in FP32. It may drop by {MOST_ERROR:.2f}: "
        "errors of the two backbones add up as squares to the 0.2 that glass-quantize aims at. "
        f"Groups of layers are ranked on {RANKED_ON} images. After {LIMIT / 60:.0f} minutes for a "
        "backbone it ends with what it has",
        _with_accuracy_control,
    ),
)
