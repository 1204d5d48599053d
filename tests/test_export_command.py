"""glass-export as a user meets it."""

from __future__ import annotations

import shutil
import sys
from functools import partial
from pathlib import Path

import msgspec
import pytest
import torch
from conftest import call, launch, refusal
from glass_edge.export.summary import summarise
from glass_edge.runtime.bundle.comparison import Comparison, Yardstick
from glass_edge.runtime.bundle.manifest import Normalisation
from networks import TIMM_CONVNEXT, timm_convnext

from glass_edge import Bundle

run = partial(call, "glass-export")


@pytest.fixture
def place(tmp_path, checkpoints) -> Path:
    shutil.copy(checkpoints["vit"], tmp_path)
    return tmp_path


def test_the_only_checkpoint_here_needs_no_name(place, vit_bundle):
    done = run(place, "--precision", "fp32")
    assert done.returncode == 0, done.stderr
    for word in ("checkpoint", "detector", "backbone", "views", "classes", "parity", "bundle"):
        assert f"\n{word} " in "\n" + done.stdout
    assert "largest difference to PyTorch in any logit" in done.stdout
    lines = done.stdout.splitlines()
    assert "detector    GLASS, preset paper (arXiv 2601.00141)" in lines
    assert (
        "views       global: the whole image (resized to 224x224 by torch-float-antialias); "
        "local: 10 crops of 224x224"
    ) in lines
    assert "classes     fake, real (fake means AI-generated; the paper's)" in lines
    (backbone,) = (line for line in lines if line.startswith("backbone "))
    assert backbone.endswith(", 128 features")
    bundle = Bundle.open(place / "gl_vit.glass")
    assert bundle.manifest.views.num_crops == 10
    assert_exported_alike(bundle, vit_bundle)
    assert "--force" in refusal(run(place))


def assert_exported_alike(bundle: Bundle, other: Bundle) -> None:
    """But for what was measured: a busy machine divides sums among its threads otherwise."""
    assert bundle.graphs_digest == other.graphs_digest
    measured = {"parity": other.manifest.parity, "reference": other.manifest.reference}
    assert msgspec.structs.replace(bundle.manifest, **measured) == other.manifest


