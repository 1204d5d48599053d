"""Detectors that read CLIP's features of one view: UniversalFakeDetect, C2P-CLIP, clip-cues."""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import CheckpointError
from ..tensors import StateDict
from .networks.keys import without_prefix
from .networks.parts import TwoLogits
from .networks.towers import CLIP_EPS, QuickGelu, clip_state, tower
from .networks.weights import filled, sizes_of
from .presets import CLIP, STREAM, centre, one_view, short_side
from .registry import Classes, Detector, Family, Preset, Source

_TOWER = "CLIP's image tower"


class OnFeatures(nn.Module):
    """A linear head on a tower's features, as one logit ``(B, 1)``.

    Args:
        tower: from views ``(B, 3, p, p)`` to features ``(B, D)``.
        head: from these to the logit.
        unit_length: whether features are divided by their length first.
    """

    def __init__(self, tower: nn.Module, head: nn.Linear, *, unit_length: bool = False) -> None:
        super().__init__()
        self.tower, self.head, self.unit_length = tower, head, unit_length

    def forward(self, views: Tensor) -> Tensor:
        features = self.tower(views)
        if self.unit_length:
            features = features / features.square().sum(dim=1, keepdim=True).sqrt()
        logit: Tensor = self.head(features)
        return logit


def _detector(
    title: str, trunk: StateDict, head: StateDict, source: str, *, unit_length: bool = False
) -> Detector:
    """Put a head ``{weight (1, D), bias (1,)}`` on CLIP's tower."""
    network = tower(trunk, _TOWER, eps=CLIP_EPS, activation=QuickGelu)
    width = network.num_classes or network.num_features
    with sizes_of(f"a head of {title}"):
        taken = head["weight"].shape[1:].numel()
    if taken != width:
        raise CheckpointError(
            f"the head takes {taken} features, and the tower gives {width}: give the weights of "
            "the tower that the head was trained on with --backbone-weights."
        )
    linear = filled(nn.Linear(width, 1), head, f"a head of {title}")
    logits = TwoLogits(OnFeatures(network, linear, unit_length=unit_length)).eval()
    sizes = f"{len(network.blocks)}x{network.embed_dim}/{network.patch_embed.patch_size[0]}"
    classes = Classes(("real", "fake"), "fake", source)
    return Detector(
        name=f"{title}, CLIP ViT {sizes}",
        streams={STREAM: logits},
        aggregator=None,
        classes=classes,
        quantise_residuals=False,
    )


def _given_tower(source: Source, title: str, which: str = "CLIP ViT-L/14") -> StateDict:
    """Return the tower of ``--backbone-weights``.

    Raises:
        CheckpointError: there is none, or it is not CLIP's.
    """
    if source.backbone is None:
        raise CheckpointError(
            f"this is a head of {title} without its tower: give the weights of OpenAI's {which} "
            "(timm's, transformers' or open_clip's file) with --backbone-weights."
        )
    with sizes_of(_TOWER):
        found = clip_state(source.backbone)
    if "pos_embed" not in found or "norm_pre.weight" not in found:
        raise CheckpointError(
            f"the tower of {title} must be CLIP's image tower, and its keys are not in "
            "--backbone-weights: give timm's, transformers' or open_clip's file of it."
        )
    return found


def _side(trunk: StateDict) -> int:
    """Return the side of a tower's views in pixels."""
    with sizes_of(_TOWER):
        patches: int = trunk["pos_embed"].shape[1] - 1
        patch: int = trunk["patch_embed.proj.weight"].shape[-1]
    side: int = round(patches**0.5) * patch
    return side


# --- UniversalFakeDetect --------------------------------------------------------------------

_UNIVFD = "UniversalFakeDetect"
_UNIVFD_CODE = "WisconsinAIVision/UniversalFakeDetect@76a0e3e: validate.py"


def _is_univfd(source: Source) -> bool:
    weight = source.state["weight"]
    surplus = source.state.keys() - {"weight", "bias", "projector"}
    return not surplus and weight.ndim == 2 and len(weight) == 1


def _univfd_presets(source: Source) -> tuple[Preset, ...]:
    side = _side(_given_tower(source, _UNIVFD))
    return (one_view(centre(side), CLIP, _UNIVFD_CODE),)


def _univfd(source: Source, _: Preset) -> Detector:
    trunk, head = _given_tower(source, _UNIVFD), dict(source.state)
    if "head.weight" not in trunk:
        raise CheckpointError(
            f"{_UNIVFD} reads CLIP's features after their projection, and the tower has none: "
            "give a file of --backbone-weights that has it."
        )
    if (projector := head.pop("projector", None)) is not None:
        _fold(trunk, projector)
    return _detector(_UNIVFD, trunk, head, _UNIVFD_CODE)


