"""CNNSpot: a ResNet-50 of one logit (Wang et al., arXiv 1912.11035)."""

from __future__ import annotations

from torch import nn

from ..families.registry import recipe_from_weights
from ..tensors import StateDict
from .networks.parts import TwoLogits
from .networks.weights import filled
from .presets import IMAGENET, STREAM, centre, one_view
from .registry import Classes, Detector, Family, Preset, Source

_CODE = "PeterWang512/CNNDetection@ea0b562"
_FEATURES = 2048
# ResNet-50 has four stages of 3, 4, 6 and 3 blocks.
_LAST_BLOCKS = ("layer1.2.", "layer2.3.", "layer3.5.", "layer4.2.")
_DEEPER = ("layer2.4.", "layer3.6.")


def _presets(source: Source) -> tuple[Preset, ...]:
    return (one_view(centre(224), IMAGENET, f"{_CODE}: eval.py"),)


def _fits(source: Source) -> bool:
    return source.architecture is None and _is_resnet50_of_one_logit(source.state)


def _is_resnet50_of_one_logit(state: StateDict) -> bool:
    return (
        state["fc.weight"].shape == (1, _FEATURES)
        and all(any(key.startswith(block) for key in state) for block in _LAST_BLOCKS)
        and not any(key.startswith(_DEEPER) for key in state)
    )


def _load(source: Source, preset: Preset) -> Detector:
    recipe = recipe_from_weights(source.state)
    model = recipe.build()
    model.fc = nn.Linear(_FEATURES, 1)
    return Detector(
        name=f"CNNSpot, {recipe.name}",
        streams={STREAM: TwoLogits(filled(model, source.state, f"CNNSpot's {recipe.name}"))},
        aggregator=None,
        classes=Classes(("real", "fake"), "fake", f"{_CODE}: eval.py"),
    )


FAMILY = Family(
    name="cnnspot",
    title="CNNSpot",
    keys=(r"conv1\.weight$", r"layer1\.0\.conv3\.weight$", r"layer4\.0\.", r"fc\.weight$"),
    licence="CC BY-NC-SA 4.0",
    presets=_presets,
    load=_load,
    fits=_fits,
)
