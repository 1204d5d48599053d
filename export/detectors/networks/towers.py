"""Vision Transformers of other libraries as timm's, where more varies than their sizes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ...families.registry import count_blocks
from ...tensors import StateDict
from .keys import Renames, joined, renamed, without_prefix
from .weights import filled, sizes_of

CLIP_EPS = 1e-5  # of layer normalisation
TIMM_EPS = 1e-6
_HEAD_WIDTH = 64  # channels of a head, in every tower whose configuration does not say it
_TRANSFORMERS: Renames = (  # of CLIP and SigLIP
    (r"embeddings\.class_embedding$", "cls_token"),
    (r"embeddings\.position_embedding\.weight$", "pos_embed"),
    (r"embeddings\.patch_embedding\.", "patch_embed.proj."),
    (r"pre_layrnorm\.", "norm_pre."),  # their spelling
    (r"post_layernorm\.", "norm."),
    (r"encoder\.layers\.(\d+)\.layer_norm([12])\.", r"blocks.\1.norm\2."),
    (r"encoder\.layers\.(\d+)\.self_attn\.out_proj\.", r"blocks.\1.attn.proj."),
    (r"encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.", r"blocks.\1.attn.\2."),
    (r"encoder\.layers\.(\d+)\.mlp\.", r"blocks.\1.mlp."),
)
_OPENAI: Renames = (
    (r"class_embedding$", "cls_token"),
    (r"positional_embedding$", "pos_embed"),
    (r"conv1\.", "patch_embed.proj."),
    (r"ln_pre\.", "norm_pre."),
    (r"ln_post\.", "norm."),
    (r"transformer\.resblocks\.(\d+)\.ln_([12])\.", r"blocks.\1.norm\2."),
    (r"transformer\.resblocks\.(\d+)\.attn\.in_proj_", r"blocks.\1.attn.qkv."),
    (r"transformer\.resblocks\.(\d+)\.attn\.out_proj\.", r"blocks.\1.attn.proj."),
    (r"transformer\.resblocks\.(\d+)\.mlp\.c_fc\.", r"blocks.\1.mlp.fc1."),
    (r"transformer\.resblocks\.(\d+)\.mlp\.c_proj\.", r"blocks.\1.mlp.fc2."),
)


class QuickGelu(nn.Module):
    """OpenAI's approximation: ``x`` times the sigmoid of ``1.702 x``."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


def tower(
    state: StateDict,
    what: str,
    *,
    eps: float,
    activation: Callable[[], nn.Module] = nn.GELU,
    heads: int | None = None,
    pool: Literal["token", "avg", ""] = "token",
    final_norm: bool = True,
) -> VisionTransformer:
    """Build timm's VisionTransformer with these weights; their shapes tell its sizes.

    Args:
        state: by timm's keys. With ``head.weight`` the network gives its outputs ``(B, outputs)``,
            without it the features ``(B, D)``.
        what: it is, for errors.
        eps: of layer normalisation.
        activation: between the two products of a block's MLP.
        heads: of attention; ``None`` takes one for each 64 channels.
        pool: the class token, the mean of all other tokens, or none: all tokens ``(B, n, D)``.
            They are normalised before, unless there is no final norm.
        final_norm: whether tokens are normalised at the end.

    Raises:
        CheckpointError: tensors are missing, surplus, of another shape, or not finite.
    """
    with sizes_of(what):
        width, _, _, patch = state["patch_embed.proj.weight"].shape
        patches = state["pos_embed"].shape[1] - ("cls_token" in state)
        network = VisionTransformer(
            img_size=round(patches**0.5) * patch,
            patch_size=patch,
            num_classes=len(state["head.weight"]) if "head.weight" in state else 0,
            global_pool=pool,
            embed_dim=width,
            depth=count_blocks(state, r"blocks\.(\d+)\."),
            num_heads=heads or max(1, width // _HEAD_WIDTH),
            mlp_ratio=(len(state["blocks.0.mlp.fc1.weight"]) + 0.5) / width,  # timm rounds down
            qkv_bias="blocks.0.attn.qkv.bias" in state,
            init_values=1.0 if "blocks.0.ls1.gamma" in state else None,
            class_token="cls_token" in state,
            pre_norm="norm_pre.weight" in state,
            final_norm=final_norm,
            fc_norm=False,
            norm_layer=partial(nn.LayerNorm, eps=eps),
            act_layer=activation,
        )
    return filled(network, state, what)


def clip_state(state: StateDict) -> StateDict:
    """Return CLIP's image tower by timm's keys, with its projection as ``head``, if there is one.

    Args:
        state: in the layout of timm, of transformers (with or without its text model), or of
            OpenAI and open_clip.
    """
    if "visual.conv1.weight" in state:
        found = renamed(without_prefix(state, "visual.", unused=("proj",)), _OPENAI)
        if "visual.proj" in state:
            found["head.weight"] = state["visual.proj"].transpose(0, 1)
    elif "vision_model.pre_layrnorm.weight" in state:
        found = transformers_state(state)
        if "visual_projection.weight" in state:
            found["head.weight"] = state["visual_projection.weight"]
    else:
        found = dict(state)
    _one_row_each(found)
    if "head.weight" in found:
        found.setdefault("head.bias", torch.zeros(len(found["head.weight"])))
    return found


def transformers_state(state: StateDict, unused: tuple[str, ...] = ()) -> StateDict:
    """Return the vision model of transformers' CLIP or SigLIP by timm's keys.

    Args:
        state: with keys that begin with ``vision_model.``; others are left out.
        unused: beginnings of other keys to leave out, after ``vision_model.``.
    """
    buffers = ("embeddings.position_ids",)
    found = renamed(without_prefix(state, "vision_model.", unused + buffers), _TRANSFORMERS)
    _one_row_each(found)
    return joined(found, ("attn.q", "attn.k", "attn.v"), "attn.qkv")


def _one_row_each(state: StateDict) -> None:
    """Give the token and the position embedding the batch axis that timm's have."""
    for key in ("cls_token", "pos_embed"):
        if key in state:
            state[key] = state[key].reshape(1, -1, state[key].shape[-1])
