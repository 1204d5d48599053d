"""Fusing and GLFF against twins written from their facts."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from detector_graphs import floats, load, pixel_session, run, session, source, told
from glass_edge.export.detectors.registry import Detector
from glass_edge.export.errors import CheckpointError
from glass_edge.runtime.views.places import Centre, Guided
from glass_edge.runtime.views.spec import Resize, StreamViews
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import ResNet
from torchvision.models.resnet import Bottleneck

SIDE, WIDTH, HEADS, LAYERS = 224, 16, 4, 2  # theirs are 128 wide, in three layers
Weights = dict[str, Tensor]


def attention_layers(prefix: str) -> Weights:
    state: Weights = {}
    for n in range(LAYERS):
        modules = {
            "mha": nn.MultiheadAttention(WIDTH, HEADS),
            "ln1": nn.LayerNorm(WIDTH),
            "ln2": nn.LayerNorm(WIDTH),
            "fc1": nn.Linear(WIDTH, WIDTH),
            "fc2": nn.Linear(WIDTH, WIDTH),
        }
        for name, module in modules.items():
            for key, tensor in module.state_dict().items():
                noise = 0.1 * torch.randn(tensor.shape)
                state[f"{prefix}mha_list.{n}.{name}.{key}"] = tensor + noise
    return state


def layer(name: str, outputs: int, inputs: int) -> Weights:
    found = nn.Linear(inputs, outputs).state_dict()
    return {f"{name}.{key}": tensor for key, tensor in found.items()}


@cache
def fusing() -> Weights:
    """Random weights by Fusing's keys, with a ResNet of one block a stage."""
    torch.manual_seed(0)
    resnet = ResNet(Bottleneck, [1, 1, 1, 1])
    for module in resnet.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    state = {f"resnet.{key}": tensor for key, tensor in resnet.state_dict().items()}
    return {**state, **layer("fc1", WIDTH, 2048), **layer("fc", 1, WIDTH), **attention_layers("")}


@cache
def glff() -> Weights:
    """GLFF's files also hold a layer that is not used."""
    state = {**fusing(), **attention_layers("MultiFusion.")}
    for level, channels in (("high", 2048), ("middle", 512), ("shallow", 64)):
        state |= layer(f"MultiFusion.project_{level}", WIDTH, channels)
    return state


STATES = {"fusing": fusing, "glff": glff}


@cache
def detector(name: str) -> Detector:
    return load(name, source(STATES[name]()))[0]


@cache
def views(count: int) -> Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(count))


@torch.no_grad()
def maps_of(state: Weights, images: Tensor) -> tuple[Tensor, Tensor]:
    """The maps after the first convolution and after the last stage."""
    resnet = ResNet(Bottleneck, [1, 1, 1, 1]).eval()
    resnet.load_state_dict(
        {
            key.removeprefix("resnet."): tensor
            for key, tensor in state.items()
            if key.startswith("resnet.")
        }
    )
    kept: dict[str, Tensor] = {}
    resnet.relu.register_forward_hook(lambda _, __, maps: kept.setdefault("first", maps.clone()))
    resnet.layer4.register_forward_hook(lambda _, __, maps: kept.setdefault("last", maps))
    resnet(images)
    return kept["first"], kept["last"]


def apply(state: Weights, name: str, tokens: Tensor) -> Tensor:
    return F.linear(tokens, state[f"{name}.weight"], state[f"{name}.bias"])


def attend(state: Weights, prefix: str, tokens: Tensor) -> Tensor:
    """Post-norm layers of self-attention; the last token of the result."""
    for n in range(LAYERS):
        name = f"{prefix}mha_list.{n}"
        attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        attention.load_state_dict(
            {
                key.removeprefix(f"{name}.mha."): tensor
                for key, tensor in state.items()
                if key.startswith(f"{name}.mha.")
            }
        )
        norms = [
            (state[f"{name}.ln{number}.weight"], state[f"{name}.ln{number}.bias"])
            for number in (1, 2)
        ]
        tokens = F.layer_norm(
            tokens + attention(tokens, tokens, tokens, need_weights=False)[0], (WIDTH,), *norms[0]
        )
        hidden = apply(state, f"{name}.fc2", F.relu(apply(state, f"{name}.fc1", tokens)))
        tokens = F.layer_norm(tokens + hidden, (WIDTH,), *norms[1])
    return tokens[:, -1]


def fused_maps(state: Weights, shallow: Tensor, deep: Tensor) -> Tensor:
    """GLFF's maps: in each of 7 x 7 cells, attention over its deep and its shallow vectors."""
    cells = []
    for row in range(7):
        for column in range(7):
            square = shallow[:, :, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
            tokens = [
                apply(state, "MultiFusion.project_high", deep[:, :, row, column])[:, None],
                apply(state, "MultiFusion.project_shallow", square.flatten(2).mT),
            ]
            cells.append(torch.cat(tokens, dim=1))
    fused = attend(state, "MultiFusion.", torch.cat(cells))
    return fused.unflatten(0, (7, 7, -1)).permute(2, 3, 0, 1)


def scores_of(maps: Tensor, cells: int) -> Tensor:
    """Sums over the channels of the means of ``cells`` x ``cells`` neighbours."""
    count = 8 - cells
    rows = [
        [maps[:, :, r : r + cells, c : c + cells].sum(dim=(1, 2, 3)) for c in range(count)]
        for r in range(count)
    ]
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1) / cells**2


