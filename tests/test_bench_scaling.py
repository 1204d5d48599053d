"""glass-bench scaling: what an image costs, and the straight line through it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
from conftest import call, refusal
from glass_edge.benchmarks.measuring.samples import Samples
from glass_edge.benchmarks.scaling.report import Point, ScalingReport, Series
from PIL import Image
from scipy.stats import linregress

pytestmark = pytest.mark.xdist_group("bench scaling")

run = partial(call, "glass-bench")
ROUNDS = 2


@pytest.fixture(scope="module")
def place(checkpoints, vit_bundle, tmp_path_factory) -> Path:
    """A working directory with the files of one small run."""
    place = tmp_path_factory.mktemp("scaling")
    done = run(place, "scaling", "--checkpoint", checkpoints["vit"], "-b", vit_bundle.path,
               "--engine", "onnxruntime", "--crops", "1,3", "--megapixels", "0.1,0.4,0.1",
               "--batches", "1,2,3", "--rounds", str(ROUNDS), "--seconds", "0.01",
               "-o", "report.json", "-o", "report.md", "-o", "report.png")  # fmt: skip
    assert done.returncode == 0, done.stderr
    (place / "screen").write_text(done.stdout)
    return place


@pytest.fixture(scope="module")
def report(place) -> ScalingReport:
    return msgspec.json.decode((place / "report.json").read_bytes(), type=ScalingReport)


def test_json_markdown_and_screen_come_from_one_object(place, report):
    assert report.to_markdown() == (place / "report.md").read_text()
    assert report.to_markdown() == (place / "screen").read_text()
    assert report.command.startswith("glass-bench scaling ")


def test_everyone_is_measured_along_every_axis(report, vit_bundle):
    names = ["PyTorch FP32", f"{vit_bundle.name}, onnxruntime"]
    found = {axis: report.along(axis) for axis in ("crops", "megapixels", "batch")}
    values = {"crops": [1, 3], "megapixels": [0.1, 0.4], "batch": [1, 2, 3]}
    for axis, series in found.items():
        assert [each.contender for each in series] == names
        for each in series:
            assert [point.at for point in each.points] == values[axis]
            assert all(len(point.cost.seconds) == ROUNDS for point in each.points)
            assert all(min(point.cost.seconds) > 0 for point in each.points)


def test_the_line_is_that_of_scipy():
    costs = {1.0: (0.2, 0.3, 0.1), 2.0: (0.5, 0.4, 0.6), 5.0: (0.9, 1.1, 1.0)}
    points = tuple(Point(at, Samples(cost)) for at, cost in costs.items())
    line = Series("crops", "any", points).line
    expected = linregress(list(costs), [np.median(cost) for cost in costs.values()])
    assert line.slope == pytest.approx(expected.slope)
    assert line.intercept == pytest.approx(expected.intercept)
    assert line.r2 == pytest.approx(expected.rvalue**2)


def test_there_is_no_line_through_one_point():
    assert Series("crops", "any", (Point(1.0, Samples((0.1,))),)).line is None


def test_the_picture_is_one(place):
    with Image.open(place / "report.png") as image:
        assert image.format == "PNG"
        assert image.width > 1500


def test_show_draws_the_same_again(place):
    done = run(place, "show", "report.json", "-o", "again.png")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (place / "report.md").read_text()
    assert (place / "again.png").read_bytes() == (place / "report.png").read_bytes()


def test_only_runs_are_compared(place):
    done = run(place, "show", "report.json", "report.json")
    assert "only reports of glass-bench run can be compared" in refusal(done)


@pytest.mark.parametrize(
    ("option", "text", "sentence"),
    [
        ("--crops", "0", "not a list of positive numbers"),
        ("--crops", "1.5", "not a list of whole numbers"),
        ("--megapixels", "large", "not a list of positive numbers"),
        ("--rounds", "1", "'--rounds'"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(option, text, sentence, tmp_path):
    done = run(tmp_path, "scaling", "--checkpoint", "gl.pt", "-b", "x.glass", option, text)
    assert sentence in refusal(done)
