"""Views are as large and normalised as the network was trained with: timm's way, or the user's.

Expected values come from torchvision's transforms and timm's own model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
import timm
import torch
from glass_edge.export.errors import CheckpointError, ParityError
from glass_edge.export.exporter import export_bundle
from glass_edge.export.loading import load_model
from glass_edge.export.model import Glass
from glass_edge.export.options import ExportOptions
from glass_edge.export.parity import measure_parity
from glass_edge.runtime.bundle.manifest import Normalisation
from networks import detector_of
from PIL import Image
from timm.models import register_model
from torchvision.transforms import v2

from glass_edge import Bundle, Detector, DetectorOptions, InputError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
OTHERS = ((0.2, 0.4, 0.6), (0.3, 0.2, 0.1))


@dataclass(frozen=True)
class Case:
    """A timm network, and what its views are by timm's configuration."""

    name: str
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


SMALL = Case("test_vit", 160, *HALVES)  # timm's own test network, for views of this size only
FULL = (
    Case("vit_small_patch14_dinov2_of_two_blocks", 518, *IMAGENET),
    Case("swinv2_tiny_window8_256", 256, *IMAGENET),
    Case("vit_tiny_patch16_224.augreg_in21k_ft_in1k", 224, *HALVES),
)


@register_model
def vit_small_patch14_dinov2_of_two_blocks(pretrained=False, **options) -> torch.nn.Module:
    """timm's, of which ten blocks would take minutes and show no more."""
    return timm.create_model("vit_small_patch14_dinov2", pretrained, depth=2, **options)


def random_glass(name: str, **options) -> Glass:
    """Random weights; blocks and logits have as much of the views as training gives them."""
    torch.manual_seed(0)
    one, other = (timm.create_model(name, num_classes=0, **options) for _ in range(2))
    model = Glass(one, other, one.num_features)
    torch.nn.init.normal_(model.classifier[-1].weight)
    for key, parameter in model.named_parameters():
        if key.endswith("gamma"):
            torch.nn.init.uniform_(parameter, 0.2, 1.0)
    return model.eval()


def export(model: Glass, folder: Path, backbone: str, **options) -> Bundle:
    torch.save(model.state_dict(), folder / "gl.pt")
    asked = ExportOptions(backbone=f"timm/{backbone}", crops=1, **options)
    return export_bundle(folder / "gl.pt", folder / "gl.glass", asked)


