"""The engine room: order, bounds, liveness and endings, with real images and engines."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from glass_edge.runtime.engines.base import EngineOptions, Judgement
from glass_edge.runtime.engines.device import DeviceEngine
from glass_edge.runtime.engines.registry import open_engine
from glass_edge.runtime.machine.cpus import available_cpus
from glass_edge.runtime.machine.timings import STAGES, Timings
from glass_edge.runtime.streaming import intake
from glass_edge.runtime.streaming.intake import Intake
from waiting import PATIENCE, until

from glass_edge import Detector, DetectorOptions, EngineError, Failure

pytestmark = pytest.mark.usefixtures("every_cpu")


@pytest.fixture(scope="module")
def detector(vit_bundle):
    """Three workers and batches of four images, more than most tests have of either."""
    return Detector(vit_bundle, DetectorOptions(crops=2, batch_size=8, workers=3))


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "glass-worker"]


def test_records_keep_the_order_of_images_of_very_different_cost(
    detector, photographs, tmp_path, photograph
):
    photograph.resize((9000, 7000)).save(tmp_path / "large.jpg")
    paths = [str(tmp_path / "large.jpg"), *map(str, photographs)] * 4
    random.Random(3).shuffle(paths)
    assert [record.path for record in detector.stream(paths)] == paths


@pytest.mark.parametrize("bad", [0, 1, 3, 4, 11])
def test_bad_images_leave_holes_that_nobody_else_falls_into(bad, detector, photographs):
    """Batches of four, twelve images, some of them missing: the others' verdicts are theirs."""
    good = [str(path) for path in photographs]
    mixed = [good[index % len(good)] for index in range(12)]
    expected = {record.path: record for record in detector.stream(good)}
    mixed[bad] = mixed[(bad + 5) % 12] = "missing.jpg"
    for path, record in zip(mixed, detector.stream(mixed), strict=True):
        assert record.path == path
        if path == "missing.jpg":
            assert isinstance(record, Failure)
        else:
            assert record.crops[0].top == expected[path].crops[0].top
            logits = list(expected[path].logits.values())
            assert list(record.logits.values()) == pytest.approx(logits, abs=1e-5)


def test_nothing_but_bad_images(detector):
    records = list(detector.stream(["missing.jpg"] * 9))
    assert [type(record) for record in records] == [Failure] * 9


def test_no_images_at_all(detector):
    assert list(detector.stream([])) == []


def test_records_come_while_the_source_waits_for_more_images(detector, photographs):
    """Three images are fewer than a batch; whoever sent them wants to know before the fourth."""
    more = threading.Event()

    def source():
        yield from photographs[:3]
        assert more.wait(PATIENCE)
        yield photographs[3]

    with detector.stream(source()) as records:
        first = [next(records) for _ in range(3)]
        assert not more.is_set()
        more.set()
        assert [record.path for record in [*first, *records]] == [str(p) for p in photographs[:4]]


def test_finish_gives_back_what_was_begun_and_no_more(detector, photographs):
    """Even where the source would block for ever."""
    blocked = threading.Event()

    def source():
        yield from photographs[:5]
        blocked.set()
        threading.Event().wait()

    with detector.stream(source()) as records:
        first = next(records)
        assert blocked.wait(PATIENCE)
        records.finish()
        assert [r.path for r in [first, *records]] == [str(path) for path in photographs[:5]]


def test_closing_early_ends_the_threads(detector, photographs):
    with detector.stream(photographs * 50) as records:
        next(records)
        assert workers()
    assert not workers()
    assert list(records) == []


def test_images_are_taken_only_a_little_ahead(vit_bundle, photographs):
    taken = []

    def source():
        for path in photographs * 1000:
            taken.append(path)
            yield path

    with Detector(vit_bundle, DetectorOptions(crops=1, workers=1)).stream(source()) as records:
        next(records)
        time.sleep(1)  # in which a pipeline without bounds would take thousands
        assert len(taken) < 100


def test_files_being_read_count_as_held(tmp_path, monkeypatch):
    """Four readers of a slow disk: large files are read one by one, small ones all at once."""
    going_on, let_go = [], threading.Event()

    def read_slowly(path: Path) -> bytes:
        going_on.append(path)
        assert let_go.wait(PATIENCE)
        return path.read_bytes()

    monkeypatch.setattr(intake, "read_image", read_slowly)
    for size, at_once in ((1000, 1), (300, 4)):
        paths = [tmp_path / f"{size}-{number}" for number in range(8)]
        for path in paths:
            path.write_bytes(bytes(size))
        changed = threading.Condition()
        reader = Intake(paths, None, changed, Timings(), window=99, files=99, file_bytes=1000)
        with ThreadPoolExecutor(4) as pool:
            for _ in range(4):
                pool.submit(reader.read)
            until(lambda: len(going_on) >= at_once)  # noqa: B023
            time.sleep(0.2)  # in which more would come
            assert len(going_on) == at_once
            let_go.set()
            for _ in paths:
                with changed:
                    assert changed.wait_for(lambda: reader.ready, PATIENCE)  # noqa: B023
                    reader.take()
        going_on.clear()
        let_go.clear()


