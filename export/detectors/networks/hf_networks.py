"""Classifiers as Hugging Face's transformers saves them, on timm's networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import torch
from timm.models.convnext import ConvNeXt
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from ...errors import CheckpointError
from ...families.registry import count_blocks
from ...tensors import StateDict
from .hf_vit import HF_EPS, timm_vit_state
from .keys import Renames, joined, renamed, without_prefix
from .towers import tower, transformers_state
from .weights import filled, sizes_of

Config: TypeAlias = Mapping[str, Any]
Build: TypeAlias = Callable[[StateDict, Config, int], nn.Module]
"""From weights, ``config.json`` and the views' side to a network from views to logits."""

_ACTIVATIONS: Mapping[object, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_pytorch_tanh": partial(nn.GELU, approximate="tanh"),
}
_DINOV2: Renames = (
    (r"embeddings\.cls_token$", "cls_token"),
    (r"embeddings\.position_embeddings$", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"encoder\.layer\.(\d+)\.attention\.attention\.", r"blocks.\1.attn."),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"blocks.\1.attn.proj."),
    (r"encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1$", r"blocks.\1.ls\2.gamma"),
    (r"encoder\.layer\.(\d+)\.(norm[12]|mlp)\.", r"blocks.\1.\2."),
    (r"layernorm\.", "norm."),
)
_CONVNEXT_BLOCK = r"encoder\.stages\.(\d+)\.layers\.(\d+)\."
_CONVNEXT: Renames = (
    (r"embeddings\.patch_embeddings\.", "stem.0."),
    (r"embeddings\.layernorm\.", "stem.1."),
    (r"encoder\.stages\.(\d+)\.downsampling_layer\.", r"stages.\1.downsample."),
    (_CONVNEXT_BLOCK + r"dwconv\.", r"stages.\1.blocks.\2.conv_dw."),
    (_CONVNEXT_BLOCK + r"layernorm\.", r"stages.\1.blocks.\2.norm."),
    (_CONVNEXT_BLOCK + r"pwconv([12])\.", r"stages.\1.blocks.\2.mlp.fc\3."),
    (_CONVNEXT_BLOCK + r"layer_scale_parameter$", r"stages.\1.blocks.\2.gamma"),
    (r"layernorm\.", "head.norm."),
)
_SWIN_BLOCK = r"encoder\.layers\.(\d+)\.blocks\.(\d+)\."
_SWIN: Renames = (
    (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"embeddings\.norm\.", "patch_embed.norm."),
    # timm's stages begin with what theirs end with.
    *((rf"encoder\.layers\.{n}\.downsample\.", f"layers.{n + 1}.downsample.") for n in range(8)),
    (_SWIN_BLOCK + r"attention\.self\.", r"layers.\1.blocks.\2.attn."),
    (_SWIN_BLOCK + r"attention\.output\.dense\.", r"layers.\1.blocks.\2.attn.proj."),
    (_SWIN_BLOCK + r"layernorm_before\.", r"layers.\1.blocks.\2.norm1."),
    (_SWIN_BLOCK + r"layernorm_after\.", r"layers.\1.blocks.\2.norm2."),
    (_SWIN_BLOCK + r"intermediate\.dense\.", r"layers.\1.blocks.\2.mlp.fc1."),
    (_SWIN_BLOCK + r"output\.dense\.", r"layers.\1.blocks.\2.mlp.fc2."),
    (r"layernorm\.", "norm."),
)
_PARTS = ("attn.query", "attn.key", "attn.value")


