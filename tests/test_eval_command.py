"""glass-eval: metrics that others can recompute, on the same crops for every bundle."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from conftest import EXAMPLES, call, launch, refusal
from glass_edge.benchmarks.evaluation.measure import common_views, score_metrics
from glass_edge.benchmarks.evaluation.report import EvaluationReport
from glass_edge.calibration.steadiness.images import labelled_images
from glass_edge.calibration.steadiness.reliability import (
    expected_calibration_error,
    reliability_bins,
)
from glass_edge.runtime.machine.errors import InputError
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn import metrics as sk

from glass_edge import Bundle, Detector, DetectorOptions

run = partial(call, "glass-eval")
ENGINE = ("--engine", "onnxruntime")
IMAGES = sorted(map(str, EXAMPLES.glob("*/*.jpg")))
SEEDS, CROPS, BATCH = 2, 3, 5
THRESHOLD = 0.53  # near the scores of the random networks


def evaluated(place: Path, *arguments: str | Path) -> EvaluationReport:
    done = run(place, *arguments, *ENGINE, "-o", "report.json", "--force")
    assert done.returncode == 0, done.stderr
    return msgspec.json.decode((place / "report.json").read_bytes(), type=EvaluationReport)


def refused(place: Path, *arguments: str | Path) -> str:
    return refusal(run(place, *arguments))


@pytest.fixture(scope="module")
def bundles(export_family: Callable[[str], Bundle]) -> tuple[Bundle, Bundle, Bundle]:
    """A bundle, another one, and the first again."""
    vit, convnext = export_family("vit"), export_family("convnext")
    return vit, convnext, vit


@pytest.fixture(scope="module")
def place(tmp_path_factory, bundles) -> Path:
    """A working directory with the files of one evaluation."""
    place = tmp_path_factory.mktemp("evaluation")
    named = [argument for bundle in bundles for argument in ("-b", bundle.path)]
    outputs = ["-o", "report.json", "-o", "report.md", "-o", "reliability.png"]
    done = launch(
        "glass-eval", place, EXAMPLES, *named, *ENGINE, *outputs, "--seeds", SEEDS,
        "--crops", CROPS, "--batch-size", BATCH, "--threshold", THRESHOLD,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (place / "screen").write_text(done.stdout)
    return place


@pytest.fixture(scope="module")
def report(place) -> EvaluationReport:
    return msgspec.json.decode((place / "report.json").read_bytes(), type=EvaluationReport)


@pytest.fixture
def images(tmp_path) -> Path:
    """Two labelled images of each class, in folders that may be changed."""
    for name in ("fake", "real"):
        (tmp_path / "images" / name / "deeper").mkdir(parents=True)
        for image in ("cat", "rocket"):
            shutil.copy(EXAMPLES / name / f"{image}.jpg", tmp_path / "images" / name / "deeper")
    return tmp_path / "images"


@pytest.fixture
def changed(copied_bundle) -> Callable[..., Path]:
    """Change fields of the manifest of a copied bundle."""

    def change(**fields: object) -> Path:
        path = copied_bundle / "glass.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))
        return copied_bundle

    return change


def truth(report: EvaluationReport) -> list[str]:
    return [judgement.class_ for judgement in report.judgements]


def scores(report: EvaluationReport, index: int) -> np.ndarray:
    return np.array([judgement.scores[index] for judgement in report.judgements])


def verdicts(report: EvaluationReport, index: int) -> list[str]:
    return ["fake" if score >= report.threshold else "real" for score in scores(report, index)]


def test_json_markdown_and_screen_come_from_one_object(place, report):
    assert report.to_markdown() == (place / "report.md").read_text()
    assert report.to_markdown() == (place / "screen").read_text()
    assert report.schema == 1
    assert report.command.startswith("glass-eval ")


def test_every_image_is_judged_once_for_each_seed(report):
    assert (report.images, report.unreadable) == ({"fake": 6, "real": 6}, ())
    found = [(judgement.path, judgement.seed) for judgement in report.judgements]
    assert found == [(path, seed) for seed in range(SEEDS) for path in IMAGES]
    assert all(Path(each.path).parent.name == each.class_ for each in report.judgements)


def test_scores_are_those_of_a_run(report, bundles):
    for index, bundle in enumerate(bundles):
        options = DetectorOptions(engine="onnxruntime", seed=1, crops=CROPS)
        expected = [verdict.score for verdict in Detector(bundle, options).detect(IMAGES)]
        found = [each.scores[index] for each in report.judgements if each.seed == 1]
        assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("index", [0, 1])
def test_metrics_are_those_of_scikit_learn(report, index):
    metrics, called = report.bundles[index].metrics, verdicts(report, index)
    f1, precision, recall = (
        function(truth(report), called, average="weighted", zero_division=0)
        for function in (sk.f1_score, sk.precision_score, sk.recall_score)
    )
    area = sk.roc_auc_score([name == "fake" for name in truth(report)], scores(report, index))
    assert metrics.accuracy == pytest.approx(sk.accuracy_score(truth(report), called))
    assert metrics.roc_auc == pytest.approx(area)
    assert (metrics.f1, metrics.precision, metrics.recall) == pytest.approx((f1, precision, recall))


@pytest.mark.parametrize("index", [0, 1])
def test_confidence_is_the_probability_of_the_class_called(report, index):
    by_outcome: dict[bool, list[float]] = {True: [], False: []}
    called = zip(truth(report), verdicts(report, index), scores(report, index), strict=True)
    for true, verdict, score in called:
        by_outcome[true == verdict].append(score if verdict == "fake" else 1 - score)
    metrics = report.bundles[index].metrics
    found = metrics.confidence_when_right, metrics.confidence_when_wrong
    for mean, values in zip(found, by_outcome.values(), strict=True):
        assert mean == (pytest.approx(np.mean(values)) if values else None)


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """The definition: sum over 15 bins of |right - confidence|, per judgement."""
    gaps = []
    for place in range(15):
        inside = (confidence > place / 15) & (confidence <= (place + 1) / 15)
        gaps.append(abs(right[inside].sum() - confidence[inside].sum()))
    return sum(gaps) / len(confidence)


@pytest.mark.parametrize("index", [0, 1])
def test_ece_is_its_definition(report, index):
    called = np.array(verdicts(report, index))
    confidence = np.where(called == "fake", scores(report, index), 1 - scores(report, index))
    expected = calibration_error(confidence, called == truth(report))
    assert report.bundles[index].metrics.ece == pytest.approx(expected)


@given(st.lists(st.tuples(st.floats(0, 1, exclude_min=True, width=32), st.booleans()), min_size=1))
def test_ece_is_its_definition_for_any_judgements(judgements):
    confidence, right = (np.array(column) for column in zip(*judgements, strict=True))
    bins = reliability_bins(confidence, right)
    assert sum(each.count for each in bins) == len(judgements)
    assert all(each.lower < each.confidence <= each.upper + 1e-12 for each in bins)
    expected = calibration_error(confidence, right)
    assert expected_calibration_error(bins) == pytest.approx(expected, abs=1e-9)


def test_a_confidence_of_nought_is_in_the_first_bin():
    (only,) = reliability_bins(np.array([0.0]), np.array([True]))
    assert (only.lower, only.count, expected_calibration_error([only])) == (0.0, 1, 1.0)


def test_metrics_of_judgements_worked_out_by_hand():
    """Two fakes, two real images; the second fake is called real."""
    metrics = score_metrics(np.array([1, 1, 0, 0], bool), np.array([0.9, 0.4, 0.3, 0.1]), 0.5)
    assert (metrics.accuracy, metrics.roc_auc, metrics.recall) == (0.75, 1.0, 0.75)
    assert metrics.precision == pytest.approx((1 + 2 / 3) / 2)
    assert metrics.f1 == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert metrics.confidence_when_right == pytest.approx((0.9 + 0.7 + 0.9) / 3)
    assert metrics.confidence_when_wrong == pytest.approx(0.6)
    assert metrics.ece == pytest.approx((2 * 0.1 + 0.3 + 0.6) / 4)


def test_the_same_bundle_again_changes_nothing(report):
    first, _, again = report.bundles
    assert (first.name, first.metrics) == (again.name, again.metrics)
    change = again.change
    assert (change.flips, change.flip_share) == (0, 0)
    assert (change.mean_change, change.largest_change) == (0, 0)


def test_another_bundle_is_compared_with_the_first(report):
    change = report.bundles[1].change
    flips = sum(a != b for a, b in zip(verdicts(report, 0), verdicts(report, 1), strict=True))
    differences = np.abs(scores(report, 0) - scores(report, 1))
    assert (change.flips, change.flip_share) == (flips, flips / len(differences))
    assert change.mean_change == pytest.approx(differences.mean())
    assert change.largest_change == differences.max()
    assert report.bundles[0].change is None


def test_each_bundle_says_what_it_is(report, bundles):
    for result, bundle in zip(report.bundles, bundles, strict=True):
        assert result.name == bundle.name
        assert result.size_bytes == sum(path.stat().st_size for path in bundle.path.iterdir())
        assert (result.bundle_precision, result.engine_precision) == ("fp32", "fp32")
        assert result.engine.startswith("onnxruntime ")


@pytest.mark.slow
def test_a_bundle_below_fp32_says_what_its_export_found(
    images, tmp_path, vit_bundle, make_precision
):
    low = make_precision("vit", "int8")
    manifest = json.loads((low.path / "glass.json").read_bytes())
    kept = {"global": ["first", "second"], "local": ["third"]}
    bundle = shutil.copytree(low.path, tmp_path / "int8.glass")
    (bundle / "glass.json").write_text(json.dumps(manifest | {"kept": kept}))
    report = evaluated(tmp_path, images, "-b", vit_bundle.path, "-b", bundle)
    full, ours = report.bundles
    assert (full.kept, full.gate) == (None, None)
    assert (ours.kept, ours.gate) == (3, low.manifest.comparison)
    rows = {cells[0]: cells[1:] for cells in table_cells(report)}
    gate = manifest["comparison"]
    assert rows["nodes kept higher"] == ["", "3"]
    assert rows["gate: verdicts unlike FP32's"] == ["", f"{gate['flips']} of {gate['judgements']}"]
    assert rows["gate: mean change of P(fake)"] == ["", f"{gate['mean_change']:.4f}"]
    assert rows["gate: largest change of P(fake)"] == ["", f"{gate['largest_change']:.4f}"]
    assert rows["gate: error, in draw noise"] == ["", f"{gate['yardstick']['error']:.2f}"]
    assert rows["gate: shift, in draw noise"] == ["", f"{gate['yardstick']['shift']:+.2f}"]


def table_cells(report: EvaluationReport) -> list[list[str]]:
    lines = report.table().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_speed_is_that_of_one_draw_and_leaves_out_the_first_batch(report):
    """A batch holds the crops of all seeds, and so fewer images."""
    at_once = BATCH // SEEDS
    assert report.timed_at_once == at_once
    assert f"up to {at_once} images at once" in report.to_markdown()
    for result in report.bundles:
        assert (result.speed.images, result.speed.warm) == (len(IMAGES) - at_once, True)
        expected = result.speed.images / result.speed.seconds
        assert result.speed.images_per_second == pytest.approx(expected)


def test_speed_says_when_there_was_one_batch_only(images, tmp_path, vit_bundle):
    report = evaluated(tmp_path, images, "-b", vit_bundle.path)
    assert (report.bundles[0].speed.images, report.bundles[0].speed.warm) == (4, False)
    assert "(first batch)" in report.table()


def test_the_plot_has_a_panel_for_each_bundle(place, report):
    content = (place / "reliability.png").read_bytes()
    sizes = []
    for results in (report.bundles, report.bundles[:1]):
        plot = msgspec.structs.replace(report, bundles=results).to_png()
        with Image.open(io.BytesIO(plot)) as image:
            sizes.append(image.size)
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "PNG"
        assert image.size == sizes[0] == (3 * sizes[1][0], sizes[1][1])


def test_unreadable_images_are_named(images, tmp_path, vit_bundle):
    (images / "fake" / "empty.jpg").touch()
    report = evaluated(tmp_path, images, "-b", vit_bundle.path, "--seeds", "2")
    assert report.images == {"fake": 2, "real": 2}
    (unreadable,) = report.unreadable
    assert unreadable.path == str(images / "fake" / "empty.jpg")
    assert "## 1 image not judged" in report.to_markdown()
    assert f"- {unreadable.path}: {unreadable.reason}" in report.to_markdown()
    assert len(report.judgements) == 8


def test_names_that_are_no_utf8_do_not_lose_the_report(images, tmp_path, vit_bundle):
    place = Path(os.fsdecode(os.fsencode(tmp_path) + b"/im\xe4ges"))
    images.rename(place)
    folder = place / "fake"
    (folder / os.fsdecode(b"empt\xff.jpg")).touch()
    (folder / "deeper" / "cat.jpg").rename(folder / os.fsdecode(b"c\xe9t.jpg"))
    bundle = tmp_path / "linked.glass"
    bundle.symlink_to(shutil.copytree(vit_bundle.path, place / os.fsdecode(b"\xfc.glass")))
    report = evaluated(tmp_path, place, "-b", bundle)
    base = rf"{tmp_path}/im\xe4ges"
    assert [each.path for each in report.unreadable] == [base + r"/fake/empt\xff.jpg"]
    assert base + r"/fake/c\xe9t.jpg" in [each.path for each in report.judgements]
    assert base in report.command
    assert report.bundles[0].name.startswith(r"\xfc.glass@")


def test_pillows_own_limit_of_179_million_pixels_gives_way(images, tmp_path, vit_bundle):
    only_a_header = b"P4 14000 13500\n"
    (images / "fake" / "cut.ppm").write_bytes(only_a_header)
    (unreadable,) = evaluated(tmp_path, images, "-b", vit_bundle.path).unreadable
    assert "truncated or damaged" in unreadable.reason


def test_a_class_without_a_readable_image_is_an_error(images, tmp_path, vit_bundle):
    shutil.rmtree(images / "real" / "deeper")
    (images / "real" / "empty.jpg").touch()
    sentence = refused(tmp_path, images, "-b", vit_bundle.path)
    assert "not one real image can be read" in sentence
    assert f"{images / 'real' / 'empty.jpg'}: " in sentence


def test_folders_have_the_names_of_the_classes(images, tmp_path, vit_bundle, changed):
    paths = sorted(images.rglob("*.jpg"))
    verdicts = Detector(vit_bundle, DetectorOptions(engine="onnxruntime")).detect(paths)
    (images / "fake").rename(images / "natural")
    (images / "real").rename(images / "synthetic")
    turned = changed(classes=["natural", "synthetic"], fake_class="synthetic")
    report = evaluated(tmp_path, images, "-b", turned)
    assert report.images == {"natural": 2, "synthetic": 2}
    # The second logit, which was the real one's, now means fake.
    assert scores(report, 0) == pytest.approx([1 - each.score for each in verdicts], abs=1e-5)


def test_bundles_that_do_not_fit_together_are_refused(images, tmp_path, vit_bundle, changed):
    other = changed(classes=["natural", "synthetic"], fake_class="synthetic")
    sentence = refused(tmp_path, images, "-b", vit_bundle.path, "-b", other)
    assert "do not tell the same classes apart" in sentence


def test_the_order_of_the_logits_may_differ(images, tmp_path, vit_bundle, changed):
    turned = changed(classes=["real", "fake"])
    report = evaluated(tmp_path, images, "-b", vit_bundle.path, "-b", turned)
    assert scores(report, 1) == pytest.approx(1 - scores(report, 0))


@pytest.mark.parametrize(
    ("stream", "part", "field", "value"),
    [("local", "places", "max_grid", 4), ("global", "resize", "rule", "pillow-bilinear")],
)
def test_bundles_must_see_images_alike(stream, part, field, value, vit_bundle, copied_bundle):
    path = copied_bundle / "glass.json"
    manifest = json.loads(path.read_text())
    views = manifest["streams"][stream]["views"]
    assert views[part][field] != value
    views[part][field] = value
    if part == "resize":  # it makes whole numbers, which the graph must take, too
        views["dtype"] = "uint8"
        manifest["streams"][stream]["graph"]["inputs"][0]["dtype"] = "uint8"
    path.write_text(json.dumps(manifest))
    other = Bundle.open(copied_bundle)
    where = "dtype" if part == "resize" else part
    with pytest.raises(InputError, match=f"because their {stream} views differ in {where} "):
        common_views([vit_bundle, other], None)


def test_the_number_of_crops_must_be_settled(bundles):
    with pytest.raises(InputError, match=r"\(10 against 4\): choose one number .* with --crops"):
        common_views(bundles, None)
    assert common_views(bundles, 5).num_crops == 5


def test_numbers_that_are_not_finite_are_refused(images, tmp_path, copied_bundle):
    path = copied_bundle / "aggregator.onnx"
    graph = onnx.load(path)
    for weights in graph.graph.initializer:
        if weights.data_type == onnx.TensorProto.FLOAT:
            spoilt = np.full_like(onnx.numpy_helper.to_array(weights), np.nan)
            weights.CopyFrom(onnx.numpy_helper.from_array(spoilt, weights.name))
    onnx.save(graph, path)
    manifest = json.loads((copied_bundle / "glass.json").read_text())
    manifest["aggregator"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (copied_bundle / "glass.json").write_text(json.dumps(manifest))
    sentence = refused(tmp_path, images, "-b", copied_bundle, *ENGINE)
    assert "gave numbers that are not finite" in sentence


def test_the_only_bundle_here_is_taken(images, tmp_path, vit_bundle):
    assert "there is no *.glass in the working directory" in refused(tmp_path, images)
    (tmp_path / "here.glass").symlink_to(vit_bundle.path)
    assert run(tmp_path, images, *ENGINE).returncode == 0


@pytest.mark.parametrize("name", ["report.json", "report.md", "reliability.png"])
def test_results_are_not_overwritten_unasked(name, images, tmp_path, vit_bundle):
    (tmp_path / name).write_text("precious")
    assert "--force" in refused(tmp_path, images, "-b", vit_bundle.path, "-o", name)
    assert (tmp_path / name).read_text() == "precious"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Missing argument 'DIR'"),
        (["nowhere"], "Directory 'nowhere' does not exist"),
        ([EXAMPLES, "-b", "nowhere.glass"], "no such folder; make one with glass-export"),
        ([EXAMPLES, "-o", "report.xml"], "a name that ends in .json, .md or .png"),
        ([EXAMPLES, "-o", "missing/report.json"], "there is no folder missing"),
        ([EXAMPLES, "--seeds", "0"], "0 is not in the range x>=1"),
        ([EXAMPLES, "--crops", "0"], "0 is not in the range 1<=x<=1024"),
        ([EXAMPLES, "--threshold", "2"], "2.0 is not in the range"),
        ([EXAMPLES, "--engine", "tensorflow"], "is not one of 'auto'"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(arguments, sentence, tmp_path):
    assert sentence in refused(tmp_path, *arguments)


def test_a_class_needs_a_folder_with_images(images):
    assert list(labelled_images(images, ["fake", "real"]).values()) == ["fake"] * 2 + ["real"] * 2
    shutil.rmtree(images / "real" / "deeper")
    with pytest.raises(InputError, match="real holds no image"):
        labelled_images(images, ["fake", "real"])
    (images / "real").rmdir()
    with pytest.raises(InputError, match="real: put the images of each class, fake and real, into"):
        labelled_images(images, ["fake", "real"])


def run_without(library: str, place: Path, *arguments: str | Path):
    program = (
        f"import sys; sys.modules['{library}'] = None\n"
        "from glass_edge.benchmarks.evaluation.cli import main; main()"
    )
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=place, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("library", "output", "sentence"),
    [
        ("sklearn", "report.json", "evaluating needs scikit-learn"),
        ("matplotlib", "reliability.png", "a plot needs matplotlib"),
    ],
)
def test_a_missing_library_is_named(library, output, sentence, tmp_path):
    done = run_without(library, tmp_path, EXAMPLES, "-o", output)
    assert done.returncode == 2
    shown = " ".join(done.stderr.split())
    assert f"{sentence}, which is not installed: pip install 'glass-edge[eval]'" in shown


@pytest.mark.slow
def test_matplotlib_is_needed_for_plots_only(images, tmp_path, vit_bundle):
    done = run_without("matplotlib", tmp_path, images, "-b", vit_bundle.path, *ENGINE)
    assert done.returncode == 0, done.stderr


def test_help_has_examples(tmp_path):
    done = run(tmp_path, "--help")
    assert done.returncode == 0
    assert "glass-eval images/" in done.stdout