def test_files_are_read_in_bursts(photographs):
    """Once as many wait as may, none is read until half of them are taken up."""
    changed = threading.Condition()
    source = iter(photographs * 9)
    left = len(photographs) * 9
    reader = Intake(source, None, changed, Timings(), window=99, files=4, file_bytes=10**9)

    def waiting_after_a_while() -> int:
        time.sleep(0.2)
        return reader.waiting

    with ThreadPoolExecutor(2) as pool:
        for _ in range(2):
            pool.submit(reader.read)
        with changed:
            assert changed.wait_for(lambda: reader.waiting == 4, PATIENCE)
            reader.take()
        assert waiting_after_a_while() == 3
        with changed:
            reader.take()
            assert changed.wait_for(lambda: reader.waiting == 4, PATIENCE)
        assert waiting_after_a_while() == 4
        assert len(list(source)) == left - 6
        with changed:
            reader.ended = True
            changed.notify_all()


def test_latency_mode_takes_one_image_at_a_time(vit_bundle, photographs):
    taken = []

    def source():
        for path in photographs:
            taken.append(path)
            yield path

    usual = Detector(vit_bundle).detect(photographs)
    detector = Detector(vit_bundle, DetectorOptions(mode="latency"))
    with detector.stream(source()) as records:
        for number, (record, expected) in enumerate(zip(records, usual, strict=True)):
            assert len(taken) <= number + 2
            assert record.crops[0].top == expected.crops[0].top
            assert record.score == pytest.approx(expected.score, abs=1e-5)


def test_what_the_source_raises_is_raised_where_the_records_are_read(detector, photographs):
    def source():
        yield photographs[0]
        raise LookupError("the list of images is gone")

    with detector.stream(source()) as records, pytest.raises(LookupError, match="is gone"):
        list(records)
    assert not workers()


def test_an_engine_that_fails_ends_the_run(vit_bundle, photographs, monkeypatch):
    detector = Detector(vit_bundle, DetectorOptions(crops=2, batch_size=8, workers=3))

    def broken(role, inputs):
        raise EngineError("the engine is out of memory.")

    monkeypatch.setattr(detector._engine, "run", broken)
    with detector.stream(photographs * 20) as records, pytest.raises(EngineError, match="memory"):
        list(records)
    assert not workers()


def test_an_engine_elsewhere_gets_a_thread_of_its_own(vit_bundle, photographs):
    """As on a GPU: workers only make views, and batches that are not full are judged, too."""
    detector = Detector(vit_bundle, DetectorOptions(crops=2, batch_size=8, workers=2))
    expected = detector.detect(photographs)
    detector._engine.on_host, detector._engine.lanes = False, 1
    for count in (1, 2, 5, len(photographs)):
        verdicts = detector.detect(photographs[:count])
        assert [verdict.path for verdict in verdicts] == [str(path) for path in photographs[:count]]
        for verdict, other in zip(verdicts, expected, strict=False):
            assert verdict.score == pytest.approx(other.score, abs=1e-5)


class Elsewhere(DeviceEngine):
    """An engine on a device, which counts how many of its runs go on at once."""

    name, description, precision = "elsewhere", "elsewhere", "fp32"

    def __init__(self, manifest):
        super().__init__(manifest, batch_size=2)
        self.inside, self.seen = [], []

    def outputs_now(self, stream, pixels):
        self.work()
        return [np.zeros((len(pixels), 8), np.float32)]

    def aggregate_now(self, features):
        raise NotImplementedError

    def judge_now(self, views):
        self.work()
        crops = views["local"]
        shapes = (*crops.shape[:2], 2), crops.shape[:3]
        return Judgement(*(np.zeros(shape, np.float32) for shape in shapes))

    def work(self):
        self.inside.append(self)
        self.seen.append(len(self.inside))
        time.sleep(0.05)
        self.inside.pop()


def test_streams_that_share_an_engine_elsewhere_take_turns(vit_bundle, photographs):
    """Its runs share buffers, so two at once would give one image the other's verdict."""
    engine, small = Elsewhere(vit_bundle.manifest), photographs[:3]
    detector = Detector(vit_bundle, DetectorOptions(crops=2, batch_size=2, workers=2))
    detector._engine = engine
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(detector.detect, small) for _ in range(3)]
        runs.append(pool.submit(engine.features, "local", np.zeros((9, 1))))
        for run in runs:
            run.result()
    assert len(engine.seen) == 3 * 3 + 1
    assert max(engine.seen) == 1


