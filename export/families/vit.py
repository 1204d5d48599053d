"""torchvision's Vision Transformers."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torchvision.models.vision_transformer import EncoderBlock, VisionTransformer

from ..errors import CheckpointError
from .registry import Family, Recipe, Weights, count_blocks

_HEADS = {1280: 16}  # ViT-H; in all other sizes a head has 64 channels


class ClassTokenBlock(nn.Module):
    """The last block of torchvision's Vision Transformer, for its first token only.

    No other token is read after it. Keys and values still come from all tokens.
    """

    def __init__(self, original: EncoderBlock) -> None:
        super().__init__()
        self.ln_1, self.self_attention = original.ln_1, original.self_attention
        self.ln_2, self.mlp = original.ln_2, original.mlp

    def forward(self, tokens: Tensor) -> Tensor:
        normalised = self.ln_1(tokens)
        mixed, _ = self.self_attention(
            normalised[:, :1], normalised, normalised, need_weights=False
        )
        first = tokens[:, :1] + mixed
        result: Tensor = first + self.mlp(self.ln_2(first))
        return result


def _recipe(_: str, weights: Weights, crop_size: int | None) -> Recipe:
    hidden, patch = weights["conv_proj.weight"].shape[::2]
    tokens = weights["encoder.pos_embedding"].shape[1] - 1
    layers = count_blocks(weights, r"encoder\.layers\.encoder_layer_(\d+)\.")
    mlp = weights["encoder.layers.encoder_layer_0.mlp.0.weight"].shape[0]
    heads = _HEADS.get(hidden, max(1, hidden // 64))
    side = round(tokens**0.5) * patch
    name = f"torchvision ViT {layers}x{hidden}/{patch}"
    if crop_size not in (None, side):
        raise CheckpointError(
            f"{name} takes views of {side}x{side} only, because it has a position embedding for "
            f"each patch: leave --crop-size {crop_size} out."
        )

    def build() -> nn.Module:
        model: nn.Module = VisionTransformer(side, patch, layers, heads, hidden, mlp)
        model.heads = nn.Identity()
        return model

    return Recipe(
        name=name,
        family=FAMILY.name,
        build=build,
        crops=10,
        fixed_batch=False,
        quantise_residuals=False,
        crop_size=side,
    )


def _shorten_last_block(module: nn.Module) -> nn.Module | None:
    if not isinstance(module, VisionTransformer):
        return None
    blocks = module.encoder.layers
    blocks[-1] = ClassTokenBlock(blocks[-1])
    return cast(nn.Module, module)


FAMILY = Family(
    name="vit", recipe=_recipe, keys=("conv_proj.weight",), rewrites=(_shorten_last_block,)
)
