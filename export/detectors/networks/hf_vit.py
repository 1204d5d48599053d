"""Vision Transformers as Hugging Face's transformers saves them, on timm's network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ...errors import CheckpointError, first_line
from ...families.registry import count_blocks
from ...tensors import StateDict
from .weights import filled

HF_EPS = 1e-12  # of layer normalisation, where transformers' configuration does not say it
TIMM_EPS = 1e-6
_HEAD_WIDTH = 64  # channels of a head, in all published sizes from tiny to large
_RENAMES = (
    (r"embeddings\.cls_token$", "cls_token"),
    (r"embeddings\.position_embeddings$", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"blocks.\1.attn.proj."),
    (r"encoder\.layer\.(\d+)\.intermediate\.dense\.", r"blocks.\1.mlp.fc1."),
    (r"encoder\.layer\.(\d+)\.output\.dense\.", r"blocks.\1.mlp.fc2."),
    (r"encoder\.layer\.(\d+)\.layernorm_before\.", r"blocks.\1.norm1."),
    (r"encoder\.layer\.(\d+)\.layernorm_after\.", r"blocks.\1.norm2."),
    (r"layernorm\.", "norm."),
)
_QUERY = re.compile(r"encoder\.layer\.(\d+)\.attention\.attention\.query\.(weight|bias)")
_SIZE_ERRORS = (AssertionError, RuntimeError)  # of timm's and PyTorch's modules
_UNUSED = ("pooler.", "embeddings.mask_token", "embeddings.position_ids")


def timm_vit_state(state: StateDict, prefix: str) -> StateDict:
    """Return the tensors of a transformers ``ViTModel`` by the keys of timm's VisionTransformer.

    Query, key and value become one ``qkv``. The pooler, which no detector reads, is left out. Keys
    that are not a ViTModel's stay as they are, so that :func:`.tensors.fit_problem` reports them.

    Args:
        state: of any model.
        prefix: of the ViTModel's keys, for example ``vit.``; keys without it are left out.
    """
    found = {
        key.removeprefix(prefix): tensor
        for key, tensor in state.items()
        if key.startswith(prefix) and not key.removeprefix(prefix).startswith(_UNUSED)
    }
    for query in [key for key in found if _QUERY.fullmatch(key)]:
        parts = [query.replace(".query.", f".{name}.") for name in ("query", "key", "value")]
        if found.keys() >= set(parts) and _can_be_joined([found[part] for part in parts]):
            key = _QUERY.sub(r"blocks.\1.attn.qkv.\2", query)
            found[key] = torch.cat([found.pop(part) for part in parts])
    return {_renamed(key): tensor for key, tensor in found.items()}


def _can_be_joined(tensors: Sequence[Tensor]) -> bool:
    return all(each.ndim for each in tensors) and len({each.shape[1:] for each in tensors}) == 1


def _renamed(key: str) -> str:
    for pattern, name in _RENAMES:
        key, changed = re.subn(rf"^{pattern}", name, key)
        if changed:
            return key
    return key


def vision_transformer(
    state: StateDict, *, eps: float = TIMM_EPS, heads: int | None = None
) -> VisionTransformer:
    """Build timm's VisionTransformer with these weights; their shapes tell its sizes.

    Args:
        state: by timm's keys. With ``head.weight`` the network gives its outputs ``(B, outputs)``,
            without it the class token's features ``(B, D)``, after the last normalisation.
        eps: of layer normalisation.
        heads: of attention; ``None`` takes one for each 64 channels.

    Raises:
        CheckpointError: tensors are missing, surplus, of another shape or not finite.
    """
    try:
        model = _sized(state, eps, heads)
    except (LookupError, ValueError, TypeError, ArithmeticError, *_SIZE_ERRORS) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else first_line(error)
        raise CheckpointError(f"this is no whole Vision Transformer: {what}.") from None
    return filled(model, state, "a Vision Transformer")


def _sized(state: StateDict, eps: float, heads: int | None) -> VisionTransformer:
    width, _, _, patch = state["patch_embed.proj.weight"].shape
    patches = state["pos_embed"].shape[1] - 1
    return VisionTransformer(
        img_size=round(patches**0.5) * patch,
        patch_size=patch,
        num_classes=len(state["head.weight"]) if "head.weight" in state else 0,
        embed_dim=width,
        depth=count_blocks(state, r"blocks\.(\d+)\."),
        num_heads=heads or max(1, width // _HEAD_WIDTH),
        mlp_ratio=(len(state["blocks.0.mlp.fc1.weight"]) + 0.5) / width,  # timm rounds down
        qkv_bias="blocks.0.attn.qkv.bias" in state,
        norm_layer=partial(nn.LayerNorm, eps=eps),
    )
