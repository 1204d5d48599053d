"""Several draws of an image's crops: what a run with each seed sees, from one decoding."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from conftest import EXAMPLES
from glass_edge.export.paper import glass_views
from glass_edge.runtime.engines.base import EngineOptions
from glass_edge.runtime.engines.host import HostEngine
from glass_edge.runtime.engines.registry import open_engine
from glass_edge.runtime.images.reading import ImageSource
from glass_edge.runtime.machine.errors import ImageError
from glass_edge.runtime.streaming import view_maker
from glass_edge.runtime.streaming.draws import DrawnBatch, images_at_once, in_groups, stream_draws
from glass_edge.runtime.streaming.sharing import PipelineOptions
from glass_edge.runtime.streaming.stream import PreparedBatch, stream_views
from glass_edge.runtime.views.batch import Sampling, ViewInfo
from PIL import Image

SPEC = glass_views(224, 3)
FIRST, DRAWS = 5, 4
ENGINES = ("onnxruntime", "openvino")


@pytest.fixture
def images(photographs: list[Path]) -> list[ImageSource]:
    """Files of many shapes, encoded bytes, pixels smaller than a crop, and what is no image."""
    pixels = np.random.default_rng(0).integers(0, 256, (50, 300, 3), np.uint8)
    return [*photographs[:4], photographs[1].read_bytes(), b"no image", pixels, *photographs[-2:]]


def drawn(images: list[ImageSource], sampling: Sampling, size: int) -> list[DrawnBatch]:
    with closing(stream_draws(images, sampling, PipelineOptions(size))) as batches:
        return list(batches)


def of_a_run(images: list[ImageSource], sampling: Sampling) -> PreparedBatch:
    with closing(stream_views(images, sampling, PipelineOptions(len(images)))) as batches:
        return next(batches)


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("key", [b"", b"secret"])
def test_each_draw_is_bit_by_bit_what_a_run_with_its_seed_sees(fixed, key, images):
    found = drawn(images, Sampling(SPEC, FIRST, fixed, key, DRAWS), size=4)
    assert [len(batch.outcomes) for batch in found] == [4, 4, 1]
    overviews = np.concatenate([batch.views["global"] for batch in found])
    crops = np.concatenate([batch.views["local"] for batch in found])
    outcomes = [outcome for batch in found for outcome in batch.outcomes]
    assert crops.shape == (len(images) - 1, DRAWS, SPEC.num_crops, 224, 224, 3)
    for draw in range(DRAWS):
        run = of_a_run(images, Sampling(SPEC, FIRST + draw, fixed, key))
        assert np.array_equal(overviews, run.views["global"])
        assert np.array_equal(crops[:, draw], run.views["local"])
        for ours, theirs in zip(outcomes, run.outcomes, strict=True):
            if isinstance(theirs, ImageError):
                assert str(ours) == str(theirs)
            else:
                assert ours.draws[draw] == theirs.draws[0]
                assert (ours.width, ours.height) == (theirs.width, theirs.height)


def test_an_image_is_decoded_once_for_all_its_draws(photographs, monkeypatch):
    opened = []

    def count(*arguments):
        image = open_image(*arguments)
        opened.append(image)
        return image

    open_image = view_maker.open_image
    monkeypatch.setattr(view_maker, "open_image", count)
    drawn(photographs[:3], Sampling(SPEC, draws=7), size=2)
    assert len(opened) == 3


def test_draws_differ_but_where_only_one_placement_is_possible(tmp_path):
    Image.new("RGB", (200, 224)).save(tmp_path / "small.png")
    (batch,) = drawn(
        [EXAMPLES / "real" / "cat.jpg", tmp_path / "small.png"], Sampling(SPEC, draws=5), 2
    )
    large, small = (outcome.draws for outcome in batch.outcomes if isinstance(outcome, ViewInfo))
    assert len({draw.placements for draw in large}) == 5
    assert len({draw.placements for draw in small}) == 1


def test_images_that_cannot_be_judged_leave_an_empty_batch():
    (batch,) = drawn([b"no image", b"neither"], Sampling(SPEC, draws=2), 2)
    assert all(isinstance(outcome, ImageError) for outcome in batch.outcomes)
    assert batch.views["local"].shape == (0, 2, 3, 224, 224, 3)


@pytest.mark.parametrize(
    ("draws", "most", "sizes"),
    [(1, 16, [1]), (16, 16, [16]), (17, 16, [9, 8]), (200, 64, [50] * 4), (5, 2, [2, 2, 1])],
)
def test_many_draws_come_in_groups_of_the_same_seeds(draws, most, sizes):
    groups = in_groups(Sampling(SPEC, FIRST, draws=draws), most)
    assert [group.draws for group in groups] == sizes
    seeds = [group.seed + draw for group in groups for draw in range(group.draws)]
    assert seeds == list(range(FIRST, FIRST + draws))


@pytest.mark.parametrize(("draws", "images"), [(1, 16), (2, 8), (3, 5), (16, 5), (200, 5)])
def test_the_more_draws_the_fewer_images_make_a_batch_but_no_fewer_than_in_a_run(draws, images):
    """A run gives an engine 16 views at once: of three crops each, those of five images."""
    assert images_at_once(in_groups(Sampling(SPEC, draws=draws)), 16) == images


@pytest.mark.parametrize(("memory", "most"), [(1, 1), (120 << 20, 2), (1 << 30, 8)])
def test_workers_hold_no_more_views_than_the_memory_for_images(memory, most, photographs):
    """Those of 64 draws take 29 MB; a worker holds one image's, and another's that wait."""
    options = PipelineOptions(2, workers=8, memory=memory)
    with closing(stream_draws(photographs[:4], Sampling(SPEC, draws=64), options)) as batches:
        next(batches)
        names = [thread.name for thread in threading.enumerate()]
    assert names.count("glass-worker") == most


class Counting:
    """Counts the rows that each graph of an engine computes."""

    def __init__(self, engine: HostEngine) -> None:
        self.rows: Counter[str] = Counter()
        self._compute, engine.compute = engine.compute, self._counted

    def _counted(self, role, inputs):
        self.rows[role] += len(inputs[0])
        return self._compute(role, inputs)


@pytest.mark.parametrize("engine", ENGINES)
class TestJudgingThem:
    def test_each_draw_is_judged_as_alone(self, engine, vit_bundle, images):
        network = open_engine(vit_bundle, engine, EngineOptions("cpu", batch_size=8))
        (batch,) = drawn(images, Sampling(SPEC, draws=DRAWS), len(images))
        found = network.judge_draws(batch.views)
        assert found.logits.shape == (len(images) - 1, DRAWS, 2)
        assert found.attention.shape == (len(images) - 1, DRAWS, SPEC.num_crops)
        for draw in range(DRAWS):
            of_one = {**batch.views, "local": batch.views["local"][:, draw]}
            alone = network.judge(of_one)
            assert found.logits[:, draw] == pytest.approx(alone.logits, abs=1e-5)
            assert found.attention[:, draw] == pytest.approx(alone.attention, abs=1e-6)

    def test_the_global_backbone_runs_once_for_each_image(self, engine, vit_bundle):
        network = open_engine(vit_bundle, engine, EngineOptions("cpu", batch_size=2))
        counting = Counting(network)
        overviews = np.zeros((2, 224, 224, 3), np.float32)
        crops = np.zeros((2, DRAWS, 3, 224, 224, 3), np.uint8)
        network.judge_draws({"global": overviews, "local": crops})
        assert counting.rows == {"global": 2, "local": 2 * DRAWS * 3, "aggregator": 2 * DRAWS}
