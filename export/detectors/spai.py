"""SPAI: how well an image's frequencies predict each other, tile by tile, at its own resolution.

Source: "Any-Resolution AI-Generated Image Detection by Spectral Learning", arXiv 2411.19417, and
mever-team/spai@8ff7b3b.
"""

from __future__ import annotations

import torch

from ...runtime.bundle.manifest import Normalisation
from ...runtime.views.places import Tiles
from ...runtime.views.spec import StreamViews
from ..errors import CheckpointError
from ..families.registry import count_blocks
from ..tensors import StateDict
from .networks.keys import Renames, renamed, without_prefix
from .networks.low_pass import LowPass
from .networks.spectral import Restoration, TileAttention
from .networks.towers import tower
from .networks.weights import filled, sizes_of
from .registry import Classes, Detector, Family, Preset, Source

_SOURCE = "mever-team/spai@8ff7b3b: configs/spai.yaml"
_STREAM = "tiles"
_NORM_EPS = 1e-6  # of its Vision Transformer
_UNUSED = (
    *("norm.", "fc_norm.", "intermediate_fc_norm.", "head."),
    *("cls_pos_embed", "cls_blocks.", "cls_norm.", "actual_cls_token"),
)
_PROJECTORS: Renames = (
    (r"patch_projector\.projectors\.", "projectors."),
    (r"original_features_processor\.", "importance."),
)
_AGGREGATOR: Renames = (
    (r"to_out\.0\.", "to_out."),
    (r"cls_head\.head\.0\.", "head.0."),
    (r"cls_head\.head\.3\.", "head.2."),
    (r"cls_head\.head\.6\.", "head.4."),
)


def _encoder(state: StateDict) -> Restoration:
    projectors = renamed(without_prefix(state, "mfvit.features_processor."), _PROJECTORS)
    with sizes_of("SPAI"):
        trunk = _vit_state(state)
    vit = tower(trunk, "SPAI", eps=_NORM_EPS, pool="", final_norm=False)
    side = vit.patch_embed.img_size[0]
    low_pass = LowPass(state["mfvit.frequencies_mask"])
    if low_pass.side != side:
        raise CheckpointError(
            f"the mask of frequencies is of {low_pass.side} pixels, and the tower takes {side}: "
            "give the checkpoint as its authors save it."
        )
    with sizes_of("SPAI"):
        blocks = count_blocks(projectors, r"projectors\.(\d+)\.")
        layers = sum(key.startswith("projectors.0.projector.") for key in projectors) // 2
        size = len(projectors["projectors.0.norm2.weight"])
    if blocks != len(vit.blocks):
        raise CheckpointError(
            f"SPAI reads every block of its tower, and this one reads {blocks} of "
            f"{len(vit.blocks)}: only checkpoints of configs/spai.yaml can be exported."
        )
    encoder = Restoration(vit, low_pass, size, layers)
    trunk = {f"vit.{key}": tensor for key, tensor in vit.state_dict().items()}
    return filled(encoder, {**projectors, **trunk}, "SPAI")


def _vit_state(state: StateDict) -> StateDict:
    """Return the tower by timm's keys; keys have no bias, so theirs is zero."""
    found = without_prefix(state, "mfvit.vit.", _UNUSED)
    for key in [key for key in found if key.endswith(".q_bias")]:
        query, block = found.pop(key), key.removesuffix("q_bias")
        if (value := found.pop(f"{block}v_bias", None)) is not None:
            found[f"{block}qkv.bias"] = torch.cat([query, torch.zeros_like(query), value])
    return found


def _aggregator(state: StateDict) -> TileAttention:
    rest = {k: t for k, t in state.items() if not k.startswith("mfvit.")}
    found = renamed(rest, _AGGREGATOR)
    with sizes_of("SPAI"):
        query, both = found.pop("patch_aggregator"), found.pop("to_kv.weight")
        heads, _, width = query.shape
        keys, found["values.weight"] = both.chunk(2)
        keys = keys.reshape(heads, width, -1).double() * width**-0.5
        found["scores.weight"] = (query.double() @ keys).squeeze(1).float()
        hidden, size = found["head.0.weight"].shape
    return filled(TileAttention(size, heads * width, heads, hidden), found, "SPAI")


def _presets(source: Source) -> tuple[Preset, ...]:
    with sizes_of("SPAI"):
        side = len(source.state["mfvit.frequencies_mask"])
    views = StreamViews(side, "uint8", places=Tiles(at_least=4))
    unchanged = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "SPAI normalises in its network")
    return (Preset("tiles", _SOURCE, {_STREAM: views}, unchanged, normalises=True),)


def _load(source: Source, _: Preset) -> Detector:
    encoder, aggregator = _encoder(source.state), _aggregator(source.state)
    vit = encoder.vit
    patch = vit.patch_embed.patch_size[0]
    return Detector(
        name=f"SPAI, ViT {len(vit.blocks)}x{vit.embed_dim}/{patch}",
        streams={_STREAM: encoder},
        aggregator=aggregator,
        classes=Classes(("real", "fake"), "fake", "mever-team/spai@8ff7b3b"),
        quantise_residuals=False,
    )


FAMILY = Family(
    name="spai",
    title="SPAI",
    keys=(r"mfvit\.frequencies_mask$", r"patch_aggregator$"),
    licence="Apache-2.0",
    presets=_presets,
    load=_load,
)
