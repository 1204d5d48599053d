"""What each crop did: P(fake) without it, compared with PyTorch judging the image without it."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import reference
import torch
from conftest import NEVER, STEPS, with_rule
from glass_edge.runtime.engines.base import EngineOptions, Judgement
from glass_edge.runtime.engines.bound import BoundGraphs
from glass_edge.runtime.engines.registry import open_engine
from glass_edge.runtime.judging import influence
from glass_edge.runtime.judging.influence import Influence
from glass_edge.runtime.judging.recording import Judged
from glass_edge.runtime.machine.timings import Timings
from glass_edge.runtime.views.batch import Draw, ViewInfo
from networks import ROLES, random_glass
from PIL import Image

from glass_edge import Detector, DetectorOptions, Verdict

SEED = 1234


def pytorchs_influence(verdict: Verdict) -> list[float]:
    """Of the crops that a verdict was made by."""
    model = random_glass("vit")
    rgb = np.asarray(Image.open(verdict.path).convert("RGB"))
    whole = (reference.overview(rgb) - reference.MEAN) / reference.STD
    crops = torch.zeros(len(verdict.crops), 3, reference.CROP, reference.CROP)
    pixels = torch.from_numpy(rgb.copy()).permute(2, 0, 1).float() / 255
    for crop, place in zip(crops, verdict.crops, strict=True):
        bottom, right = place.top + place.height, place.left + place.width
        crop[:, : place.height, : place.width] = pixels[:, place.top : bottom, place.left : right]
    crops = (crops - reference.MEAN) / reference.STD

    def score(kept: list[int]) -> float:
        with torch.inference_mode():
            return model(whole[None], crops[kept][None])[0][0].softmax(0)[0].item()

    every = list(range(len(crops)))
    return [score(every) - score([each for each in every if each != crop]) for crop in every]


def influences(verdict) -> list[float | None]:
    return [crop.influence for crop in verdict.crops]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_it_is_pytorchs_p_fake_with_and_without_each_crop(engine, vit_bundle, photographs):
    options = DetectorOptions(engine=engine, fixed_seed=SEED, influence=True)
    for verdict in Detector(vit_bundle, options).detect(photographs[4:7]):
        expected = pytorchs_influence(verdict)
        assert influences(verdict) == pytest.approx(expected, abs=1e-5)
        assert max(map(abs, expected)) > 1e-4  # or nothing was compared


def test_asking_for_it_changes_nothing_else(vit_bundle, photographs):
    plain = Detector(vit_bundle).detect(photographs)
    asked = Detector(vit_bundle, DetectorOptions(influence=True)).detect(photographs)
    for one, other in zip(plain, asked, strict=True):
        assert one.logits == other.logits
        assert [crop.attention for crop in one.crops] == [crop.attention for crop in other.crops]
        assert one.seed == other.seed
        assert set(influences(one)) == {None}
        assert None not in influences(other)


def test_one_crop_alone_has_none(vit_bundle, photographs):
    options = DetectorOptions(crops=1, influence=True)
    [verdict] = Detector(vit_bundle, options).detect(photographs[5])
    assert influences(verdict) == [None]


def test_it_is_said_of_as_many_crops_as_a_verdict_needed(vit_bundle, photographs, tmp_path):
    """All of them here, because no margin settles a verdict."""
    bundle = with_rule(vit_bundle, tmp_path / "never.glass", NEVER)
    auto = DetectorOptions(crops="auto", influence=True)
    [verdict] = Detector(bundle, auto).detect(photographs[7])
    assert len(verdict.crops) == STEPS[-1]
    assert influences(verdict) == pytest.approx(pytorchs_influence(verdict), abs=1e-5)


def test_many_crops_are_left_out_in_several_goes(vit_bundle, photographs, monkeypatch):
    options = DetectorOptions(crops=9, influence=True)
    [at_once] = Detector(vit_bundle, options).detect(photographs[6])
    monkeypatch.setattr(influence, "_MOST_FLOATS", 2 * 9 * 64)
    [in_parts] = Detector(vit_bundle, options).detect(photographs[6])
    assert influences(in_parts) == pytest.approx(influences(at_once), abs=1e-6)


@pytest.fixture
def judged(vit_bundle) -> tuple[Judged, dict[str, np.ndarray]]:
    """An image that was judged by features, and these."""
    random = np.random.default_rng(3)
    widths = {name: stream.width for name, stream in vit_bundle.manifest.streams.items()}
    features = {
        name: random.normal(size=(5 if name == "local" else 1, width)).astype(np.float32)
        for name, width in widths.items()
    }
    logits = np.float32([0.3, -0.2])
    return Judged(ViewInfo(1, 1, (Draw(1, ()),)), logits, None, 5), features


def test_buffers_on_a_device_give_what_arrays_give(vit_bundle, judged):
    """As on a GPU, on ONNX Runtime's CPU device."""
    paths = {role: str(vit_bundle.graph_path(role)) for role in ROLES}
    sessions = {role: onnxruntime.InferenceSession(path) for role, path in paths.items()}
    bound = BoundGraphs(sessions, vit_bundle.manifest, "cpu", 4)
    host = open_engine(vit_bundle, "onnxruntime", EngineOptions("cpu"))
    one, other = (
        Influence(engine, vit_bundle.manifest).added(*judged, Timings()).influence
        for engine in (host, bound)
    )
    assert one == pytest.approx(other, abs=1e-6)


def test_streams_stay_in_the_manifests_order(vit_bundle, judged):
    """Some engines go by it."""
    host = open_engine(vit_bundle, "onnxruntime", EngineOptions("cpu"))

    class Watched:
        def aggregate(self, features):
            assert list(features) == list(given)
            return host.aggregate(features)

    row, features = judged
    for given in (features, dict(reversed(features.items()))):
        found = Influence(Watched(), vit_bundle.manifest).added(row, given, Timings())
        assert len(found.influence) == 5


def test_numbers_that_are_not_finite_cost_no_verdict(vit_bundle, judged):
    class Broken:
        def aggregate(self, features):
            count = len(features["local"])
            return Judgement(np.full((count, 2), np.nan, np.float32), None)

    row, features = judged
    assert Influence(Broken(), vit_bundle.manifest).added(row, features, Timings()) == row
