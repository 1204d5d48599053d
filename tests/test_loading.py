"""Every checkpoint that users have loads; what does not fit is one clear error."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from glass_edge.export.checkpoint import read_checkpoint
from glass_edge.export.errors import CheckpointError
from glass_edge.export.families.registry import recipe_from_weights
from glass_edge.export.loading import load_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import FULL, SMALL, TIMM_NAME, random_glass
from safetensors.torch import save_file, save_model

TORCHVISION = ("vit", "convnext", "resnet")
TIMM = f"timm/{TIMM_NAME}"


def same_logits(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    torch.manual_seed(0)
    views = torch.randn(2, 3, 224, 224), torch.randn(2, 3, 3, 224, 224)
    with torch.inference_mode():
        return all(torch.equal(a, b) for a, b in zip(one(*views), other(*views), strict=True))


def saved(state: object, path: Path) -> Path:
    torch.save(state, path)
    return path


@pytest.mark.parametrize("family", TORCHVISION)
def test_the_family_and_its_size_are_told_from_the_keys(family, checkpoints):
    loaded = load_model(checkpoints[family])
    assert loaded.recipe.family == family
    assert loaded.recipe.crops == SMALL[family][2]
    assert not loaded.model.shares_backbone
    assert same_logits(loaded.model, random_glass(family))


@pytest.mark.parametrize("family", TORCHVISION)
def test_full_size_backbones_are_told_too(family):
    with torch.device("meta"):
        original = FULL[family][0]()
    recipe = recipe_from_weights(original.state_dict())
    with torch.device("meta"):
        built = recipe.build()
    shapes = {key: value.shape for key, value in built.state_dict().items()}
    assert shapes == {key: value.shape for key, value in original.state_dict().items()}
    assert recipe.family == family


@pytest.mark.parametrize(
    "name", ["resnet34", "resnet152", "wide_resnet50_2", "resnext50_32x4d", "convnext_base",
             "vit_b_32", "vit_l_16", "vit_h_14"],
)  # fmt: skip
def test_other_sizes_of_the_families_are_told(name):
    import torchvision

    with torch.device("meta"):
        weights = getattr(torchvision.models, name)().state_dict()
    heads = ("fc.", "heads.", "classifier.")
    weights = {key: value for key, value in weights.items() if not key.startswith(heads)}
    with torch.device("meta"):
        built = recipe_from_weights(weights).build().state_dict()
    assert {k: v.shape for k, v in built.items()} == {k: v.shape for k, v in weights.items()}


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."]
)
def test_prefixes_of_compiled_and_parallel_models(prefix, tmp_path):
    model = random_glass("vit")
    state = {prefix + key: value for key, value in model.state_dict().items()}
    assert same_logits(load_model(saved(state, tmp_path / "gl.pt")).model, model)


def test_a_backbone_compiled_on_its_own(tmp_path):
    model = random_glass("vit")
    state = {k.replace("local_model.", "local_model._orig_mod."): v
             for k, v in model.state_dict().items()}  # fmt: skip
    assert same_logits(load_model(saved(state, tmp_path / "gl.pt")).model, model)


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model"])
def test_a_state_dict_beside_other_things(wrapper, tmp_path):
    model = random_glass("vit")
    content = {"epoch": 3, wrapper: model.state_dict(), "loss": 0.1}
    assert same_logits(load_model(saved(content, tmp_path / "gl.pt")).model, model)


def test_half_precision_weights_are_widened(tmp_path):
    state = random_glass("vit").half().state_dict()
    loaded = load_model(saved(state, tmp_path / "gl.pt")).model
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}


def test_timm_backbones_are_named(checkpoints):
    loaded = load_model(checkpoints["timm"], TIMM)
    assert loaded.recipe.name == TIMM
    assert same_logits(loaded.model, random_glass("timm"))


def test_safetensors(tmp_path):
    model = random_glass("vit")
    save_file(model.state_dict(), tmp_path / "gl.safetensors")
    assert same_logits(load_model(tmp_path / "gl.safetensors").model, model)


def test_one_shared_backbone_under_both_prefixes(tmp_path):
    model = random_glass("resnet", shared=True)
    loaded = load_model(saved(model.state_dict(), tmp_path / "gl.pt")).model
    assert loaded.shares_backbone
    assert same_logits(loaded, model)


def test_one_shared_backbone_under_its_own_name(tmp_path):
    model = random_glass("resnet", shared=True)
    state = {
        key.replace("global_model.", "backbone."): value
        for key, value in model.state_dict().items()
        if not key.startswith("local_model.")
    }
    loaded = load_model(saved(state, tmp_path / "gl.pt")).model
    assert loaded.shares_backbone
    assert same_logits(loaded, model)


def test_one_shared_backbone_that_safetensors_stored_once(tmp_path):
    model = random_glass("resnet", shared=True)
    save_model(model, str(tmp_path / "gl.safetensors"))
    loaded = load_model(tmp_path / "gl.safetensors").model
    assert loaded.shares_backbone
    assert same_logits(loaded, model)


def without(state: dict, key: str) -> dict:
    return {name: value for name, value in state.items() if name != key}


LAST_BIAS = "local_model.encoder.ln.bias"
DAMAGES = {
    "missing": (lambda s: without(s, LAST_BIAS), rf"1 missing: {LAST_BIAS.split('.', 1)[1]}"),
    "surplus": (lambda s: s | {"local_model.heads.w": torch.ones(2)}, r"1 unexpected: heads\.w"),
    "misshapen": (
        lambda s: s | {LAST_BIAS: torch.ones(7)},
        r"encoder\.ln\.bias \(expected \(128,\), found \(7,\)\)",
    ),
    "no aggregator": (lambda s: without(s, "attention.0.weight"), r"missing: attention\.0\.weight"),
    "other aggregator": (
        lambda s: s | {"classifier.2.weight": torch.ones(3, 256)},
        r"classifier\.2\.weight \(expected \(2, 256\), found \(3, 256\)\)",
    ),
    "not a GLASS": (lambda s: {"weight": torch.ones(2)}, r"global_model\.\* and local_model\.\*"),
    "one view only": (
        lambda s: {k: v for k, v in s.items() if not k.startswith("local_model")},
        r"global_model\.\* and local_model\.\*",
    ),
    "unknown backbone": (
        lambda s: {k.replace("conv_proj", "patch"): v for k, v in s.items()},
        r"name it with --backbone timm/NAME",
    ),
    "not finite": (lambda s: s | {LAST_BIAS: torch.full((128,), torch.nan)}, "not finite"),
    "no tensors": (lambda s: {"epoch": 3}, "no state dict"),
    "a list": (lambda s: list(s.values()), "no state dict"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_does_not_fit_is_named(damage, checkpoints, tmp_path):
    spoil, sentence = DAMAGES[damage]
    state = torch.load(checkpoints["vit"], weights_only=True)
    with pytest.raises(CheckpointError, match=sentence):
        load_model(saved(spoil(state), tmp_path / "gl.pt"))


@pytest.mark.parametrize(
    ("backbone", "sentence"),
    [
        (TIMM, "does not fit timm/mobilenetv3_small_050"),
        ("timm/mobilenetv3_smal_050", "Did you mean timm/mobilenetv3_small_050"),
        ("resnet50", "there is no backbone 'resnet50': give timm/NAME"),
    ],
)
def test_a_wrong_backbone(backbone, sentence, checkpoints):
    with pytest.raises(CheckpointError, match=sentence):
        load_model(checkpoints["vit"], backbone)


def test_files_that_are_no_checkpoints(tmp_path):
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    (tmp_path / "empty.pt").touch()
    for name in ("text.pt", "text.safetensors", "empty.pt", "missing.pt", "."):
        with pytest.raises(CheckpointError, match=r"not a|no checkpoint"):
            load_model(tmp_path / name)


class Hostile:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def test_nothing_in_a_checkpoint_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="for safety"):
        load_model(saved({"weight": Hostile()}, tmp_path / "gl.pt"))
    assert not Path("executed").exists()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "pickle"])
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_checkpoint_is_a_sentence(zipped, data, tmp_path):
    """Whatever torch.load raises; many types, seen by changing bytes."""
    buffer = io.BytesIO()
    state = {"global_model.weight": torch.ones(3, 4), "attention.0.weight": torch.ones(2)}
    torch.save(state, buffer, _use_new_zipfile_serialization=zipped)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "gl.pt").write_bytes(content)
    with suppress(CheckpointError):
        read_checkpoint(tmp_path / "gl.pt")