class ClassAndMean(nn.Module):
    """A linear head ``(B, outputs)`` on the class token beside the mean of the other tokens."""

    def __init__(self, tower: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.tower, self.head = tower, head

    def forward(self, views: Tensor) -> Tensor:
        tokens = self.tower(views)
        logits: Tensor = self.head(torch.cat([tokens[:, 0], tokens[:, 1:].mean(dim=1)], dim=1))
        return logits


def _vit(state: StateDict, config: Config, side: int) -> nn.Module:
    found = {**timm_vit_state(state, "vit."), **_head(state, "head.")}
    return _for_views(_tower(found, config, "ViT", HF_EPS), side)


def _siglip(state: StateDict, config: Config, side: int) -> nn.Module:
    vision = config.get("vision_config")
    vision = vision if isinstance(vision, Mapping) else {}
    found = {**transformers_state(state, unused=("head.",)), **_head(state, "head.")}
    network = _tower(found, vision, "SigLIP", 1e-6, "gelu_pytorch_tanh", pool="avg")
    return _for_views(network, side)


def _dinov2(state: StateDict, config: Config, side: int) -> nn.Module:
    found = renamed(without_prefix(state, "dinov2.", ("embeddings.mask_token",)), _DINOV2)
    found = joined(found, _PARTS, "attn.qkv")
    with sizes_of("DINOv2"):
        patch = found["patch_embed.proj.weight"].shape[-1]
        found["pos_embed"] = _resized_positions(found["pos_embed"], side // patch)
    network = _for_views(_tower(found, config, "DINOv2", 1e-6, pool=""), side)
    return ClassAndMean(network, _classifier(state, 2 * network.embed_dim)).eval()


def _convnext(state: StateDict, config: Config, _: int) -> nn.Module:
    found = renamed(without_prefix(state, "convnext."), _CONVNEXT)
    _known_activation(config, "gelu")
    with sizes_of("ConvNeXt"):
        stages = range(count_blocks(found, r"stages\.(\d+)\."))
        network = ConvNeXt(
            num_classes=len(state["classifier.weight"]),
            depths=tuple(count_blocks(found, rf"stages\.{s}\.blocks\.(\d+)\.") for s in stages),
            dims=tuple(len(found[f"stages.{s}.blocks.0.gamma"]) for s in stages),
            kernel_sizes=found["stages.0.blocks.0.conv_dw.weight"].shape[-1],
            patch_size=found["stem.0.weight"].shape[-1],
        )
    _set_eps(network, ("head.norm",), _number(config, "layer_norm_eps", 1e-12))
    return filled(network, {**found, **_head(state, "head.fc.")}, "ConvNeXt")


def _swin(state: StateDict, config: Config, side: int) -> nn.Module:
    found = renamed(without_prefix(state, "swin."), _SWIN)
    found = joined(found, _PARTS, "attn.qkv")
    found = {k: t for k, t in found.items() if not k.endswith("relative_position_index")}
    _known_activation(config, "gelu")
    with sizes_of("Swin"):
        stages = range(count_blocks(found, r"layers\.(\d+)\."))
        tables = [found[f"layers.{s}.blocks.0.attn.relative_position_bias_table"] for s in stages]
        width = len(found["patch_embed.proj.weight"])
        network = SwinTransformer(
            img_size=side,
            patch_size=found["patch_embed.proj.weight"].shape[-1],
            num_classes=len(state["classifier.weight"]),
            embed_dim=width,
            depths=tuple(count_blocks(found, rf"layers\.{s}\.blocks\.(\d+)\.") for s in stages),
            num_heads=tuple(table.shape[1] for table in tables),
            window_size=(round(len(tables[0]) ** 0.5) + 1) // 2,
            mlp_ratio=len(found["layers.0.blocks.0.mlp.fc1.weight"]) / width
            + 1e-6,  # timm rounds down
            qkv_bias="layers.0.blocks.0.attn.qkv.bias" in found,
        )
    _set_eps(network, ("norm1", "norm2", "norm"), _number(config, "layer_norm_eps", 1e-5))
    return filled(network, {**found, **_head(state, "head.fc.")}, "Swin")


BUILDS: Mapping[str, Build] = {
    "ViTForImageClassification": _vit,
    "SwinForImageClassification": _swin,
    "ConvNextForImageClassification": _convnext,
    "SiglipForImageClassification": _siglip,
    "Dinov2ForImageClassification": _dinov2,
}
"""How each architecture of a ``config.json`` is built, in eval mode and float32."""


def _tower(
    state: StateDict, config: Config, what: str, eps: float, activation: str = "gelu", **how: Any
) -> VisionTransformer:
    heads = config.get("num_attention_heads")
    return tower(
        state,
        what,
        eps=_number(config, "layer_norm_eps", eps),
        activation=_known_activation(config, activation),
        heads=heads if isinstance(heads, int) and heads > 0 else None,
        **how,
    )


def _head(state: StateDict, prefix: str) -> StateDict:
    return {f"{prefix}{key}": t for key, t in without_prefix(state, "classifier.").items()}


def _classifier(state: StateDict, width: int) -> nn.Linear:
    head = without_prefix(state, "classifier.")
    return filled(nn.Linear(width, len(head["weight"])), head, "classifier")


def _for_views(network: VisionTransformer, side: int) -> VisionTransformer:
    own = network.patch_embed.img_size[0]
    if own != side:
        raise CheckpointError(
            f"the network takes views of {own}x{own}, and preprocessor_config.json makes views of "
            f"{side}x{side}: correct its size."
        )
    return network


def _resized_positions(positions: Tensor, grid: int) -> Tensor:
    """Interpolate the patches' position embeddings, as transformers does for other sizes."""
    own = round((positions.shape[1] - 1) ** 0.5)
    if own == grid:
        return positions
    first, others = positions[:, :1].float(), positions[:, 1:].float()
    maps = others.reshape(1, own, own, -1).permute(0, 3, 1, 2)
    maps = functional.interpolate(maps, size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat([first, maps.flatten(2).transpose(1, 2)], dim=1)


def _set_eps(network: nn.Module, names: tuple[str, ...], eps: float) -> None:
    """Set what normalisations of these names, or of names that end so, add to the variance.

    The others have the same constant in every configuration.
    """
    for name, norm in network.named_modules():
        if isinstance(norm, nn.LayerNorm) and f".{name}".endswith(tuple(f".{n}" for n in names)):
            norm.eps = eps


def _known_activation(config: Config, default: str) -> Callable[[], nn.Module]:
    name = config.get("hidden_act", default)
    if name not in _ACTIVATIONS:
        raise CheckpointError(
            f"config.json has hidden_act {name!r}: only {' and '.join(map(str, _ACTIVATIONS))} "
            "are known."
        )
    return _ACTIVATIONS[name]


def _number(config: Config, key: str, default: float) -> float:
    value = config.get(key, default)
    if not isinstance(value, int | float) or not 0 < value < 1:
        raise CheckpointError(f"config.json has {key} {value!r}: a number below 1 is needed.")
    return float(value)
