"""``glass-eval --crops auto``: a stopping rule beside fixed numbers of crops."""

from __future__ import annotations

from functools import partial

import msgspec
import numpy as np
import pytest
from conftest import EXAMPLES, call, refusal, with_rule
from glass_edge.benchmarks.evaluation.steadiness_report import SteadinessReport
from PIL import Image
from sklearn.metrics import roc_auc_score

from glass_edge import Detector, DetectorOptions

run = partial(call, "glass-eval")
ENGINE = ("--engine", "onnxruntime")
PATHS = sorted(map(str, EXAMPLES.glob("*/*.jpg")))
TRUTH = ["/fake/" in path for path in PATHS]


@pytest.fixture(scope="module")
def bundle(vit_bundle, tmp_path_factory):
    place = tmp_path_factory.mktemp("rule") / "ruled.glass"
    margins = [abs(v.logits["fake"] - v.logits["real"]) for v in judged(vit_bundle, 1)]
    return with_rule(vit_bundle, place, (float(np.median(margins)), 0.0, 0.0, 0.0))


@pytest.fixture(scope="module")
def place(bundle, tmp_path_factory):
    place = tmp_path_factory.mktemp("evaluation")
    outputs = ("-o", "report.json", "-o", "report.md", "-o", "crops.png")
    done = run(place, EXAMPLES, "-b", bundle.path, "--crops", "auto", *ENGINE, *outputs)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (place / "report.md").read_text()
    return place


@pytest.fixture(scope="module")
def result(place):
    content = (place / "report.json").read_bytes()
    report = msgspec.json.decode(content, type=SteadinessReport)
    assert report.images == {"fake": 6, "real": 6}
    (found,) = report.bundles
    return found


def judged(bundle, crops, seed=0):
    return Detector(bundle, DetectorOptions(crops=crops, seed=seed)).detect(PATHS)


@pytest.mark.parametrize("crops", [1, 2, "auto"])
def test_rows_are_what_runs_with_two_seeds_give(crops, bundle, result):
    row = result.auto if crops == "auto" else result.fixed[crops]
    runs = [judged(bundle, crops, seed) for seed in (0, 1)]
    verdicts = np.array([[verdict.verdict for verdict in each] for each in runs])
    assert row.point.crops == np.mean([len(v.crops) for each in runs for v in each])
    assert row.point.flips == np.mean(verdicts[0] != verdicts[1])
    areas = [roc_auc_score(TRUTH, [verdict.score for verdict in each]) for each in runs]
    assert row.roc_auc == pytest.approx(np.mean(areas))


def test_the_settled_verdict_is_its_own(result):
    assert result.fixed[64].point.unlike == 0.0
    assert set(result.fixed) == {1, 2, 3, 4, 6, 8, 10, 12, 16, 24, 32, 48, 64}


def test_whole_runs_are_timed_in_turns(place, result):
    timed = {number for number, row in result.fixed.items() if row.seconds_per_image}
    assert timed == {result.num_crops} == {10}
    ten, auto = (row.seconds_per_image.seconds for row in (result.fixed[10], result.auto))
    assert len(ten) == len(auto) == 3
    assert min(*ten, *auto) > 0
    ratio = np.median(np.divide(ten, auto))  # of neighbours, so that a slow moment slows both
    said = f"The bundle's rule runs at {ratio:.2f} times the speed of 10 crops "
    assert said in (place / "report.md").read_text()


def test_the_page_and_the_picture(place):
    text = (place / "report.md").read_text()
    assert text.startswith("# How many crops verdicts need")
    assert "| auto " in text
    assert "The bundle's rule runs at " in text
    with Image.open(place / "crops.png") as picture:
        assert min(picture.size) > 400


def test_a_bundle_without_a_rule(vit_bundle, tmp_path):
    said = refusal(run(tmp_path, EXAMPLES, "-b", vit_bundle.path, "--crops", "auto"))
    assert "has no stopping rule" in said


def test_seeds_are_two(bundle, tmp_path):
    said = refusal(run(tmp_path, EXAMPLES, "-b", bundle.path, "--crops", "auto", "--seeds", "3"))
    assert "--crops auto judges every image with two seeds: leave --seeds out" in said
