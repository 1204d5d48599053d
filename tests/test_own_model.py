"""A network that keys cannot tell from torchvision's is found out by its own model's logits."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import EXAMPLES, ROOT, call, refusal
from glass_edge.export.errors import ParityError
from glass_edge.export.exporter import export_bundle
from glass_edge.export.model import Glass
from glass_edge.export.options import ExportOptions
from glass_edge.export.own_model import read_own_logits
from glass_edge.export.paper import glass_views
from glass_edge.export.parity import TOLERANCE
from networks import random_glass
from random_checkpoints import as_if_trained
from torch import nn
from torchvision.models import ResNet
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.transforms import v2

from glass_edge import Bundle, InputError

IMAGENET = v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALVES = v2.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def basic() -> ResNet:
    return ResNet(BasicBlock, [1, 1, 1, 1])


def without_downsampling() -> ResNet:
    """As several public detectors of generated images have it."""
    model = basic()
    model.conv1.stride, model.maxpool = (1, 1), nn.Identity()
    return model


def dilated() -> ResNet:
    return ResNet(Bottleneck, [1, 1, 1, 1], replace_stride_with_dilation=[False, True, True])


def glass(build: Callable[[], ResNet]) -> Glass:
    torch.manual_seed(0)
    backbones = build(), build()
    features = backbones[0].fc.in_features
    for backbone in backbones:
        backbone.fc = nn.Identity()
    return as_if_trained(Glass(*backbones, features)).eval()


@pytest.fixture
def place(tmp_path) -> Path:
    """Where the training's photographs lie."""
    for name, path in zip("abc", sorted(EXAMPLES.rglob("*.jpg")), strict=False):
        (tmp_path / f"{name}.jpg").symlink_to(path)
    return tmp_path