@pytest.mark.slow  # the README's demo exports one, too
def test_a_timm_backbone_and_other_classes(tmp_path):
    torch.save(timm_convnext().state_dict(), tmp_path / "mine.pt")
    done = run(
        tmp_path, "mine.pt", "--backbone", f"timm/{TIMM_CONVNEXT}", "--crops", "4",
        "--classes", "photo,made", "--fake-class", "made", "-o", "mine.glass",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    manifest = Bundle.open(tmp_path / "mine.glass").manifest
    assert manifest.backbone.name == f"timm/{TIMM_CONVNEXT}"
    assert (manifest.views.num_crops, manifest.classes) == (4, ("photo", "made"))
    said = "classes     photo, made (made means AI-generated; the user's)"
    assert said in done.stdout.splitlines()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["missing.pt"], "there is no checkpoint missing.pt"),
        (["gl_vit.pt", "--backbone", "timm/resnet18"], "does not fit timm/resnet18"),
        (["gl_vit.pt", "--precision", "fp7"], "'fp7' is not one of 'fp32', 'fp16'"),
        (["gl_vit.pt", "--precison", "fp32"], "--precision"),
        (["gl_vit.pt", "--precision", "int8"], "name their folder with --calibrate"),
        (["gl_vit.pt", "--precision", "int8", "--calibrate", "."], "holds no image"),
        (["gl_vit.pt", "--precision", "int8", "--int8-budget", "2"], "must lie between 0 and 1"),
        (["gl_vit.pt", "--precision", "int8", "--calibration-images", "0"], "at least 1"),
        (
            ["gl_vit.pt", "--calibrate", "."],
            "--calibrate means nothing with --precision",
        ),
        (
            ["gl_vit.pt", "--precision", "int8", "--calibrate", "nowhere"],
            "'nowhere' does not exist",
        ),
        (["gl_vit.pt", "--judgements", "200"], "or choose fp16 or bf16 or int8"),
        (
            ["gl_vit.pt", "--precision", "fp16", "--int8-budget", "0.75"],
            "--int8-budget means nothing with --precision fp16: leave it out, or choose int8.",
        ),
        (
            ["gl_vit.pt", "--precision", "int8", "--calibration-method", "auto"],
            "--calibration-method is gone: ranges are always clipped where the squared error is",
        ),
        (["gl_vit.pt", "--classes", "fake"], "two names separated by a comma"),
        (["gl_vit.pt", "--fake-class", "generated"], "not among the classes"),
        (["gl_vit.pt", "-o", "nowhere/gl_vit.glass"], "folder nowhere does not exist"),
        (["gl_vit.pt", "--crops", "0"], "at least 1"),
        (["gl_vit.pt", "--crops", "2000000"], "at most 1024, not 2000000"),
        (["gl_vit.pt", "--crop-size", "4096"], "at most 2048, not 4096"),
        (["gl_vit.pt", "--crop-size", "96"], "takes views of 224x224 only"),
        (["gl_vit.pt", "--mean", "0.5,0.5,0.5"], "--mean and --std belong together"),
        (["gl_vit.pt", "--mean", "0.5,0.5", "--std", "1,1,1"], "three numbers separated by commas"),
        (["gl_vit.pt", "--mean", "123,116,103", "--std", "58,57,57"], "divide by 255"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(arguments, sentence, place):
    assert sentence in refusal(run(place, *arguments))
    assert [path.name for path in place.iterdir()] == ["gl_vit.pt"]


def test_no_checkpoint_here(tmp_path):
    assert "should hold one gl_*.pt" in refusal(launch("glass-export", tmp_path))


def test_what_timm_does_unlike_the_paper_is_noted(vit_bundle, capsys):
    """Nothing fails where the training did otherwise, so the user must know."""
    timms = "timm's configuration of test_vit"
    for source, noted in ((timms, True), ("the user's", False)):
        normalisation = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), source)
        manifest = msgspec.structs.replace(vit_bundle.manifest, normalisation=normalisation)
        summarise(Path("gl_vit.pt"), Bundle(vit_bundle.path, manifest, vit_bundle.digest))
        shown = capsys.readouterr()
        deviation = "standard deviation 0.5, 0.5, 0.5"
        assert f"normalised  mean 0.5, 0.5, 0.5, {deviation} ({source})" in shown.out
        assert ("not the paper's" in shown.err) == noted


def test_a_loss_of_speed_is_seen(vit_bundle, capsys):
    comparison = Comparison(
        engine="openvino 2026.1 cpu",
        precision="int8",
        images=5,
        judgements=200,
        flips=0,
        mean_change=0.001,
        largest_change=0.01,
        speed=0.97,
        yardstick=Yardstick(0.4, "draws", 0.03, 0.34, 0.02),
    )
    manifest = msgspec.structs.replace(vit_bundle.manifest, precision="int8", comparison=comparison)
    summarise(Path("gl_vit.pt"), Bundle(vit_bundle.path, manifest, vit_bundle.digest))
    shown = capsys.readouterr()
    assert "0.97 times FP32's speed (openvino 2026.1 cpu)" in shown.out
    assert "INT8 adds 5.6 % to the noise that the choice of crops has anyway" in shown.out
    assert "INT8's error is 0.34 of the draws' noise, above the 0.25" in shown.err
    assert "int8 does not pay here: it runs at 0.97 times FP32's speed" in shown.err


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, which not even root may write")
def test_a_folder_that_cannot_be_written(place):
    assert "cannot be written" in refusal(run(place, "-o", "/proc/gl_vit.glass"))
