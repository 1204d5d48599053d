"""Images are judged by as many crops as their verdicts need, and their records say how many."""

from __future__ import annotations

import math
import weakref
from pathlib import Path

import numpy as np
import pytest
from conftest import NEVER, STEPS, slow, with_rule
from glass_edge.runtime.engines.base import EngineOptions, Judgement
from glass_edge.runtime.engines.device import DeviceEngine
from glass_edge.runtime.engines.registry import open_engine
from glass_edge.runtime.images import jpeg
from glass_edge.runtime.judging.options import most_waiting, within_memory
from glass_edge.runtime.machine.errors import EngineError, InputError
from glass_edge.runtime.streaming.orders import More
from glass_edge.runtime.streaming.sharing import PipelineOptions
from glass_edge.runtime.streaming.unfinished import Unfinished
from glass_edge.runtime.views import batch

from glass_edge import Detector, DetectorOptions

ALWAYS = (0.0,) * len(STEPS)


@pytest.fixture(scope="module")
def images(photographs):
    return [str(path) for path in photographs]


@pytest.fixture(scope="module")
def taus(vit_bundle, images):
    """The largest image is never settled, and others are as soon as they are surer than that."""
    found = []
    for step in STEPS[:-1]:
        (verdict,) = Detector(vit_bundle, DetectorOptions(crops=step)).detect(images[-1])
        found.append(abs(margin(verdict)) + 1e-3)
    return (*found, *NEVER[-1:])


@pytest.fixture(scope="module")
def bundle(vit_bundle, taus, tmp_path_factory):
    return with_rule(vit_bundle, tmp_path_factory.mktemp("rule") / "some.glass", taus)


def margin(verdict) -> float:
    return verdict.logits["fake"] - verdict.logits["real"]


def judged(bundle, images, **options):
    return Detector(bundle, DetectorOptions(crops="auto", **options)).detect(images)


def test_an_image_ends_at_the_first_step_that_settles_it(vit_bundle, bundle, taus, images):
    by_step = {s: Detector(vit_bundle, DetectorOptions(crops=s)) for s in STEPS}
    for verdict in judged(bundle, images):
        count = len(verdict.crops)
        for step, tau in zip(STEPS, taus, strict=True):
            if step < count:
                (fixed,) = by_step[step].detect([verdict.path])
                assert abs(margin(fixed)) < tau, "it would have ended before"
        if count in STEPS:
            enough = abs(margin(verdict)) >= taus[STEPS.index(count)]
            assert verdict.settled == (enough or seen_whole(verdict))


def seen_whole(verdict) -> bool:
    """Whether the image has no other place for a crop."""
    return Path(verdict.path).name in ("exact.png", "tiny.png", "small.jpg")


def test_steps_differ_between_images(bundle, images):
    verdicts = judged(bundle, images)
    assert len({len(verdict.crops) for verdict in verdicts}) > 2
    assert {verdict.settled for verdict in verdicts} == {True, False}


