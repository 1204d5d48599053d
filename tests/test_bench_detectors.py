"""``glass-bench detector``: bundles of one-view detectors beside the script that users run."""

from __future__ import annotations

import detector_files as files
import msgspec
import numpy as np
import pytest
import test_spai
import torch
from conftest import EXAMPLES, call, refusal
from glass_edge.benchmarks.detectors.report import DetectorReport
from glass_edge.benchmarks.detectors.script import transform_of
from glass_edge.export.exporter import export_bundle
from glass_edge.export.loaded import load_detector
from glass_edge.export.options import ExportOptions
from glass_edge.runtime.views.streams import write_views
from PIL import Image

from glass_edge import InputError

STATES = {"community-forensics": files.community_forensics, "npr": files.npr}
PHOTO = EXAMPLES / "real" / "cat.jpg"


@pytest.fixture
def checkpoint(tmp_path):
    return files.saved({"model": files.community_forensics()}, tmp_path / "commfor.pt")


@pytest.mark.parametrize("family", STATES)
def test_the_script_sees_what_the_bundle_sees(family, tmp_path):
    path = files.saved({"model": STATES[family]()}, tmp_path / "weights.pt")
    loaded = load_detector(path, ExportOptions(), lambda _: None)
    mean, std = loaded.preset.normalisation.mean, loaded.preset.normalisation.std
    image = Image.open(PHOTO).convert("RGB")
    seen = transform_of(loaded)(image).permute(1, 2, 0) * torch.tensor(std) + torch.tensor(mean)
    (views,) = loaded.preset.views.values()
    ours = np.empty((1, views.size, views.size, 3), np.uint8)
    write_views(ours, np.asarray(image), views)
    assert np.array_equal((255 * seen).round().numpy(), ours[0])


@pytest.mark.slow
def test_contenders_judge_in_turns_and_agree(checkpoint, tmp_path):
    export_bundle(checkpoint, tmp_path / "commfor.glass", ExportOptions())
    options = ("--checkpoint", checkpoint, "-b", "commfor.glass", "--rounds", 2, "--workers", 1)
    done = call("glass-bench", tmp_path, "detector", PHOTO, PHOTO, *options, "-o", "report.json")
    report = msgspec.json.decode((tmp_path / "report.json").read_bytes(), type=DetectorReport)
    assert done.stdout == report.to_markdown()
    fp32, half, ours = report.results
    assert [each.script for each in report.results] == [True, True, False]
    assert [each.precision for each in (fp32, half)] == ["fp32", "bf16"]
    assert (fp32.difference, ours.difference) == (0, pytest.approx(0, abs=1e-4))
    assert half.difference > 0
    assert all(len(each.seconds.seconds) == 2 for each in report.results)
    assert "commfor.glass@" in done.stdout


def test_a_detector_of_several_views_is_refused(tmp_path):
    path = files.saved({"model": test_spai.STATE}, tmp_path / "spai.pth")
    with pytest.raises(InputError, match="SPAI looks at several views of an image"):
        transform_of(load_detector(path, ExportOptions(), lambda _: None))


def test_a_glass_is_refused_in_one_sentence(tmp_path, checkpoints, vit_bundle):
    options = ("--checkpoint", checkpoints["vit"], "-b", vit_bundle.path)
    done = call("glass-bench", tmp_path, "detector", PHOTO, *options)
    assert "GLASS looks at several views of an image" in refusal(done)
