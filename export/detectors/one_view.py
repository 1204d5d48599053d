"""Any classifier of timm or torchvision with one or two logits: the user's own detector."""

from __future__ import annotations

from ..errors import CheckpointError, first_line
from ..tensors import StateDict
from .networks import architectures
from .networks.architectures import Architecture
from .networks.parts import TwoLogits
from .networks.weights import filled
from .presets import STREAM, centre, one_view, stretched
from .registry import Classes, Detector, Family, Preset, Source

_SAY_OTHERWISE = "; --classes and --fake-class say otherwise"
_MEANINGS = {
    1: f"assumed: one logit is of P(fake){_SAY_OTHERWISE}",
    2: f"assumed: the logits are of real and fake, in this order{_SAY_OTHERWISE}",
}
"""By the number of logits."""


def _presets(source: Source) -> tuple[Preset, ...]:
    """Return the network's own evaluation on ImageNet, then a centre crop, then a stretch."""
    found = _architecture(source)
    own, size = found.views, found.views.size
    rule = own.resize.rule if own.resize is not None else "pillow-bilinear"
    others = (centre(size), stretched(size, rule))
    views = {own: found.source} | dict.fromkeys(others, "chosen by the user")
    return tuple(one_view(each, found.normalisation, said) for each, said in views.items())


def _load(source: Source, preset: Preset) -> Detector:
    found = _architecture(source)
    logits = _logits(found, source.state)
    if logits not in _MEANINGS:
        raise CheckpointError(
            f"{found.head} gives {logits} logits, and a detector gives one, of fake, or two, of "
            "real and fake: retrain its head with one or two outputs."
        )
    try:
        model = found.build(logits)
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        raise CheckpointError(f"{found.name} cannot be built: {first_line(error)}.") from None
    network = filled(model, source.state, found.name)
    return Detector(
        name=found.name,
        streams={STREAM: TwoLogits(network) if logits == 1 else network},
        aggregator=None,
        classes=Classes(("real", "fake"), "fake", _MEANINGS[logits]),
        fixed_batch=found.fixed_batch,
        quantise_residuals=found.quantise_residuals,
    )


def _architecture(source: Source) -> Architecture:
    if source.architecture is not None:
        return architectures.named(source.architecture, source.state)
    return architectures.told(source.state)


def _logits(architecture: Architecture, state: StateDict) -> int:
    if architecture.head not in state or not state[architecture.head].ndim:
        raise CheckpointError(
            f"{architecture.name} ends in {architecture.head}, which is missing: give the "
            "checkpoint of the whole classifier."
        )
    return len(state[architecture.head])


def _fits(source: Source) -> bool:
    if source.architecture is not None:
        return True
    try:
        return _logits(_architecture(source), source.state) in _MEANINGS
    except CheckpointError:
        return False


FAMILY = Family(
    name="classifier",
    title="Classifier",
    keys=(),
    licence="the user's own",
    presets=_presets,
    load=_load,
    fits=_fits,
)
