"""CoDE: a tiny Vision Transformer and a linear head apart (Baraldi et al., arXiv 2407.20337).

The head is published as a pickle of scikit-learn, which is never loaded here. Where scikit-learn
is, a few lines make a safetensors file of it:

>>> import joblib, safetensors.numpy
>>> head = joblib.load("linear_tot_classifier_epoch-32.sav")
>>> tensors = {"coef_": head.coef_, "intercept_": head.intercept_}
>>> safetensors.numpy.save_file(tensors, "head.safetensors")
"""

from __future__ import annotations

from ..errors import CheckpointError
from ..tensors import StateDict
from .networks.hf_vit import HF_EPS, timm_vit_state
from .networks.parts import TwoLogits
from .networks.towers import tower
from .networks.weights import sizes_of
from .presets import IMAGENET, STREAM, centre, one_view
from .registry import Classes, Detector, Family, Preset, Source

_CODE = "aimagelab/CoDE@f1c0566"
_WIDTH = 192
_CLASS_TOKEN = "embeddings.cls_token"  # noqa: S105
_HEAD = {"coef_": "head.weight", "intercept_": "head.bias"}


def _presets(source: Source) -> tuple[Preset, ...]:
    return (one_view(centre(224), IMAGENET, f"{_CODE}: validate_d3.py"),)


def _fits(source: Source) -> bool:
    """Whether it is the tower or the head, of CoDE's width and without a head of another kind."""
    state = source.state
    told = state[_CLASS_TOKEN if _CLASS_TOKEN in state else "coef_"]
    return told.shape[-1:] == (_WIDTH,) and "classifier.weight" not in state


def _load(source: Source, preset: Preset) -> Detector:
    state = (source.backbone or {}) | source.state
    head = _head(state)
    with sizes_of("CoDE"):
        trunk = timm_vit_state({key: state[key] for key in state if key not in _HEAD}, "")
    if _CLASS_TOKEN not in state:
        raise CheckpointError(
            "this is CoDE's head without its Vision Transformer: give model.safetensors of "
            "aimagelab/CoDE with --backbone-weights."
        )
    expected = (1, *state[_CLASS_TOKEN].shape[-1:])
    if (found := tuple(head["head.weight"].shape)) != expected:
        raise CheckpointError(
            f"coef_ is {found}, and this Vision Transformer needs one of {expected}: give the two "
            "that were trained together."
        )
    network = tower(trunk | head, "CoDE", eps=HF_EPS)
    return Detector(
        name=f"CoDE, Vision Transformer of width {network.embed_dim}",
        streams={STREAM: TwoLogits(network)},
        aggregator=None,
        classes=Classes(("real", "fake"), "fake", f"{_CODE}: src/inference/code_model.py"),
        quantise_residuals=False,
    )


def _head(state: StateDict) -> StateDict:
    if missing := [key for key in _HEAD if key not in state]:
        raise CheckpointError(
            f"CoDE's linear head is missing ({', '.join(missing)}): make a safetensors file of its "
            ".sav, as docs/detectors.md shows, and give that with --backbone-weights."
        )
    return {key: state[name] for name, key in _HEAD.items()}


FAMILY = Family(
    name="code",
    title="CoDE",
    keys=(rf"{_CLASS_TOKEN}$|coef_$", r"encoder\.layer\.0\.|intercept_$"),
    licence="MIT (code); weights: none stated",
    presets=_presets,
    load=_load,
    fits=_fits,
)