@torch.inference_mode()
def expected(model: Glass, picture: Image.Image, mean, std) -> torch.Tensor:
    """The logits of a picture that is one crop, and its own global view."""
    to_view = v2.Compose(
        [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
    )
    view = to_view(picture)[None]
    return model(view, view[:, None])[0][0]


def found(bundle: Bundle, picture: Image.Image, path: Path) -> torch.Tensor:
    picture.save(path)
    (verdict,) = Detector(bundle, DetectorOptions(engine="onnxruntime")).detect([path])
    return torch.tensor([verdict.logits[name] for name in bundle.manifest.classes])


def square(photograph: Image.Image, side: int) -> Image.Image:
    return photograph.resize((side, side), Image.Resampling.LANCZOS)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> tuple[Glass, Bundle]:
    model = random_glass(SMALL.name)
    return model, export(model, tmp_path_factory.mktemp("small"), SMALL.name)


def test_timms_configuration_is_the_default(small, photograph, tmp_path):
    check(SMALL, *small, photograph, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", FULL, ids=lambda case: case.name)
def test_timms_configuration_is_the_default_of_full_networks(case, photograph, tmp_path):
    model = random_glass(case.name)
    check(case, model, export(model, tmp_path, case.name), photograph, tmp_path)


def check(case: Case, model: Glass, bundle: Bundle, photograph: Image.Image, folder: Path) -> None:
    manifest = bundle.manifest
    assert manifest.views.crop_size == case.side
    source = f"timm's configuration of {case.name}"
    assert manifest.normalisation == Normalisation(case.mean, case.std, source)
    picture = square(photograph, case.side)
    logits = found(bundle, picture, folder / "picture.png")
    torch.testing.assert_close(
        logits, expected(model, picture, case.mean, case.std), rtol=1e-4, atol=1e-4
    )
    otherwise = HALVES if (case.mean, case.std) == IMAGENET else IMAGENET
    assert (logits - expected(model, picture, *otherwise)).abs().max() > 1e-2


@pytest.mark.slow
def test_the_users_size_and_normalisation_come_first(photograph, tmp_path):
    model = random_glass("test_convnext")
    normalisation = Normalisation(*OTHERS, "the user's")
    bundle = export(model, tmp_path, "test_convnext", crop_size=96, normalisation=normalisation)
    assert bundle.manifest.normalisation == normalisation
    assert bundle.manifest.views.crop_size == 96
    picture = square(photograph, 96)
    torch.testing.assert_close(
        found(bundle, picture, tmp_path / "picture.png"),
        expected(model, picture, *OTHERS),
        rtol=1e-4,
        atol=1e-4,
    )


def test_a_network_for_one_size_is_built_for_the_size_that_it_was_trained_at(tmp_path):
    """Its position embedding says which; the checkpoint does not."""
    torch.save(random_glass("test_vit", img_size=96).state_dict(), tmp_path / "gl.pt")
    loaded = load_model(tmp_path / "gl.pt", "timm/test_vit", 96)
    assert loaded.recipe.crop_size == 96
    with pytest.raises(CheckpointError, match=r"for views of 160x160 .*pos_embed.*--crop-size"):
        load_model(tmp_path / "gl.pt", "timm/test_vit")


def test_the_gate_compares_with_the_normalisation_of_the_manifest(small):
    model, bundle = small
    other = msgspec.structs.replace(
        bundle.manifest, normalisation=Normalisation(*IMAGENET, "the paper's")
    )
    with pytest.raises(ParityError, match="do not agree with PyTorch"):
        measure_parity(detector_of(model), Bundle(bundle.path, other, bundle.digest))


@pytest.mark.parametrize("family", ["convnext", "resnet"])
def test_networks_for_any_size_take_the_one_asked_for(family, checkpoints):
    assert load_model(checkpoints[family], crop_size=96).recipe.crop_size == 96


def test_torchvisions_networks_have_the_papers_normalisation(vit_bundle):
    assert vit_bundle.manifest.normalisation == Normalisation(*IMAGENET, "the paper's")


@pytest.mark.parametrize(
    ("backbone", "crop_size", "sentence"),
    [
        ("auto", 96, r"takes views of 224x224 only.*leave --crop-size 96 out"),
        ("timm/vit_base_patch16_sapiens2", None, r"takes views of 1024x768.*--crop-size"),
        ("timm/test_vit.nothing", None, r"no configuration 'test_vit\.nothing': it has test_vit\."),
    ],
)
def test_views_that_a_backbone_does_not_take(backbone, crop_size, sentence, checkpoints):
    with pytest.raises(CheckpointError, match=sentence):
        load_model(checkpoints["vit"], backbone, crop_size)


@pytest.mark.parametrize(("name", "crop_size"), [("test_convnext", 8), ("test_vit", 8)])
def test_a_size_that_is_too_small_is_a_sentence(name, crop_size, tmp_path):
    torch.save(random_glass(name).state_dict(), tmp_path / "gl.pt")
    with pytest.raises(CheckpointError, match=r"8x8.*--crop-size") as raised:
        load_model(tmp_path / "gl.pt", f"timm/{name}", crop_size)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"crops": 0}, "number of crops must be at least 1 and at most 1024, not 0"),
        ({"crops": 2_000_000}, "at most 1024, not 2000000"),
        ({"crop_size": 4096}, "crop size must be at least 1 and at most 2048, not 4096"),
        ({"normalisation": ((123.675, 116.28, 103.53), (58.4, 57.1, 57.4))}, "divide by 255"),
        ({"normalisation": ((0.5, 0.5, 0.5), (0.5, 0.0, 0.5))}, "no deviation is 0"),
        ({"normalisation": ((float("nan"), 0.5, 0.5), (0.5, 0.5, 0.5))}, "between 0 and 1"),
    ],
)
def test_numbers_that_cannot_be_meant(options, sentence):
    if values := options.get("normalisation"):
        options = {"normalisation": Normalisation(*values, "the user's")}
    with pytest.raises(InputError, match=sentence):
        ExportOptions(**options)