def test_several_threads_may_use_one_detector(detector, photographs):
    expected = detector.detect(photographs)
    with ThreadPoolExecutor(4) as pool:
        for verdicts in pool.map(detector.detect, [photographs] * 8):
            for verdict, other in zip(verdicts, expected, strict=True):
                assert verdict.score == pytest.approx(other.score, abs=1e-5)
                assert [c.top for c in verdict.crops] == [c.top for c in other.crops]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_place_in_a_batch_does_not_change_a_bit(engine, precision, make_precision):
    """So that a run's numbers do not depend on which thread was faster."""
    bundle = make_precision("vit", precision)
    side = bundle.manifest.views.crop_size
    network = open_engine(bundle, engine, EngineOptions("cpu", threads=1, lanes=2, batch_size=6))
    rng = np.random.default_rng(5)
    views = {
        "global": rng.uniform(0, 255, (6, side, side, 3)).astype(np.float32),
        "local": rng.integers(0, 256, (6, 1, side, side, 3), np.uint8),
    }
    expected = network.judge(views).logits
    for order in (rng.permutation(6) for _ in range(4)):
        shuffled = {stream: pixels[order] for stream, pixels in views.items()}
        assert np.array_equal(network.judge(shuffled).logits, expected[order])


def test_arrays_given_are_let_go(detector):
    """A program that feeds frames must not find hundreds of them held for their records."""
    alive: list[np.ndarray] = []
    counts = []

    class Frame(np.ndarray):
        def __del__(self):
            alive.pop()

    def source():
        for _ in range(60):
            frame = np.zeros((300, 400, 3), np.uint8).view(Frame)
            alive.append(None)
            counts.append(len(alive))
            yield frame

    assert sum(1 for _ in detector.stream(source())) == 60
    assert max(counts) < 30


def test_every_stage_is_timed(detector, photographs):
    with detector.stream(photographs) as records:
        list(records)
        seconds = records.timings.seconds
    assert list(seconds) == list(STAGES)
    for stage in ("read", "decode", "views", "infer", "aggregate"):
        assert seconds[stage] > 0


def bound(vit_bundle, images, *, engine=0.0, elsewhere=False, consumer=0.0, **options) -> str:
    """Return what is said to bound a run in which one of the parts sleeps so many seconds."""
    detector = Detector(vit_bundle, DetectorOptions(crops=2, batch_size=2, **options))
    run = detector._engine.run
    detector._engine.run = lambda *given: (time.sleep(engine), run(*given))[1]
    if elsewhere:
        detector._engine.on_host, detector._engine.lanes = False, 1
    with detector.stream(images) as records:
        for _ in records:
            time.sleep(consumer)
        return records.timings.bottleneck()


def slowly(images):
    for image in images:
        time.sleep(0.1)
        yield image


def test_what_bounds_a_run_is_named(vit_bundle, photographs):
    small, large = photographs[:3], photographs[-1:]
    assert "for images: they come too slowly" in bound(vit_bundle, slowly(small))
    assert "for records to be taken" in bound(vit_bundle, small[:1] * 5, workers=1, consumer=0.1)
    assert "for memory: a larger --memory" in bound(vit_bundle, large * 4, workers=3, memory=1)
    assert "the engine takes" in bound(vit_bundle, small * 2, workers=1, engine=0.1)
    assert "decoding and views take" in bound(vit_bundle, large * 2, workers=1)


def test_an_engine_that_workers_wait_for_is_named(vit_bundle, photographs):
    """One that computes elsewhere, and one whose single run takes all CPUs."""
    small = photographs[:3] * 3
    for options in ({"elsewhere": True}, {"threads": available_cpus()}):
        said = bound(vit_bundle, small, workers=2, engine=0.05, **options)
        assert "of their time for the engine: a bundle in INT8" in said


def test_workers_sleep_while_there_is_nothing_to_judge(detector, photographs):
    """The source waits for more images: nobody looks again and again."""
    more = threading.Event()

    def source():
        yield photographs[0]
        assert more.wait(PATIENCE)

    with detector.stream(source()) as records:
        next(records)

        def rest() -> bool:
            waited = records.timings.seconds["wait"]
            time.sleep(0.3)
            return records.timings.seconds["wait"] == waited  # one wait goes on, none has ended

        until(rest)
        assert rest()
        more.set()


def test_finish_between_a_look_and_the_wait_ends_the_run(detector, monkeypatch):
    """A signal handler may run there. Nothing was begun, and the source blocks."""
    empty, finished = Intake.empty.fget, threading.Event()

    def interrupted(intake):
        found = empty(intake)
        if threading.current_thread() is reader and not finished.is_set():
            finished.set()
            records.finish()
        return found

    def source():
        threading.Event().wait()
        yield

    monkeypatch.setattr(Intake, "empty", property(interrupted))
    with detector.stream(source()) as records:
        reader = threading.Thread(target=lambda: list(records), daemon=True)
        reader.start()
        reader.join(PATIENCE)
        assert finished.is_set()
        assert not reader.is_alive()
