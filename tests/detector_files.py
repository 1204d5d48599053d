"""Small checkpoints of detectors of one view, with random weights and their families' keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from glass_edge.export.detectors.reading import choose_preset, open_source, recognise
from glass_edge.export.detectors.registry import Detector, Preset, Source
from random_checkpoints import as_if_trained
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torchvision.models import ResNet
from torchvision.models.resnet import Bottleneck

State = dict[str, Tensor]
HIDDEN, PATCH = 192, 16


def opened(path: Path, *, family: str | None = None, **options: object) -> tuple[Source, Detector]:
    """Open a file and load what it holds."""
    source = open_source(path, options.get("backbone"), options.get("architecture"))
    found = recognise(source, family)
    return source, found.load(source, choose_preset(found, source, None))


def saved(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


def prefixed(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def of_shapes(entries: Iterator[tuple[str, tuple[int, ...]]]) -> State:
    """Random tensors; those of normalisations are as after training."""
    torch.manual_seed(0)
    return {key: _random(key, shape) for key, shape in entries}


def _random(key: str, shape: tuple[int, ...]) -> Tensor:
    if key.endswith("num_batches_tracked"):
        return torch.tensor(3)
    if key.endswith("running_var") or (len(shape) == 1 and key.endswith("weight")):
        return torch.rand(shape) * 0.4 + 0.8
    fan = max(1, torch.Size(shape[1:]).numel())
    return torch.randn(shape) * (2.0 / fan) ** 0.5 if len(shape) > 1 else torch.randn(shape) * 0.1


def _normalisation(name: str, channels: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for each in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{each}", (channels,)
    yield f"{name}.num_batches_tracked", ()


def cnnspot(depths: tuple[int, ...] = (1, 1, 1, 1)) -> State:
    torch.manual_seed(0)
    return as_if_trained(ResNet(Bottleneck, [*depths], num_classes=1)).state_dict()


def npr() -> State:
    """A ResNet's first half, whose first convolution is 3x3."""
    torch.manual_seed(1)
    whole = as_if_trained(ResNet(Bottleneck, [2, 1, 1, 1]))
    whole.conv1 = nn.Conv2d(3, 64, 3, 2, 1, bias=False)
    state = whole.state_dict() | {"fc1.weight": torch.randn(1, 512), "fc1.bias": torch.randn(1)}
    other = ("layer3.", "layer4.", "fc.")
    return {key: each for key, each in state.items() if not key.startswith(other)}


def community_forensics() -> State:
    torch.manual_seed(2)
    model = VisionTransformer(224, 16, num_classes=1, embed_dim=64, depth=2, num_heads=1)
    nn.init.normal_(model.head.weight)
    return prefixed("vit.", as_if_trained(model).state_dict())


def ferretnet(width: int = 8, depths: tuple[int, ...] = (2, 1)) -> State:
    return of_shapes(_ferretnet(width, depths))


def _ferretnet(width: int, depths: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "cbr1.0.weight", (width // 2, 3, 3, 3)
    yield from _normalisation("cbr1.1", width // 2)
    yield "cbr2.0.weight", (width, width // 2, 3, 3)
    yield from _normalisation("cbr2.1", width)
    for stage, depth in enumerate(depths):
        for block in range(depth):
            name, wide = f"feature.{stage}.{block}", 2 * width
            for at in (1, 2):
                yield f"{name}.layers.0.conv{at}.weight", (wide, 1, 3, 3)
            yield f"{name}.layers.0.conv3.weight", (wide, wide, 1, 1)
            yield from _normalisation(f"{name}.layers.1", wide)
            yield f"{name}.layers.3.depth_wise.weight", (wide, 1, 3, 3)
            yield f"{name}.layers.3.point_wise.weight", (wide, wide, 1, 1)
            yield from _normalisation(f"{name}.layers.4", wide)
            if block == 0:
                yield f"{name}.shortcut.0.weight", (wide, width, 1, 1)
                yield f"{name}.shortcut.0.bias", (wide,)
                yield from _normalisation(f"{name}.shortcut.1", wide)
        width *= 2
    yield f"feature.{len(depths)}.weight", (width, width, 1, 1)
    yield "logit.1.weight", (1, width)
    yield "logit.1.bias", (1,)


def hf_vit(width: int = HIDDEN, side: int = 64, layers: int = 2) -> State:
    """A ViTModel of transformers, pooler included."""
    return of_shapes(_hf_vit(width, side, layers))


def _hf_vit(width: int, side: int, layers: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "embeddings.cls_token", (1, 1, width)
    yield "embeddings.position_embeddings", (1, 1 + (side // PATCH) ** 2, width)
    yield "embeddings.patch_embeddings.projection.weight", (width, 3, PATCH, PATCH)
    yield "embeddings.patch_embeddings.projection.bias", (width,)
    for layer in range(layers):
        name = f"encoder.layer.{layer}"
        linears = {
            f"attention.attention.{each}": (width, width) for each in ("query", "key", "value")
        }
        linears |= {
            "attention.output.dense": (width, width),
            "intermediate.dense": (4 * width, width),
            "output.dense": (width, 4 * width),
        }
        for linear, shape in linears.items():
            yield f"{name}.{linear}.weight", shape
            yield f"{name}.{linear}.bias", shape[:1]
        for norm in ("layernorm_before", "layernorm_after"):
            yield f"{name}.{norm}.weight", (width,)
            yield f"{name}.{norm}.bias", (width,)
    for norm in ("layernorm", "pooler.dense"):
        shape = (width, width) if "pooler" in norm else (width,)
        yield f"{norm}.weight", shape
        yield f"{norm}.bias", (width,)


def code_head(width: int = HIDDEN) -> State:
    """As scikit-learn has it, in double precision."""
    generator = torch.Generator().manual_seed(4)
    coef = torch.randn(1, width, generator=generator, dtype=torch.float64)
    return {"coef_": coef, "intercept_": torch.tensor([0.3], dtype=torch.float64)}


def code() -> State:
    return hf_vit() | code_head()


FILES: dict[str, Callable[[], State]] = {
    "cnnspot": lambda: cnnspot((3, 4, 6, 3)),
    "npr": npr,
    "ferretnet": ferretnet,
    "community-forensics": community_forensics,
    "code": code,
    "classifier": lambda: ResNet(Bottleneck, [1, 1, 1, 1], num_classes=2).state_dict(),
}


def source(state: State, **options: object) -> Source:
    return Source(Path("d.pt"), state, **options)


def presets(given: Source, family: str) -> tuple[Preset, ...]:
    return recognise(given, family).presets(given)


def preset(given: Source) -> Preset:
    """The first preset of the family that knows the keys."""
    return choose_preset(recognise(given, None), given, None)
