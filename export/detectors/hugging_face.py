"""Image classifiers in Hugging Face's folders: weights, ``config.json``, preprocessor config."""

from __future__ import annotations

from typing import Any

from ..errors import CheckpointError
from .hf_classes import classes_of
from .hf_views import preset_of
from .networks.hf_networks import BUILDS
from .networks.weights import sizes_of
from .presets import STREAM
from .registry import Detector, Family, Preset, Source


def _architecture(source: Source) -> str | None:
    named: Any = source.config.get("architectures")
    return str(named[0]) if isinstance(named, list) and named else None


def _presets(source: Source) -> tuple[Preset, ...]:
    return (preset_of(source.preprocessor),)


def _load(source: Source, preset: Preset) -> Detector:
    architecture = _architecture(source)
    build = BUILDS.get(architecture or "")
    if build is None:
        raise CheckpointError(
            f"config.json names the architecture {architecture}, which is not supported "
            f"({', '.join(BUILDS)} are): export the model with --backbone timm/NAME if timm has it."
        )
    classes = classes_of(source.config, source.classes, source.fake_class)
    with sizes_of(f"a {architecture}"):
        network = build(source.state, source.config, preset.views[STREAM].size)
        outputs = len(source.state["classifier.weight"])
    if outputs != 2:
        raise CheckpointError(
            f"the classifier has {outputs} outputs, and a detector has two: only classifiers of "
            "real and AI-generated images can be exported."
        )
    return Detector(
        name=f"Hugging Face {architecture}",
        streams={STREAM: network},
        aggregator=None,
        classes=classes,
        fixed_batch=architecture == "ConvNextForImageClassification",
        quantise_residuals=False,
    )


FAMILY = Family(
    name="hugging-face",
    title="Hugging Face image classifiers",
    keys=(r"classifier\.weight$", r"classifier\.bias$"),
    licence="the model's own",
    presets=_presets,
    load=_load,
    fits=lambda source: _architecture(source) is not None,
)
