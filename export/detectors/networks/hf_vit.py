"""Vision Transformers as Hugging Face's transformers saves them, by the keys of timm's."""

from __future__ import annotations

from typing import Final

from ...tensors import StateDict
from .keys import joined, renamed, without_prefix

HF_EPS: Final = 1e-12  # of layer normalisation, where transformers' configuration does not say it
_RENAMES = (
    (r"embeddings\.cls_token$", "cls_token"),
    (r"embeddings\.position_embeddings$", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"blocks.\1.attn.proj."),
    (r"encoder\.layer\.(\d+)\.attention\.attention\.", r"blocks.\1.attn."),
    (r"encoder\.layer\.(\d+)\.intermediate\.dense\.", r"blocks.\1.mlp.fc1."),
    (r"encoder\.layer\.(\d+)\.output\.dense\.", r"blocks.\1.mlp.fc2."),
    (r"encoder\.layer\.(\d+)\.layernorm_before\.", r"blocks.\1.norm1."),
    (r"encoder\.layer\.(\d+)\.layernorm_after\.", r"blocks.\1.norm2."),
    (r"layernorm\.", "norm."),
)
_UNUSED = ("pooler.", "embeddings.mask_token", "embeddings.position_ids")


def timm_vit_state(state: StateDict, prefix: str) -> StateDict:
    """Return the tensors of a transformers ``ViTModel`` by the keys of timm's VisionTransformer.

    Query, key and value become one ``qkv``. The pooler, which no detector reads, is left out. Keys
    that are not a ViTModel's stay as they are, so that :func:`.tensors.fit_problem` reports them.

    Args:
        state: of any model.
        prefix: of the ViTModel's keys, for example ``vit.``; keys without it are left out.
    """
    found = renamed(without_prefix(state, prefix, _UNUSED), _RENAMES)
    return joined(found, ("attn.query", "attn.key", "attn.value"), "attn.qkv")
