"""SPAI: spectral features of a tile, and the attention that joins tiles, against their facts."""

from __future__ import annotations

import pytest
import torch
from detector_graphs import (
    floats,
    load,
    pixel_session,
    pixels_of,
    run,
    session,
    source,
    told,
    views_of,
)
from glass_edge.export.detectors.networks.low_pass import LowPass
from glass_edge.export.errors import CheckpointError
from glass_edge.runtime.views.places import Tiles
from glass_edge.runtime.views.spec import StreamViews
from torch import Tensor, nn
from torch.nn import functional as F

SIDE, PATCH, WIDTH, BLOCKS, SIZE, HEADS, HEAD_WIDTH = 32, 8, 128, 2, 24, 3, 4
FEATURES = 6 * BLOCKS + SIZE
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def circle(side: int, radius: int) -> Tensor:
    """SPAI's mask: its centre lies between four frequencies, of which the last is zero."""
    along = torch.arange(side)
    distance = torch.where(along < side // 2, side // 2 - 1 - along, along - side // 2)
    return ((distance[:, None] ** 2 + distance[None] ** 2).sqrt() < radius).long()


Shapes = dict[str, tuple[int, ...]]


def layer(name: str, outputs: int, *inputs: int, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (outputs, *inputs)} | ({f"{name}.bias": (outputs,)} if bias else {})


def block(name: str) -> Shapes:
    shapes = layer(f"{name}.attn.qkv", 3 * WIDTH, WIDTH, bias=False)
    shapes |= {f"{name}.attn.q_bias": (WIDTH,), f"{name}.attn.v_bias": (WIDTH,)}
    shapes |= layer(f"{name}.attn.proj", WIDTH, WIDTH)
    shapes |= layer(f"{name}.mlp.fc1", 4 * WIDTH, WIDTH) | layer(
        f"{name}.mlp.fc2", WIDTH, 4 * WIDTH
    )
    return shapes | layer(f"{name}.norm1", WIDTH) | layer(f"{name}.norm2", WIDTH)


def tower() -> Shapes:
    """With the parts of pre-training and of classification that SPAI's files hold, too."""
    vit = "mfvit.vit"
    shapes = layer(f"{vit}.patch_embed.proj", WIDTH, 3, PATCH, PATCH)
    for name in ("cls_token", "actual_cls_token"):
        shapes[f"{vit}.{name}"] = (1, 1, WIDTH)
    for name in ("pos_embed", "cls_pos_embed"):
        shapes[f"{vit}.{name}"] = (1, (SIDE // PATCH) ** 2 + 1, WIDTH)
    for name in (*(f"blocks.{n}" for n in range(BLOCKS)), "cls_blocks.0"):
        shapes |= block(f"{vit}.{name}")
    for name in ("fc_norm", *(f"intermediate_fc_norm.{n}" for n in range(BLOCKS))):
        shapes |= layer(f"{vit}.{name}", WIDTH)
    return shapes | layer(f"{vit}.head", 2, WIDTH)


def projector(name: str, width: int) -> Shapes:
    shapes = layer(f"{name}.projector.1", SIZE, width) | layer(f"{name}.projector.4", SIZE, SIZE)
    return shapes | layer(f"{name}.norm2", SIZE)


def processor() -> Shapes:
    name = "mfvit.features_processor"
    shapes = {f"{name}.original_features_processor.alpha": (1, BLOCKS, SIZE)}
    for n in range(BLOCKS):
        own = f"{name}.patch_projector.projectors.{n}"
        shapes |= projector(own, WIDTH) | layer(f"{own}.norm1", WIDTH)
    shapes |= projector(f"{name}.original_features_processor.proj1", 2 * SIZE)
    return shapes | projector(f"{name}.original_features_processor.proj2", SIZE)


def joining() -> Shapes:
    shapes: Shapes = {"patch_aggregator": (HEADS, 1, HEAD_WIDTH)}
    shapes |= layer("to_kv", 2 * HEADS * HEAD_WIDTH, FEATURES, bias=False)
    shapes |= layer("to_out.0", FEATURES, HEADS * HEAD_WIDTH, bias=False)
    shapes |= layer("norm", FEATURES) | layer("cls_head.head.0", 3 * FEATURES, FEATURES)
    shapes |= layer("cls_head.head.3", 3 * FEATURES, 3 * FEATURES)
    return shapes | layer("cls_head.head.6", 1, 3 * FEATURES)


def checkpoint() -> dict[str, Tensor]:
    """Random weights by SPAI's keys."""
    generator = torch.Generator().manual_seed(0)
    state = {"mfvit.frequencies_mask": circle(SIDE, 5)}
    for key, shape in (tower() | processor() | joining()).items():
        around = float("norm" in key and key.endswith("weight"))
        state[key] = around + 0.2 * torch.randn(shape, generator=generator)
    return state


STATE = checkpoint()


def linear(tokens: Tensor, name: str) -> Tensor:
    return F.linear(tokens, STATE[f"{name}weight"], STATE.get(f"{name}bias"))


def norm(tokens: Tensor, name: str, eps: float = 1e-5) -> Tensor:
    weight, bias = STATE[f"{name}weight"], STATE[f"{name}bias"]
    return F.layer_norm(tokens, weight.shape, weight, bias, eps)


def filtered(images: Tensor, mask: Tensor) -> Tensor:
    spectrum = torch.fft.fftshift(torch.fft.fft2(images), dim=(-2, -1))
    return torch.fft.ifft2(torch.fft.ifftshift(spectrum * mask, dim=(-2, -1))).real


def tokens_after_each_block(views: Tensor) -> list[Tensor]:
    vit = "mfvit.vit."
    embed = [STATE[f"{vit}patch_embed.proj.{part}"] for part in ("weight", "bias")]
    patches = F.conv2d(views, *embed, stride=PATCH).flatten(2).mT
    first = STATE[f"{vit}cls_token"].expand(len(views), -1, -1)
    tokens = torch.cat([first, patches], dim=1) + STATE[f"{vit}pos_embed"]
    found = []
    for n in range(BLOCKS):
        name = f"{vit}blocks.{n}."
        attention = nn.MultiheadAttention(WIDTH, WIDTH // 64, batch_first=True)
        query, value = STATE[f"{name}attn.q_bias"], STATE[f"{name}attn.v_bias"]
        attention.load_state_dict(
            {
                "in_proj_weight": STATE[f"{name}attn.qkv.weight"],
                "in_proj_bias": torch.cat([query, torch.zeros(WIDTH), value]),
                "out_proj.weight": STATE[f"{name}attn.proj.weight"],
                "out_proj.bias": STATE[f"{name}attn.proj.bias"],
            }
        )
        normed = norm(tokens, f"{name}norm1.", 1e-6)
        tokens = tokens + attention(normed, normed, normed)[0]
        hidden = F.gelu(linear(norm(tokens, f"{name}norm2.", 1e-6), f"{name}mlp.fc1."))
        tokens = tokens + linear(hidden, f"{name}mlp.fc2.")
        found.append(tokens[:, 1:])
    return found


def projected(tokens: Tensor, name: str, *, last_gelu: bool) -> Tensor:
    tokens = linear(F.gelu(linear(tokens, f"{name}projector.1.")), f"{name}projector.4.")
    return norm(F.gelu(tokens) if last_gelu else tokens, f"{name}norm2.")


def features_of(views: Tensor) -> Tensor:
    """The 6 N + P features of tiles in [0, 1], from the description."""
    parts = "mfvit.features_processor."
    mask = STATE["mfvit.frequencies_mask"]
    images = (views, filtered(views, mask).clamp(0, 1), filtered(views, 1 - mask).clamp(0, 1))
    seen = []
    for image in images:
        blocks = tokens_after_each_block((image - MEAN) / STD)
        names = [f"{parts}patch_projector.projectors.{n}." for n in range(BLOCKS)]
        seen.append(
            torch.stack(
                [
                    projected(norm(tokens, f"{name}norm1."), name, last_gelu=False)
                    for tokens, name in zip(blocks, names, strict=True)
                ],
                dim=1,
            )
        )
    statistics = []
    for one, other in ((0, 1), (0, 2), (1, 2)):
        similarity = F.cosine_similarity(seen[one], seen[other], dim=-1)
        statistics += [similarity.mean(dim=-1), similarity.std(dim=-1)]
    importance = f"{parts}original_features_processor."
    own = torch.cat([seen[0].mean(dim=2), seen[0].std(dim=2)], dim=-1)
    own = projected(own, f"{importance}proj1.", last_gelu=True)
    own = (STATE[f"{importance}alpha"].softmax(dim=1) * own).sum(dim=1)
    return torch.cat([*statistics, projected(own, f"{importance}proj2.", last_gelu=True)], dim=1)


def judged(features: Tensor) -> tuple[Tensor, Tensor]:
    """Logit ``(B, 1)`` and attention by head ``(B, h, n)``, from the description."""
    keys, values = linear(features, "to_kv.").chunk(2, dim=-1)
    keys, values = (part.unflatten(-1, (HEADS, HEAD_WIDTH)) for part in (keys, values))
    scores = torch.einsum("hqd,bnhd->bhn", STATE["patch_aggregator"], keys) * HEAD_WIDTH**-0.5
    attention = scores.softmax(dim=-1)
    mixed = torch.einsum("bhn,bnhd->bhd", attention, values).flatten(1)
    hidden = norm(linear(mixed, "to_out.0."), "norm.")
    for number in (0, 3):
        hidden = F.relu(linear(hidden, f"cls_head.head.{number}."))
    return linear(hidden, "cls_head.head.6."), attention


@pytest.mark.parametrize(("side", "radius"), [(32, 5), (224, 16), (20, 9)])
def test_the_low_pass_is_the_fourier_transforms(side, radius):
    torch.manual_seed(0)
    images, mask = torch.rand(2, 3, side, side), circle(side, radius)
    exact = filtered(images.double(), mask)
    torch.testing.assert_close(LowPass(mask)(images).double(), exact, atol=2e-6, rtol=0)


def test_any_mask_is_kept_as_the_file_has_it():
    torch.manual_seed(0)
    images, mask = torch.rand(1, 3, 16, 16), torch.rand(16, 16) * (torch.rand(16, 16) > 0.5)
    torch.testing.assert_close(LowPass(mask)(images), filtered(images, mask), atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_tiles_features_are_those_of_the_description():
    views = views_of(pixels_of(3, SIDE))
    encoder = load("spai", source(STATE))[0].streams["tiles"]
    torch.testing.assert_close(encoder(views), features_of(views), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("count", [1, 5])
@torch.no_grad()
def test_tiles_are_joined_as_in_the_description(count):
    torch.manual_seed(count)
    features = torch.randn(2, count, FEATURES)
    aggregator = load("spai", source(STATE))[0].aggregator
    logits, attention = aggregator(features)
    expected, by_head = judged(features)
    torch.testing.assert_close(logits[:, 1:], expected, atol=1e-5, rtol=1e-5)
    assert not logits[:, 0].any()
    torch.testing.assert_close(attention, by_head.mean(dim=1), atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_the_encoders_graph_gives_the_same_for_any_batch():
    encoder = load("spai", source(STATE))[0].streams["tiles"]
    graph = pixel_session(encoder, SIDE, [floats("features", "batch", FEATURES)])
    for count in (1, 3):
        pixels = pixels_of(count, SIDE)
        (found,) = run(graph, pixels)
        torch.testing.assert_close(found, encoder(views_of(pixels)), atol=1e-4, rtol=1e-4)


def test_the_aggregators_graph_gives_the_same_for_any_number_of_tiles():
    aggregator = load("spai", source(STATE))[0].aggregator
    outputs = [floats("logits", "batch", 2), floats("attention", "batch", "crops")]
    graph = session(aggregator, [floats("features", "batch", "crops", FEATURES)], outputs)
    for batch, count in ((1, 1), (3, 1), (1, 4), (3, 7)):
        features = torch.randn(batch, count, FEATURES)
        for found, expected in zip(run(graph, features), aggregator(features), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_it_looks_at_all_tiles_without_normalisation():
    detector, preset = load("spai", source(STATE))
    assert preset.name == "tiles"
    assert preset.views == {
        "tiles": StreamViews(SIDE, "uint8", places=Tiles(at_least=4, most=1024))
    }
    assert (preset.normalisation.mean, preset.normalisation.std) == ((0, 0, 0), (1, 1, 1))
    assert detector.name == "SPAI, ViT 2x128/8"
    assert detector.classes.fake == detector.classes.names[1] == "fake"


def test_it_is_told_by_its_keys():
    assert told(source(STATE)) == "spai"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mfvit.frequencies_mask": circle(16, 5)}, "of 16 pixels, and the tower takes 32"),
        ({"mfvit.frequencies_mask": torch.zeros(32, 32)}, "keeps some frequencies"),
        ({"to_kv.weight": torch.ones(3)}, "weights of SPAI"),
        ({"mfvit.vit.blocks.0.attn.q_bias": torch.ones(2, 2)}, "weights of SPAI"),
        ({"to_kv.weight": None}, r"weights of SPAI \('to_kv.weight' is missing"),
        ({"norm.bias": None}, r"weights of SPAI \(1 missing: norm.bias\)"),
        ({"mfvit.vit.blocks.1.mlp.fc1.bias": None}, "1 missing: blocks.1.mlp.fc1.bias"),
        ({"mfvit.vit.blocks.1.attn.v_bias": None}, "1 missing: blocks.1.attn.qkv.bias"),
        ({"cls_head.head.6.bias": torch.tensor([float("inf")])}, "not finite"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(changes, message):
    state = {key: tensor for key, tensor in (STATE | changes).items() if tensor is not None}
    with pytest.raises(CheckpointError, match=message):
        load("spai", source(state))


def test_a_checkpoint_that_reads_some_blocks_only_is_refused():
    state = {key: tensor for key, tensor in STATE.items() if "projectors.1." not in key}
    with pytest.raises(CheckpointError, match="this one reads 1 of 2"):
        load("spai", source(state))