def write_reference(place: Path, model: nn.Module, normalise: Callable, monkeypatch) -> Path:
    """Run the docs page's code where the training would."""
    page = (ROOT / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(place)
    exec(code, {"model": model, "normalise": normalise})
    return place / "reference.npz"


def test_the_users_own_model_is_met_and_recorded_in_its_own_normalisation_only(place, monkeypatch):
    model = random_glass("vit")
    torch.save(model.state_dict(), place / "gl.pt")
    reference = write_reference(place, model, HALVES, monkeypatch)
    arguments = ("gl.pt", "--reference", "reference.npz")
    done = call("glass-export", place, *arguments)
    assert done.returncode == 1
    assert "and the normalisation (mean 0.485, 0.456, 0.406" in " ".join(done.stderr.split())
    assert not (place / "gl.glass").exists()
    halves = ("--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5")
    done = call("glass-export", place, *arguments, *halves)
    assert done.returncode == 0, done.stderr
    assert "own model   largest difference to reference.npz in any logit" in done.stdout
    found = Bundle.open(place / "gl.glass").manifest.own_model
    digest = hashlib.sha256(reference.read_bytes()).hexdigest()
    assert (found.file, found.sha256, found.inputs) == ("reference.npz", digest, 3)
    assert 0 < found.logit_error <= TOLERANCE
    card = (place / "gl.glass" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"in any logit of 3 inputs (reference.npz, SHA-256 {digest})" in card


@pytest.mark.slow
@pytest.mark.parametrize("build", [without_downsampling, dilated])
def test_a_network_that_keys_cannot_tell_passes_parity_and_fails_its_reference(
    build, place, monkeypatch
):
    model = glass(build)
    torch.save(model.state_dict(), place / "gl.pt")
    done = call("glass-export", place, "gl.pt", "-o", "unproved.glass")
    assert done.returncode == 0, done.stderr
    assert "own model   not compared: parity is with a PyTorch model rebuilt from" in done.stdout
    assert Bundle.open(place / "unproved.glass").manifest.own_model is None
    options = ExportOptions(reference=write_reference(place, model, IMAGENET, monkeypatch))
    with pytest.raises(ParityError, match=r"differ by \d.*torchvision ResNet.*strides, dil"):
        export_bundle(place / "gl.pt", place / "gl.glass", options)
    assert not (place / "gl.glass").exists()


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "overviews": rng.uniform(0, 255, (2, 32, 32, 3)).astype(np.float32),
        "crops": rng.integers(0, 256, (2, 3, 32, 32, 3), dtype=np.uint8),
        "logits": rng.normal(size=(2, 2)).astype(np.float32),
    }


SPOILED = {
    "an array less": (lambda a: a.pop("crops"), "holds no array crops"),
    "other shape": (lambda a: a.update(logits=a["logits"][:, :1]), r"logits .*shape \(2, 1\)"),
    "other size": (lambda a: a.update(crops=a["crops"][..., :16, :, :]), r"p = 32, the bundle's"),
    "channels first": (
        lambda a: a.update(overviews=a["overviews"].transpose(0, 3, 1, 2)),
        r"overviews .*\(2, 3, 32, 32\).*\(n, p, p, 3\) is needed",
    ),
    "fewer crops' images": (lambda a: a.update(crops=a["crops"][:1]), "same n in all arrays"),
    "a number": (lambda a: a.update(overviews=np.float32(3)), r"the shape \(\)"),
    "no inputs": (lambda a: a.update({k: v[:0] for k, v in a.items()}), "holds 0 inputs"),
    "no crops": (lambda a: a.update(crops=a["crops"][:, :0]), "of 0 crops"),
    "very many": (
        lambda a: a.update({k: np.repeat(v, 40, axis=0) for k, v in a.items()}),
        "holds 80 inputs",
    ),
    "other types": (
        lambda a: a.update(crops=a["crops"].astype(np.float32)),
        r"the crops of .* are float32: uint8 is needed",
    ),
    "other types of the others": (
        lambda a: a.update(overviews=a["overviews"].astype(np.uint8)),
        r"the overviews of .* are uint8: float32 is needed",
    ),
    "integers for logits": (
        lambda a: a.update(logits=np.ones((2, 2), int)),
        "logits of .* are int64",
    ),
    "not finite": (lambda a: a["logits"].__setitem__(0, np.nan), "not finite"),
    "scaled to 1": (lambda a: a.update(overviews=a["overviews"] / 255), "before scaling"),
    "normalised": (lambda a: a.update(overviews=a["overviews"] - 100), "before scaling"),
    "objects": (lambda a: a.update(logits=np.array([[{}, {}], [{}, {}]])), "cannot be read"),
}


class TestAFileThatIsNoReference:
    @pytest.mark.parametrize("spoiled", SPOILED)
    def test_says_what_is_wrong(self, spoiled, tmp_path):
        spoil, sentence = SPOILED[spoiled]
        content = arrays()
        spoil(content)
        np.savez(tmp_path / "reference.npz", **content)
        with pytest.raises(InputError, match=sentence) as raised:
            read_own_logits(tmp_path / "reference.npz", glass_views(32, 3))
        assert "\n" not in str(raised.value)

    @pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY\x01\x00", b"PK\x03\x04"])
    def test_is_not_read(self, content, tmp_path):
        (tmp_path / "reference.npz").write_bytes(content)
        with pytest.raises(InputError, match=r"cannot be read as an \.npz file"):
            read_own_logits(tmp_path / "reference.npz", glass_views(32, 3))

    @pytest.mark.slow
    def test_may_not_unpack_to_what_memory_cannot_hold(self, tmp_path):
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 31,)}
        )
        path = tmp_path / "reference.npz"
        with (
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open("overviews.npy", "w", force_zip64=True) as file,
        ):
            file.write(header.getvalue())
            for _ in range(1025):
                file.write(bytes(1 << 20))
        with pytest.raises(InputError, match="larger than 1 GiB"):
            read_own_logits(tmp_path / "reference.npz", glass_views(32, 3))

    def test_ends_the_export_before_its_minutes_of_work(self, checkpoints, place):
        arguments = (checkpoints["vit"], "--reference", "missing.npz")
        assert "there is no file missing.npz" in refusal(call("glass-export", place, *arguments))
        assert not (place / "gl_vit.glass").exists()


def test_a_header_that_claims_more_than_the_file_holds_is_an_error(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 2)}
    )
    with zipfile.ZipFile(tmp_path / "reference.npz", "w") as archive:
        archive.writestr("overviews.npy", header.getvalue())
    with pytest.raises(InputError, match=r"cannot be read as an \.npz file"):
        read_own_logits(tmp_path / "reference.npz", glass_views(32, 3))
