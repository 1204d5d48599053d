"""Heads on CLIP's features: three layouts of one tower, and what each detector makes of it."""

from __future__ import annotations

import pytest
import torch
from detector_graphs import floats, load, pixel_session, pixels_of, run, source, told, views_of
from glass_edge.export.errors import CheckpointError
from glass_edge.runtime.views.places import Centre
from glass_edge.runtime.views.spec import Resize, StreamViews
from torch import Tensor
from torch.nn import functional as F

WIDTH, OUTPUTS, PATCH, SIDE, LAYERS = 128, 24, 8, 32, 2
EPS = 1e-5


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape) * 0.2


def openai_tower() -> dict[str, Tensor]:
    """Random weights by OpenAI's keys."""
    torch.manual_seed(0)
    state = {
        "visual.class_embedding": _normal(WIDTH),
        "visual.positional_embedding": _normal((SIDE // PATCH) ** 2 + 1, WIDTH),
        "visual.conv1.weight": _normal(WIDTH, 3, PATCH, PATCH),
        "visual.proj": _normal(WIDTH, OUTPUTS),
    }
    layers = [f"visual.transformer.resblocks.{n}." for n in range(LAYERS)]
    norms = ["visual.ln_pre", "visual.ln_post"]
    for layer in layers:
        norms += [f"{layer}ln_1", f"{layer}ln_2"]
        for name, rows, columns in (
            ("attn.in_proj_", 3 * WIDTH, WIDTH),
            ("attn.out_proj.", WIDTH, WIDTH),
            ("mlp.c_fc.", 4 * WIDTH, WIDTH),
            ("mlp.c_proj.", WIDTH, 4 * WIDTH),
        ):
            state[f"{layer}{name}weight"] = _normal(rows, columns)
            state[f"{layer}{name}bias"] = _normal(rows)
    for norm in norms:
        state[f"{norm}.weight"], state[f"{norm}.bias"] = 1 + _normal(WIDTH), _normal(WIDTH)
    return state


def in_transformers_layout(tower: dict[str, Tensor]) -> dict[str, Tensor]:
    state = {
        "vision_model.embeddings.class_embedding": tower["visual.class_embedding"],
        "vision_model.embeddings.position_embedding.weight": tower["visual.positional_embedding"],
        "vision_model.embeddings.patch_embedding.weight": tower["visual.conv1.weight"],
        "visual_projection.weight": tower["visual.proj"].T.contiguous(),
    }
    for part in ("weight", "bias"):
        state[f"vision_model.pre_layrnorm.{part}"] = tower[f"visual.ln_pre.{part}"]
        state[f"vision_model.post_layernorm.{part}"] = tower[f"visual.ln_post.{part}"]
        for n in range(LAYERS):
            theirs, ours = f"visual.transformer.resblocks.{n}.", f"vision_model.encoder.layers.{n}."
            three = tower[f"{theirs}attn.in_proj_{part}"].chunk(3)
            for name, tensor in zip("qkv", three, strict=True):
                state[f"{ours}self_attn.{name}_proj.{part}"] = tensor
            for ours_name, theirs_name in (
                ("self_attn.out_proj", "attn.out_proj"),
                ("mlp.fc1", "mlp.c_fc"),
                ("mlp.fc2", "mlp.c_proj"),
                ("layer_norm1", "ln_1"),
                ("layer_norm2", "ln_2"),
            ):
                state[f"{ours}{ours_name}.{part}"] = tower[f"{theirs}{theirs_name}.{part}"]
    return state


def in_timm_layout(tower: dict[str, Tensor]) -> dict[str, Tensor]:
    state = {
        "cls_token": tower["visual.class_embedding"].view(1, 1, -1),
        "pos_embed": tower["visual.positional_embedding"][None],
        "patch_embed.proj.weight": tower["visual.conv1.weight"],
        "head.weight": tower["visual.proj"].T.contiguous(),
        "head.bias": torch.zeros(OUTPUTS),
    }
    for part in ("weight", "bias"):
        state[f"norm_pre.{part}"] = tower[f"visual.ln_pre.{part}"]
        state[f"norm.{part}"] = tower[f"visual.ln_post.{part}"]
        for n in range(LAYERS):
            theirs = f"visual.transformer.resblocks.{n}."
            state[f"blocks.{n}.attn.qkv.{part}"] = tower[f"{theirs}attn.in_proj_{part}"]
            for ours_name, theirs_name in (
                ("attn.proj", "attn.out_proj"),
                ("mlp.fc1", "mlp.c_fc"),
                ("mlp.fc2", "mlp.c_proj"),
                ("norm1", "ln_1"),
                ("norm2", "ln_2"),
            ):
                state[f"blocks.{n}.{ours_name}.{part}"] = tower[f"{theirs}{theirs_name}.{part}"]
    return state


def pooled(tower: dict[str, Tensor], views: Tensor) -> Tensor:
    """CLIP's image tower up to its last normalisation, from its description."""

    def norm(tokens: Tensor, name: str) -> Tensor:
        return F.layer_norm(tokens, (WIDTH,), tower[f"{name}.weight"], tower[f"{name}.bias"], EPS)

    patches = F.conv2d(views, tower["visual.conv1.weight"], stride=PATCH).flatten(2).mT
    first = tower["visual.class_embedding"].expand(len(views), 1, -1)
    tokens = torch.cat([first, patches], dim=1) + tower["visual.positional_embedding"]
    tokens = norm(tokens, "visual.ln_pre")
    for n in range(LAYERS):
        layer = f"visual.transformer.resblocks.{n}."
        attention = torch.nn.MultiheadAttention(WIDTH, WIDTH // 64, batch_first=True)
        attention.load_state_dict(
            {
                key.removeprefix(f"{layer}attn."): tensor
                for key, tensor in tower.items()
                if key.startswith(f"{layer}attn.")
            }
        )
        normalised = norm(tokens, f"{layer}ln_1")
        tokens = tokens + attention(normalised, normalised, normalised)[0]
        hidden = F.linear(
            norm(tokens, f"{layer}ln_2"),
            tower[f"{layer}mlp.c_fc.weight"],
            tower[f"{layer}mlp.c_fc.bias"],
        )
        hidden = hidden * torch.sigmoid(1.702 * hidden)
        tokens = tokens + F.linear(
            hidden, tower[f"{layer}mlp.c_proj.weight"], tower[f"{layer}mlp.c_proj.bias"]
        )
    return norm(tokens[:, 0], "visual.ln_post")


TOWER = openai_tower()
HEAD = {"weight": _normal(1, OUTPUTS), "bias": _normal(1)}
VIEWS = torch.randn(3, 3, SIDE, SIDE)
LAYOUTS = {
    "open_clip": TOWER,
    "transformers": in_transformers_layout(TOWER),
    "timm": in_timm_layout(TOWER),
}


def logits_of(logit: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(logit), logit], dim=1)


@pytest.mark.parametrize("layout", LAYOUTS)
@torch.no_grad()
def test_univfd_is_a_linear_head_on_projected_features_in_each_layout_of_the_tower(layout):
    detector, _ = load("univfd", source(HEAD, backbone=LAYOUTS[layout]))
    features = pooled(TOWER, VIEWS) @ TOWER["visual.proj"]
    expected = logits_of(F.linear(features, HEAD["weight"], HEAD["bias"]))
    torch.testing.assert_close(detector.streams["global"](VIEWS), expected, atol=1e-4, rtol=1e-4)
    assert detector.aggregator is None
    assert detector.classes.names[1] == detector.classes.fake == "fake"
    assert detector.name == "UniversalFakeDetect, CLIP ViT 2x128/8"


def test_the_text_model_beside_the_tower_is_left_out():
    beside = {
        "logit_scale": torch.ones(()),
        "text_model.final_layer_norm.weight": torch.ones(8),
        "text_projection.weight": torch.ones(8, 8),
        "vision_model.embeddings.position_ids": torch.arange(17)[None],
    }
    detector, _ = load("univfd", source(HEAD, backbone={**LAYOUTS["transformers"], **beside}))
    other, _ = load("univfd", source(HEAD, backbone=TOWER))
    assert torch.equal(detector.streams["global"](VIEWS), other.streams["global"](VIEWS))


@torch.no_grad()
def test_half_precision_of_a_published_tower_becomes_float32():
    half = {key: tensor.half() for key, tensor in TOWER.items()}
    detector, _ = load("univfd", source(HEAD, backbone=half))
    assert {p.dtype for p in detector.streams["global"].parameters()} == {torch.float32}


@torch.no_grad()
def test_a_projector_multiplies_the_projected_features():
    projector = _normal(OUTPUTS, OUTPUTS)
    detector, _ = load("univfd", source({**HEAD, "projector": projector}, backbone=TOWER))
    features = pooled(TOWER, VIEWS) @ TOWER["visual.proj"] @ projector
    expected = logits_of(F.linear(features, HEAD["weight"], HEAD["bias"]))
    torch.testing.assert_close(detector.streams["global"](VIEWS), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("prefix", ["model.", ""])
@torch.no_grad()
def test_c2p_clip_reads_projected_features_of_unit_length(prefix):
    state = {f"{prefix}{key}": tensor for key, tensor in LAYOUTS["transformers"].items()}
    head = {f"{prefix}fc.{key}": 5 * tensor for key, tensor in HEAD.items()}
    detector, preset = load("c2p-clip", source({**state, **head}))
    features = F.normalize(pooled(TOWER, VIEWS) @ TOWER["visual.proj"])
    expected = logits_of(F.linear(features, 5 * HEAD["weight"], 5 * HEAD["bias"]))
    torch.testing.assert_close(detector.streams["global"](VIEWS), expected, atol=1e-4, rtol=1e-4)
    resize = Resize("pillow-bilinear", "short-side", SIDE)
    assert preset.views == {"global": StreamViews(SIDE, "uint8", resize, Centre())}


@pytest.mark.parametrize("kind", ["linear_probe", "clip_orthogonal"])
@torch.no_grad()
def test_clip_cues_reads_pooled_features(kind):
    one, two = _normal(5, WIDTH), _normal(1, 5)
    first_bias, bias = _normal(5), _normal(1)
    if kind == "linear_probe":
        head = {"fc.weight": two @ one, "fc.bias": bias}
        expected = F.linear(pooled(TOWER, VIEWS), two @ one, bias)
    else:
        head = {
            "layers.0.weight": one,
            "layers.0.bias": first_bias,
            "to_logits.weight": two,
            "to_logits.bias": bias,
        }
        expected = F.linear(F.linear(pooled(TOWER, VIEWS), one, first_bias), two, bias)
    state = {f"model.classification_head.{key}": tensor for key, tensor in head.items()}
    given = source(state, backbone=LAYOUTS["transformers"])
    assert told(given) == "clip-cues"
    detector, _ = load("clip-cues", given)
    found = detector.streams["global"](VIEWS)
    torch.testing.assert_close(found, logits_of(expected), atol=1e-4, rtol=1e-4)


def test_univfd_looks_at_the_middle_of_the_unresized_image():
    _, preset = load("univfd", source(HEAD, backbone=TOWER))
    assert preset.name == f"centre-{SIDE}"
    assert preset.views == {"global": StreamViews(SIDE, "uint8", places=Centre())}
    assert preset.normalisation.mean == (0.48145466, 0.4578275, 0.40821073)
    assert preset.normalisation.std == (0.26862954, 0.26130258, 0.27577711)


def test_families_are_told_by_their_keys():
    model = {f"model.{key}": tensor for key, tensor in LAYOUTS["transformers"].items()}
    head = {f"model.fc.{key}": tensor for key, tensor in HEAD.items()}
    assert told(source(HEAD)) == "univfd"
    assert told(source({**HEAD, "projector": torch.eye(OUTPUTS)})) == "univfd"
    assert told(source({**HEAD, "conv.weight": torch.ones(1)})) is None
    assert told(source({"weight": torch.ones(2, 768), "bias": torch.ones(2)})) is None
    assert told(source({**model, **head})) == "c2p-clip"


@pytest.mark.parametrize(
    ("state", "backbone", "message"),
    [
        (HEAD, None, "a head of UniversalFakeDetect without its tower: .*--backbone-weights"),
        (HEAD, {"fc.weight": torch.ones(2)}, "must be CLIP's image tower.*--backbone-weights"),
        (
            {"weight": torch.ones(1, 768), "bias": torch.ones(1)},
            TOWER,
            "the head takes 768 features, and the tower gives 24: .*--backbone-weights",
        ),
        (
            {**HEAD, "projector": torch.eye(7)},
            TOWER,
            r"the projector is of shape \(7, 7\), and the tower gives 24",
        ),
        (
            HEAD,
            {key: tensor for key, tensor in TOWER.items() if key != "visual.proj"},
            "after their projection, and the tower has none",
        ),
        (
            HEAD,
            {k: t for k, t in TOWER.items() if k != "visual.transformer.resblocks.1.ln_2.bias"},
            r"weights of CLIP's image tower \(1 missing: blocks.1.norm2.bias\)",
        ),
        ({**HEAD, "bias": torch.tensor([float("nan")])}, TOWER, "not finite"),
        ({"bias": HEAD["bias"]}, TOWER, r"head of UniversalFakeDetect \('weight' is missing"),
        ({**HEAD, "weight": torch.ones(())}, TOWER, "the head takes 1 features"),
        (HEAD, {**TOWER, "visual.proj": torch.ones(())}, "CLIP's image tower"),
        (HEAD, {**TOWER, "visual.positional_embedding": torch.ones(3)}, "CLIP's image tower"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(state, backbone, message):
    with pytest.raises(CheckpointError, match=message):
        load("univfd", source(state, backbone=backbone))


@pytest.mark.slow
def test_the_graph_gives_the_same_for_any_batch():
    detector, _ = load("univfd", source(HEAD, backbone=TOWER))
    module = detector.streams["global"]
    graph = pixel_session(module, SIDE, [floats("logits", "batch", 2)])
    for count in (1, 3):
        pixels = pixels_of(count, SIDE)
        (found,) = run(graph, pixels)
        torch.testing.assert_close(found, module(views_of(pixels)), atol=1e-4, rtol=1e-4)