def _fold(trunk: StateDict, projector: Tensor) -> None:
    """Multiply a tower's projected features by a matrix ``(D, D)``, as NS-Net does."""
    outputs = trunk["head.weight"].shape[:1].numel()
    if projector.shape != (outputs, outputs):
        raise CheckpointError(
            f"the projector is of shape {tuple(projector.shape)}, and the tower gives {outputs} "
            "features: give the tower that it was made for with --backbone-weights."
        )
    matrix = projector.double()
    with sizes_of(_TOWER):
        for key in ("head.weight", "head.bias"):
            trunk[key] = (matrix.T @ trunk[key].double()).float()


# --- C2P-CLIP -------------------------------------------------------------------------------

_C2P = "C2P-CLIP"
_C2P_CODE = "chuangchuangtan/C2P-CLIP-DeepfakeDetection@27b5232"
_MODEL = r"(model\.)?"


def _c2p_state(source: Source) -> StateDict:
    wrapped = "model.fc.weight" in source.state
    return without_prefix(source.state, "model." if wrapped else "")


def _c2p_tower(state: StateDict) -> StateDict:
    with sizes_of(_TOWER):
        return clip_state(state)


def _c2p_presets(source: Source) -> tuple[Preset, ...]:
    side = _side(_c2p_tower(_c2p_state(source)))
    return (one_view(short_side(side, side), CLIP, _C2P_CODE),)


def _c2p(source: Source, _: Preset) -> Detector:
    state = _c2p_state(source)
    head = without_prefix(state, "fc.")
    return _detector(_C2P, _c2p_tower(state), head, _C2P_CODE, unit_length=True)


# --- clip-cues ------------------------------------------------------------------------------

_CUES = "clip-cues"
_CUES_TOWER = "CLIP ViT-L/14 at 336"
_CUES_SIDE, _CUES_WIDTH = 336, 1024
_CUES_CODE = "marco-willi/clip-cues@ad9eea9: feature_extractor.py"


def _cues_presets(source: Source) -> tuple[Preset, ...]:
    trunk = _given_tower(source, _CUES, _CUES_TOWER)
    side = _side(trunk)
    if trunk["pos_embed"].shape[-1] == _CUES_WIDTH and side != _CUES_SIDE:
        raise CheckpointError(
            f"the tower takes views of {side}x{side}, and {_CUES} was trained on {_CUES_TOWER}: "
            "give openai/clip-vit-large-patch14-336 with --backbone-weights."
        )
    return (one_view(short_side(side, side), CLIP, _CUES_CODE),)


def _cues(source: Source, _: Preset) -> Detector:
    trunk = without_prefix(_given_tower(source, _CUES, _CUES_TOWER), "", unused=("head.",))
    return _detector(_CUES, trunk, _one_product(source.state), _CUES_CODE)


def _one_product(state: StateDict) -> StateDict:
    """Return the head as one linear layer; it may be two without anything between them."""
    prefix = "model." if any(key.startswith("model.") for key in state) else ""
    head = without_prefix(state, f"{prefix}classification_head.")
    if "fc.weight" in head:
        return without_prefix(head, "fc.")
    keys = [f"{layer}.{part}" for layer in ("layers.0", "to_logits") for part in ("weight", "bias")]
    if head.keys() != set(keys):
        raise CheckpointError(
            f"the head of {_CUES} must be linear, or two linear layers; its keys are "
            f"{', '.join(sorted(head))}: export a checkpoint of the kind linear_probe or "
            "clip_orthogonal."
        )
    first, first_bias, last, last_bias = (head[key].double() for key in keys)
    with sizes_of(f"a head of {_CUES}"):
        bias = last @ first_bias + last_bias
        return {"weight": (last @ first).float(), "bias": bias.float()}


FAMILIES = (
    Family(
        name="univfd",
        title=_UNIVFD,
        keys=("weight$", "bias$"),
        licence="MIT",
        presets=_univfd_presets,
        load=_univfd,
        fits=_is_univfd,
    ),
    Family(
        name="c2p-clip",
        title=_C2P,
        keys=(
            _MODEL + r"vision_model\.pre_layrnorm\.weight$",
            _MODEL + r"visual_projection\.weight$",
            _MODEL + r"fc\.weight$",
        ),
        licence="none stated",
        presets=_c2p_presets,
        load=_c2p,
    ),
    Family(
        name="clip-cues",
        title=_CUES,
        keys=(_MODEL + r"classification_head\.(fc|to_logits)\.weight$",),
        licence="MIT",
        presets=_cues_presets,
        load=_cues,
    ),
)