def test_the_record_is_that_of_the_same_fixed_number(vit_bundle, bundle, images):
    """Where the paper's placement uses its grid for as many crops."""
    compared = 0
    for verdict in judged(bundle, images):
        count = len(verdict.crops)
        (fixed,) = Detector(vit_bundle, DetectorOptions(crops=count)).detect([verdict.path])
        grid = min(min(verdict.width, verdict.height) // 224, 8)
        if count <= grid * grid:
            assert places(verdict) == places(fixed)
            assert verdict.score == pytest.approx(fixed.score, abs=1e-5)
            attention = [c.attention for c in verdict.crops]
            assert attention == pytest.approx([c.attention for c in fixed.crops], abs=1e-5)
            assert verdict.seed == fixed.seed
            compared += 1
    assert compared >= 3


def test_a_fixed_number_says_nothing_of_settling(bundle, images):
    assert {v.settled for v in Detector(bundle, DetectorOptions(crops=2)).detect(images)} == {None}


@pytest.mark.parametrize(
    "options",
    [
        slow({"batch_size": 1}),
        {"batch_size": 5, "workers": 1},
        slow({"batch_size": 64, "workers": 4}),
        slow({"memory": 1 << 20}),
        {"mode": "latency"},
        {"engine": "openvino"},
    ],
    ids=str,
)
def test_the_same_records_whatever_the_batch_the_threads_and_the_order(bundle, images, options):
    several = [*images, *images[::-1], *images[3:]]
    expected = {verdict.path: verdict for verdict in judged(bundle, images)}
    verdicts = judged(bundle, several, **options)
    assert [verdict.path for verdict in verdicts] == several
    for verdict in verdicts:
        other = expected[verdict.path]
        assert places(verdict) == places(other)
        assert verdict.settled == other.settled
        assert verdict.score == pytest.approx(other.score, abs=1e-5)


def places(verdict):
    return [(c.top, c.left, c.height, c.width) for c in verdict.crops]


def test_an_image_that_has_been_seen_whole_is_settled(vit_bundle, tmp_path, images):
    """However close its margin is; the record says how many crops there were."""
    bundle = with_rule(vit_bundle, tmp_path / "never.glass", NEVER)
    found = {Path(v.path).name: v for v in judged(bundle, images)}
    for name in ("exact.png", "tiny.png"):
        assert (len(found[name].crops), found[name].settled) == (1, True)
    assert (len(found["small.jpg"].crops), found["small.jpg"].settled) == (2, True)
    assert (len(found["large.png"].crops), found["large.png"].settled) == (8, False)


def test_one_crop_is_enough_where_any_margin_is(vit_bundle, tmp_path, images):
    bundle = with_rule(vit_bundle, tmp_path / "always.glass", ALWAYS)
    assert {(len(v.crops), v.settled) for v in judged(bundle, images)} == {(1, True)}


def test_a_rule_may_begin_with_several_crops(vit_bundle, tmp_path, images):
    bundle = with_rule(vit_bundle, tmp_path / "x.glass", (0.0,), steps=(3,))
    counts = {Path(v.path).name: len(v.crops) for v in judged(bundle, images)}
    assert (counts["exact.png"], counts["small.jpg"], counts["large.png"]) == (1, 2, 3)


class Counted(DeviceEngine):
    """A device whose work another engine does; it remembers how many rows each run had."""

    name, description, precision = "counted", "counted", "fp32"

    def __init__(self, manifest, engine, batch_size=8):
        super().__init__(manifest, batch_size)
        self._engine = engine
        self.fails_after = math.inf
        self.runs = {"global": [], "local": [], "aggregator": []}

    def judge_now(self, views):
        raise AssertionError("features are computed once, and not all at the same time")

    def outputs_now(self, stream, pixels):
        self.runs[stream].append(len(pixels))
        if len(self.runs["local"]) > self.fails_after:
            raise EngineError("no more")
        return self._engine.outputs(stream, pixels)

    def aggregate_now(self, features):
        self.runs["aggregator"].append(len(features["global"]))
        return Judgement(*vars(self._engine.aggregate(features)).values())


def counted(bundle, **options):
    detector = Detector(bundle, DetectorOptions(crops="auto", batch_size=8, **options))
    engine = open_engine(bundle, "onnxruntime", EngineOptions(batch_size=8))
    detector._engine = Counted(bundle.manifest, engine)
    return detector


def test_on_a_device_too(bundle, images):
    expected = judged(bundle, images)
    for verdict, other in zip(counted(bundle).detect(images), expected, strict=True):
        assert places(verdict) == places(other)
        assert verdict.settled == other.settled
        assert verdict.score == pytest.approx(other.score, abs=1e-5)


def test_crops_are_looked_at_once_and_images_share_batches(bundle, images):
    several = images * 12
    detector = counted(bundle, workers=2)
    verdicts = detector.detect(several)
    runs = detector._engine.runs
    assert sum(runs["local"]) == sum(len(verdict.crops) for verdict in verdicts)
    assert sum(runs["global"]) == len(several)
    first = len(several) // 4  # four global views and four crops make eight views
    assert runs["global"] == [4] * first
    later = sorted(runs["local"])[first:]
    assert sum(rows for rows in later if rows >= 8) > 0.9 * sum(later), runs["local"]


def test_no_image_is_decoded_twice(vit_bundle, tmp_path, photograph, monkeypatch):
    bundle = with_rule(vit_bundle, tmp_path / "never.glass", NEVER)
    photograph.resize((900, 700)).save(tmp_path / "one.jpg")
    decoded = []
    original = jpeg._strictly
    monkeypatch.setattr(jpeg, "_strictly", lambda *a, **k: decoded.append(1) or original(*a, **k))
    (verdict,) = judged(bundle, [tmp_path / "one.jpg"])
    assert (len(verdict.crops), len(decoded)) == (8, 1)


def test_views_that_wait_stay_within_the_memory():
    image = 5_000_000
    sizes = {}
    for memory in (1 << 31, 1 << 30, 1 << 28):
        for workers, lanes in ((2, 2), (16, 16), (16, 1)):
            options = PipelineOptions(images=16, workers=workers, memory=memory)
            found = within_memory(options, lanes, 16, image)
            assert most_waiting(found, lanes, 16) * image <= memory or found.images == 1
            sizes[memory, workers, lanes] = found.images
    assert sizes[1 << 31, 2, 2] == 16
    assert sizes[1 << 30, 16, 16] < sizes[1 << 31, 16, 16]


def test_no_more_images_wait_than_was_counted(vit_bundle, tmp_path, photograph, monkeypatch):
    """None is ever settled, so that all wait for more crops."""
    bundle = with_rule(vit_bundle, tmp_path / "never.glass", NEVER)
    alive, most = [], []

    class Watched(batch.LaterCrops):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            alive.append(None)
            most.append(len(alive))
            weakref.finalize(self, alive.pop)

    monkeypatch.setattr(batch, "LaterCrops", Watched)
    pixels = np.asarray(photograph.resize((600, 500)))
    detector = Detector(bundle, DetectorOptions(crops="auto", batch_size=4, workers=2))
    assert len(detector.detect([pixels] * 60)) == 60
    assert max(most) <= most_waiting(detector._pipeline, detector._engine.lanes, 4)
    assert not alive


def test_what_an_engine_raises_on_later_crops_is_raised(bundle, images):
    detector = counted(bundle)
    detector._engine.fails_after = 3
    with pytest.raises(EngineError, match="no more"):
        detector.detect(images * 4)


def test_a_run_that_is_told_to_finish_settles_the_images_that_it_has_begun(bundle, images):
    with Detector(bundle, DetectorOptions(crops="auto")).stream(images * 20) as records:
        first = next(records)
        records.finish()
        rest = list(records)
    assert [first.path, *(record.path for record in rest)] == (images * 20)[: 1 + len(rest)]
    assert all(record.settled is not None for record in [first, *rest])


def test_a_run_may_be_left_while_images_wait(bundle, images):
    records = Detector(bundle, DetectorOptions(crops="auto")).stream(images * 20)
    next(records)
    records.close()
    assert list(records) == []


def test_what_is_neither_a_number_nor_auto():
    with pytest.raises(InputError, match="crops must be a number or auto, not 'Auto'"):
        DetectorOptions(crops="Auto")


class TestUnfinished:
    def test_images_wait_until_they_fill_a_batch(self):
        waiting = Unfinished(4)
        for name, rows in (("a", 1), ("b", 2)):
            waiting.add(name, More(rows, None))
            assert (waiting.has_batch, waiting.has_held_back) == (False, True)
        waiting.add("c", More(1, None))
        waiting.add("d", More(1, None))
        assert waiting.has_batch
        assert [owner for owner, _ in waiting.take()] == ["a", "b", "c"]
        assert (waiting.has_batch, waiting.has_held_back) == (False, True)

    def test_those_let_go_need_not_fill_one_and_later_ones_must(self):
        waiting = Unfinished(4)
        waiting.add("a", More(1, None))
        assert waiting.let_go()
        assert not waiting.let_go(), "none is held back any more"
        waiting.add("b", More(1, None))
        assert [owner for owner, _ in waiting.take()] == ["a", "b"]
        waiting.add("c", More(1, None))
        assert not waiting.has_batch


def test_a_bundle_without_a_rule(vit_bundle):
    with pytest.raises(InputError, match=r"has no stopping rule, .* glass-calibrate, or give a"):
        Detector(vit_bundle, DetectorOptions(crops="auto"))


def test_another_threshold_than_the_rules(bundle):
    Detector(bundle, DetectorOptions(crops="auto", threshold=0.5))
    with pytest.raises(InputError, match=r"made for a threshold of 0\.5, not 0\.7"):
        Detector(bundle, DetectorOptions(crops="auto", threshold=0.7))


def test_the_threshold_is_the_rules(vit_bundle, tmp_path, images, taus):
    bundle = with_rule(vit_bundle, tmp_path / "x.glass", taus, threshold=0.62)
    detector = Detector(bundle, DetectorOptions(crops="auto"))
    assert detector.threshold == 0.62
    border = np.log(0.62 / 0.38)
    for verdict in detector.detect(images):
        count = len(verdict.crops)
        if verdict.settled and not seen_whole(verdict):
            assert abs(margin(verdict) - border) >= taus[STEPS.index(count)]
        assert verdict.verdict == ("fake" if verdict.score >= 0.62 else "real")
