"""``glass-calibrate``: a bundle that knows how many crops verdicts need."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from conftest import call, launch, refusal
from glass_edge.calibration.steadiness.rule import spend
from glass_edge.calibration.steadiness.sequences import measure_sequences
from glass_edge.runtime.bundle.manifest import MANIFEST_NAME
from glass_edge.runtime.engines.base import EngineOptions
from glass_edge.runtime.engines.registry import open_engine
from PIL import Image

from glass_edge import Bundle, BundleError, Detector, DetectorOptions

IMAGES, RISK = 12, 0.3


@pytest.fixture(scope="module")
def folder(photograph, tmp_path_factory):
    """Cuts of a photograph: as they are, and as negatives, which the network calls otherwise."""
    place = tmp_path_factory.mktemp("images")
    for number in range(IMAGES):
        cut = photograph.crop((300 * number, 200, 300 * number + 700, 800))
        kind = ("real", "fake")[number % 2]
        (place / kind).mkdir(exist_ok=True)
        picture = Image.eval(cut, lambda value: 255 - value) if kind == "fake" else cut
        picture.save(place / kind / f"{number:02d}.png")
    return place


@pytest.fixture(scope="module")
def made(vit_bundle, folder, tmp_path_factory):
    """What the command makes of labelled images, with its reports."""
    place = tmp_path_factory.mktemp("made")
    arguments = (folder, "-b", vit_bundle.path, "--risk", RISK, "--threshold-for", "accuracy")
    reports = ("--report", "r.json", "--report", "r.md", "--report", "r.png")
    done = call("glass-calibrate", place, *arguments, *reports)
    assert done.returncode == 0, done.stderr
    return place, done


@pytest.fixture(scope="module")
def bundle(made):
    return Bundle.open(made[0] / "vit.calibrated.glass")


def test_the_new_bundle_is_the_old_one_with_a_rule(bundle, vit_bundle):
    changed = msgspec.structs.replace(bundle.manifest, stopping=None, scores=None)
    assert changed == vit_bundle.manifest
    assert bundle.graphs_digest == vit_bundle.graphs_digest
    rule = bundle.manifest.stopping
    assert rule.images == IMAGES
    assert rule.bound <= rule.risk == RISK
    assert rule.steps == (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
    assert "Stopping rule" in (bundle.path / "MODEL_CARD.md").read_text()


def test_a_run_spends_what_the_calibration_counted(bundle, folder):
    paths = sorted(map(str, folder.rglob("*.png")))
    verdicts = Detector(bundle, DetectorOptions(crops="auto")).detect(paths)
    rule = bundle.manifest.stopping
    assert np.mean([len(verdict.crops) for verdict in verdicts]) == pytest.approx(rule.mean_crops)


def test_margins_after_each_step_are_those_of_runs_with_as_many_crops(vit_bundle, folder):
    paths = sorted(map(str, folder.rglob("*.png")))[:3]
    engine = open_engine(vit_bundle, "onnxruntime", EngineOptions())
    found = measure_sequences(paths, engine, vit_bundle.manifest, (1, 2, 4, 8), seeds=2)
    assert (found.margins.shape, found.places.tolist()) == ((3, 2, 4), [[8, 8]] * 3)
    for seed in (0, 1):
        for column, crops in enumerate((1, 2, 4)):
            detector = Detector(vit_bundle, DetectorOptions(crops=crops, seed=seed))
            for image, verdict in enumerate(detector.detect(paths)):
                margin = verdict.logits["fake"] - verdict.logits["real"]
                assert found.margins[image, seed, column] == pytest.approx(margin, abs=1e-4)


def test_scores_and_threshold_are_the_bundles_own_from_then_on(made, bundle, vit_bundle, folder):
    scores = bundle.manifest.scores
    assert bundle.manifest.stopping.threshold == scores.threshold
    paths = sorted(map(str, folder.rglob("*.png")))
    for plain, verdict in zip(
        Detector(vit_bundle).detect(paths), Detector(bundle).detect(paths), strict=True
    ):
        assert verdict.logits == plain.logits
        margin = (plain.logits["fake"] - plain.logits["real"]) / scores.temperature
        assert verdict.score == pytest.approx(1 / (1 + np.exp(-margin)), abs=1e-6)
        assert verdict.verdict == ("fake" if verdict.score >= scores.threshold else "real")
    assert "All of it on the same 12 images that it was fitted on" in made[1].stdout


def test_reports_say_what_was_found(made, bundle):
    place, done = made
    report = json.loads((place / "r.json").read_bytes())
    assert report["stopping"] == json.loads(msgspec.json.encode(bundle.manifest.stopping))
    assert report["labels"] == {"fake": 6, "real": 6}
    text = (place / "r.md").read_text()
    assert text.startswith("# Calibration\n\n`glass-calibrate ")
    assert "| the rule " in text
    with Image.open(place / "r.png") as picture:
        assert min(picture.size) > 500
    for line in ("images", "rule", "risk", "compare", "scores", "bundle"):
        assert f"\n{line} " in done.stdout


def test_without_class_folders_no_labels_are_needed(vit_bundle, folder, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in folder.rglob("*.png"):
        shutil.copy(path, flat)
    done = call("glass-calibrate", tmp_path, flat, "-b", vit_bundle.path, "--risk", RISK, "-o", "x")
    assert done.returncode == 0, done.stderr
    manifest = Bundle.open(tmp_path / "x").manifest
    assert manifest.scores is None
    assert (manifest.threshold, manifest.stopping.threshold) == (0.5, 0.5)


def test_the_rule_is_made_for_the_settled_verdict_of_the_sequence(bundle, folder):
    paths = sorted(map(str, folder.rglob("*.png")))
    engine = open_engine(bundle, "onnxruntime", EngineOptions())
    rule = bundle.manifest.stopping
    found = measure_sequences(paths, engine, bundle.manifest, (*rule.steps, 48, 64))
    border = bundle.manifest.temperature * np.log(rule.threshold / (1 - rule.threshold))
    spent = spend(found, rule.steps, rule.taus, border)
    differ = (spent.margins >= border) != (found.settled >= border)
    assert (differ.sum(), spent.crops.mean()) == (rule.unlike, pytest.approx(rule.mean_crops))


class TestItIsOneSentence:
    def refused(self, place, *arguments):
        done = call("glass-calibrate", place, *arguments)
        assert done.returncode in (1, 2), done.stderr
        assert "Traceback" not in done.stderr
        assert not list(place.glob("*.glass"))
        return " ".join(done.stderr.split())

    def test_too_few_images(self, vit_bundle, folder, tmp_path):
        said = self.refused(tmp_path, folder, "-b", vit_bundle.path)
        assert "12 different images cannot show that a risk of 0.01 is kept: at least 299" in said
        assert "(0.22 can be shown with these)" in said

    @pytest.mark.slow
    def test_copies_of_one_image(self, vit_bundle, photograph, tmp_path):
        (tmp_path / "copies").mkdir()
        small = photograph.resize((300, 300))
        for number in range(60):
            small.save(tmp_path / "copies" / f"{number}.png")
        arguments = (tmp_path / "copies", "-b", vit_bundle.path, "--risk", "0.05")
        assert "1 different images cannot show" in self.refused(tmp_path, *arguments)

    def test_one_class_only(self, vit_bundle, folder, tmp_path):
        shutil.copytree(folder / "fake", tmp_path / "images" / "fake")
        arguments = ("-b", vit_bundle.path, "--risk", RISK)
        said = self.refused(tmp_path, tmp_path / "images", *arguments)
        assert "there is no folder" in said
        assert "put the images of each class, fake and real" in said

    def test_images_that_all_get_one_verdict(self, vit_bundle, photograph, tmp_path):
        (tmp_path / "images").mkdir()
        for number in range(9):
            side = 240 + 10 * number
            photograph.resize((side, side)).save(tmp_path / "images" / f"{number}.png")
        arguments = (tmp_path / "images", "-b", vit_bundle.path, "--risk", RISK)
        assert "all 9 images are called" in self.refused(tmp_path, *arguments)

    def test_a_bundle_that_is_calibrated_already(self, bundle, folder, tmp_path):
        said = self.refused(tmp_path, folder, "-b", bundle.path, "--risk", RISK)
        assert "is calibrated already: name the bundle that it was made from" in said

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("--risk", "0"), "the risk must be between 0 and 1, not 0: no number of images"),
            (("--risk", "1.5"), "the risk must be between 0 and 1"),
            (("--most-crops", "1"), "the most crops must be between 2 and 1024, not 1"),
            (("--threshold-for", "accurate"), "Did you mean accuracy?"),
            (("-o", "report.md"), "give --report report.md for a report"),
            (("--report", "report.pdf"), "cannot tell the format of report.pdf"),
        ],
    )
    def test_wrong_options(self, arguments, words, vit_bundle, folder, tmp_path):
        assert words in self.refused(tmp_path, folder, "-b", vit_bundle.path, *arguments)

    def test_a_threshold_without_labels(self, vit_bundle, folder, tmp_path):
        arguments = ("-b", vit_bundle.path, "--risk", "0.5", "--threshold-for", "accuracy")
        said = self.refused(tmp_path, folder / "real", *arguments)
        assert "a threshold for accuracy is chosen on labelled images" in said

    def test_a_folder_that_is_not_there(self, vit_bundle, folder, tmp_path):
        said = refusal(call("glass-calibrate", tmp_path, f"{folder}s", "-b", vit_bundle.path))
        assert "Did you mean" in said


def test_a_lower_precision_of_a_calibrated_bundle_is_not_calibrated(bundle, tmp_path):
    """Its numbers are others."""
    done = call("glass-quantize", tmp_path, bundle.path, "--precision", "fp16", "-o", "x.glass")
    assert done.returncode == 0, done.stderr
    manifest = Bundle.open(tmp_path / "x.glass").manifest
    assert (manifest.stopping, manifest.scores) == (None, None)
    assert "calibrate the new bundle" in done.stderr


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"taus": (1.0,)}, "10 steps and 1 taus"),
        ({"steps": (1, 2, 3, 4, 6, 8, 12, 16, 32, 24)}, "steps that do not rise"),
        ({"taus": (-1.0,) * 10}, "does not fit its schema"),
        ({"threshold": 1.0}, "does not fit its schema"),
        ({"settled_crops": 16}, "32 crops, and 16 for the settled verdict"),
        ({"unlike": 13}, "13 different verdicts of 12 images"),
        ({"threshold": 0.25}, "a stopping rule for a threshold of 0.25, and calls an image fake"),
    ],
)
def test_a_rule_that_contradicts_itself(changes, words, bundle, tmp_path):
    shutil.copytree(bundle.path, tmp_path / "x.glass")
    rule = msgspec.structs.replace(bundle.manifest.stopping, **changes)
    manifest = msgspec.structs.replace(bundle.manifest, stopping=rule)
    (tmp_path / "x.glass" / MANIFEST_NAME).write_bytes(manifest.encode())
    with pytest.raises(BundleError, match=words):
        Bundle.open(tmp_path / "x.glass")


def test_help_has_examples_and_loads_nothing_heavy(tmp_path):
    block = "import sys; sys.modules['scipy'] = sys.modules['sklearn'] = None"
    (Path(tmp_path) / "sitecustomize.py").write_text(block)
    done = launch("glass-calibrate", tmp_path, "--help", env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert "glass-calibrate photographs/" in done.stdout