@torch.no_grad()
def global_features(name: str, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features and the map that guides the crops."""
    state = STATES[name]()
    shallow, deep = maps_of(state, images)
    if name == "fusing":
        return F.relu(apply(state, "fc1", deep.mean(dim=(2, 3)))), deep
    maps = fused_maps(state, shallow, deep)
    return F.relu(maps.mean(dim=(2, 3))), maps


@pytest.mark.parametrize("name", STATES)
@torch.no_grad()
def test_a_global_view_gives_features_and_score_maps(name):
    found = detector(name).streams["global"](views(2))
    features, maps = global_features(name, views(2))
    assert bool((maps < 0).any()) == (name == "glff")
    expected = (features, scores_of(maps, 3), scores_of(maps, 2))
    assert [tuple(each.shape) for each in found] == [(2, WIDTH), (2, 5, 5), (2, 6, 6)]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", STATES)
@torch.no_grad()
def test_a_local_view_gives_features_of_the_same_resnet(name):
    state = STATES[name]()
    _, deep = maps_of(state, views(2))
    expected = F.relu(apply(state, "fc1", deep.mean(dim=(2, 3))))
    assert 0.1 < (expected > 0).float().mean() < 0.9
    found = detector(name).streams["local"](views(2))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    shared = {p.data_ptr() for p in detector(name).streams["global"].parameters()}
    own = {p.data_ptr() for p in detector(name).streams["local"].trunk.parameters()}
    assert own <= shared


@pytest.mark.parametrize("name", STATES)
@torch.no_grad()
def test_the_global_view_is_the_last_token_of_the_verdict(name):
    torch.manual_seed(0)
    state, one, six = STATES[name](), torch.randn(2, WIDTH), torch.randn(2, 6, WIDTH)
    logit = apply(state, "fc", attend(state, "", torch.cat([six, one[:, None]], dim=1)))
    found = detector(name).aggregator(one, six)
    expected = torch.cat([torch.zeros_like(logit), logit], dim=1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_the_aggregators_graph_takes_any_batch_and_number_of_views():
    aggregator = detector("fusing").aggregator
    inputs = [floats("global", "batch", WIDTH), floats("local", "batch", "crops", WIDTH)]
    graph = session(aggregator, inputs, [floats("logits", "batch", 2)])
    for batch, count in ((1, 6), (3, 6), (1, 1), (3, 4), (2, 7)):
        given = torch.randn(batch, WIDTH), torch.randn(batch, count, WIDTH)
        torch.testing.assert_close(run(graph, *given)[0], aggregator(*given), atol=1e-5, rtol=1e-4)


# Fusing's is one of a bundle in test_detector_bundles.py, too.
@pytest.mark.slow
@pytest.mark.parametrize("name", STATES)
@torch.no_grad()
def test_the_global_graph_gives_the_same_for_any_batch(name):
    module = detector(name).streams["global"]
    outputs = [
        floats("features", "batch", WIDTH),
        floats("scores5", "batch", 5, 5),
        floats("scores6", "batch", 6, 6),
    ]
    graph = pixel_session(module, SIDE, outputs, "float32")
    for count in (1, 2):
        pixels = 40 * views(count).permute(0, 2, 3, 1).contiguous() + 128
        expected = module(pixels.permute(0, 3, 1, 2) / 255)
        for one, other in zip(run(graph, pixels), expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", STATES)
def test_crops_are_guided_by_the_global_view(name):
    found, preset = load(name, source(STATES[name]()))
    resize = Resize("pillow-bilinear", "short-side", 224)
    assert preset.views == {
        "global": StreamViews(224, "uint8", resize, Centre()),
        "local": StreamViews(224, "float32", places=Guided(by="global")),
    }
    assert list(found.streams) == list(preset.views)
    assert preset.normalisation.mean == (0.485, 0.456, 0.406)
    assert found.classes.names[1] == found.classes.fake == "fake"


def test_each_is_told_by_its_keys():
    assert told(source(fusing())) == "fusing"
    assert told(source(glff())) == "glff"


@pytest.mark.parametrize(
    ("name", "missing", "message"),
    [
        ("fusing", "fc.bias", r"weights of Fusing \(1 missing: fc.bias\)"),
        ("fusing", "fc1.weight", r"weights of Fusing \('fc1.weight' is missing"),
        ("glff", "MultiFusion.project_shallow.weight", r"weights of GLFF \(.* is missing"),
        ("glff", "MultiFusion.mha_list.1.ln2.bias", "1 missing: MultiFusion.mha_list.1.ln2.bias"),
    ],
)
def test_what_is_missing_is_said(name, missing, message):
    state = {key: tensor for key, tensor in STATES[name]().items() if key != missing}
    with pytest.raises(CheckpointError, match=message):
        load(name, source(state))
