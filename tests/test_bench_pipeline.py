"""glass-bench pipeline: the whole and its halves, measured in turns."""

from __future__ import annotations

import json
from functools import partial

import msgspec
import pytest
from conftest import ROOT, call, refusal
from glass_edge.benchmarks.measuring.samples import Samples
from glass_edge.benchmarks.pipeline import BundleHalves, PipelineReport

run = partial(call, "glass-bench", ROOT, "pipeline")


@pytest.fixture(scope="module")
def report(vit_bundle, photographs, tmp_path_factory) -> PipelineReport:
    folder = tmp_path_factory.mktemp("report")
    outputs = ["-o", folder / "report.json", "-o", folder / "report.md"]
    done = run(*photographs[:5], "-b", vit_bundle.path, "--crops", 2, "--rounds", 2, *outputs)
    assert done.returncode == 0, done.stderr
    assert (folder / "report.md").read_text() == done.stdout
    assert "of what is possible" in done.stdout
    return msgspec.json.decode((folder / "report.json").read_bytes(), type=PipelineReport)


def test_every_round_measures_both_halves_and_the_whole(report):
    (bundle,) = report.bundles
    assert (report.images, report.crops, report.rounds) == (5, 2, 2)
    for samples in (bundle.views, bundle.judging, bundle.whole):
        assert len(samples.seconds) == 2
        assert min(samples.seconds) > 0
    assert bundle.on_host
    assert json.loads(report.to_json())["bundles"][0]["name"] == bundle.name


@pytest.mark.parametrize(("on_host", "least"), [(True, 5.0), (False, 3.0)])
def test_the_halves_share_the_cpus_or_go_on_side_by_side(on_host, least):
    one, two, whole = (Samples((value,)) for value in (2.0, 3.0, 6.0))
    bundle = BundleHalves("a.glass", "engine", "fp32", on_host, 1, one, two, whole)
    assert bundle.bound.seconds == (least,)


def test_an_image_that_cannot_be_read_is_one_sentence(vit_bundle, photographs, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    done = run(photographs[0], tmp_path / "bad.jpg", "-b", vit_bundle.path)
    assert "bad.jpg: the file is not an image" in refusal(done)
