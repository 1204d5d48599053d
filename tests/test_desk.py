"""Single images handed in at a desk: judged as ever, together, and none at another's cost."""

from __future__ import annotations

import threading
import time
import weakref
from argparse import Namespace
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import detector_files as files
import msgspec
import numpy as np
import pytest
import test_fusing
import test_spai
from conftest import encoded, with_rule
from glass_edge.runtime.claims.claims import ClaimOptions
from glass_edge.runtime.judging.desk import PARTS, Answer, Desk
from glass_edge.runtime.machine.errors import FaultError
from glass_edge.runtime.streaming.view_maker import ViewMaker
from PIL import Image
from test_detector_bundles import exported
from test_pipeline import Elsewhere
from waiting import PATIENCE, until

from glass_edge import (
    Bundle,
    Detector,
    DetectorOptions,
    EngineError,
    Failure,
    InputError,
    Verdict,
)

pytestmark = pytest.mark.usefixtures("every_cpu")

WAITING = 64


@pytest.fixture(scope="module")
def bundle(vit_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """With a rule by which some of the photographs need more crops than others."""
    return with_rule(vit_bundle, tmp_path_factory.mktemp("rule") / "vit.glass", (0.3, 0.2, 0.1, 0))


@pytest.fixture(scope="module")
def detector(bundle: Bundle) -> Detector:
    return Detector(bundle, DetectorOptions(crops=2, batch_size=8, workers=2))


@pytest.fixture
def open_desk() -> Iterator[Callable[[Detector], Desk]]:
    """Opens desks, and closes them in the end; nothing of them stays."""
    with ExitStack() as opened:
        yield lambda detector: opened.enter_context(closing(detector.desk(WAITING)))
    assert not desk_threads()


@pytest.fixture
def desk(detector: Detector, open_desk: Callable[[Detector], Desk]) -> Desk:
    return open_desk(detector)


@pytest.fixture(scope="module")
def contents(photographs: list[Path]) -> list[bytes]:
    """Photographs up to a megapixel."""
    return [path.read_bytes() for path in photographs[1:6]]


@pytest.fixture(scope="module")
def huge(photograph: Image.Image) -> bytes:
    """A JPEG of 100 megapixels."""
    return encoded(photograph.resize((12_500, 8_000)), "JPEG")


def check_alike(found: Answer, expected: Verdict) -> None:
    """Check that a record says the same; the size of a batch may move the last digits."""
    record = found.record
    assert isinstance(record, Verdict)
    assert record.score == pytest.approx(expected.score, abs=1e-5)
    for one, other in zip(record.crops, expected.crops, strict=True):
        assert one == msgspec.structs.replace(
            other, attention=one.attention, influence=one.influence
        )
        assert one.attention == pytest.approx(other.attention, abs=1e-5)
        assert one.influence == pytest.approx(other.influence, abs=1e-5)
    same = ("score", "logits", "probabilities", "crops", "path", "file")
    for name in [name for name in record.__struct_fields__ if name not in same]:
        assert getattr(record, name) == getattr(expected, name), name


def desk_threads() -> list[str]:
    names = (thread.name for thread in threading.enumerate())
    return [name for name in names if name in ("glass-desk", "glass-worker", "glass-reader")]


# --- what is answered -------------------------------------------------------------------------

ASKED = (
    {},
    {"crops": 5, "seed": 7},
    {"seed": -3},
    {"threshold": 1.0, "crops": 3},
    {"influence": True},
    {"crops": "auto"},
    {"crops": "auto", "influence": True, "seed": 5},
    {"claims": ClaimOptions(provenance=True)},
)


def test_images_that_are_asked_different_things_share_a_desk(bundle, desk, contents):
    """All at once and mixed, so that roads alternate: each gets what it was asked."""
    usual = {"crops": 2}
    options = [DetectorOptions(**usual | asked) for asked in ASKED]
    handed = [
        [desk.hand_in(content, each) for each in (options if turn % 2 else options[::-1])]
        for turn, content in enumerate(contents)
    ]
    for place, each in enumerate(options):
        expected = Detector(bundle, each).detect(contents)
        for turn, (row, verdict) in enumerate(zip(handed, expected, strict=True)):
            of_row = row if turn % 2 else row[::-1]
            check_alike(of_row[place].answer.result(PATIENCE), verdict)


def test_an_image_that_asks_for_nothing_is_judged_as_the_desk_was_opened(detector, desk, contents):
    expected = detector.detect(contents)
    handed = [desk.hand_in(content, name=f"{place}") for place, content in enumerate(contents)]
    for place, (each, verdict) in enumerate(zip(handed, expected, strict=True)):
        answer = each.answer.result(PATIENCE)
        check_alike(answer, verdict)
        assert answer.record.path == f"{place}"


def test_what_cannot_be_judged_has_a_record_that_says_why(detector, desk, contents):
    for bad in (b"", b"words", contents[2][:5000]):
        answer = desk.hand_in(bad, name="bad").answer.result(PATIENCE)
        [expected] = detector.stream([bad])
        assert answer.record == msgspec.structs.replace(expected, path="bad")
        assert answer.together == 0
        assert list(answer.seconds) == ["queue", "views"]


def test_what_is_no_image_at_all_is_a_fault_that_others_survive(desk, contents):
    answer = desk.hand_in(42).answer.result(PATIENCE)
    assert isinstance(answer.fault, FaultError)
    assert "not as int" in answer.record.error.message
    assert isinstance(desk.hand_in(contents[0]).answer.result(PATIENCE).record, Verdict)


def test_nothing_of_an_image_is_kept_once_it_was_answered(desk):
    """Not by threads that wait for the next one, either."""
    pixels = np.zeros((300, 400, 3), np.uint8)
    gone = threading.Event()
    weakref.finalize(pixels, gone.set)
    answer = desk.hand_in(pixels).answer
    del pixels
    answer.result(PATIENCE)
    assert gone.wait(PATIENCE)


def test_a_file_that_is_not_there_has_a_record(desk):
    answer = desk.hand_in("missing.jpg").answer.result(PATIENCE)
    assert isinstance(answer.record, Failure)
    assert answer.record.error.type == "UnreadableError"


def test_what_the_detector_cannot_be_asked_is_refused_at_once(
    open_desk, desk, vit_bundle, contents
):
    with pytest.raises(InputError, match="threshold"):
        desk.hand_in(contents[0], DetectorOptions(crops="auto", threshold=0.9))
    opened = open_desk(Detector(vit_bundle))
    with pytest.raises(InputError):
        opened.hand_in(contents[0], DetectorOptions(crops="auto"))
    opened.hand_in(contents[0]).answer.result(PATIENCE)


def test_an_answer_tells_where_its_time_went(desk, contents):
    began = time.perf_counter()
    answer = desk.hand_in(contents[0]).answer.result(PATIENCE)
    whole = time.perf_counter() - began
    assert tuple(answer.seconds) == PARTS
    assert all(seconds >= 0 for seconds in answer.seconds.values())
    assert 0 < sum(answer.seconds.values()) <= whole


def test_any_thread_may_hand_images_in(detector, desk, contents):
    expected = detector.detect(contents) * 2
    with ThreadPoolExecutor(8) as pool:
        handed = list(pool.map(desk.hand_in, contents * 2))
    for each, verdict in zip(handed, expected, strict=True):
        check_alike(each.answer.result(PATIENCE), verdict)


# --- in which order, and how many together ----------------------------------------------------


def test_a_large_image_holds_no_small_one_up(desk, huge, contents):
    done: list[str] = []

    def note(name: str) -> Callable[[object], None]:
        return lambda _: done.append(name)

    first = desk.hand_in(huge)
    first.answer.add_done_callback(note("huge"))
    small = [desk.hand_in(contents[place % 4]) for place in range(12)]
    for place, each in enumerate(small):
        each.answer.add_done_callback(note(f"small {place}"))
    wait_for([first.answer, *(each.answer for each in small)], PATIENCE)
    until(lambda: len(done) == 13)  # who waits is woken before this is called
    assert done[-1] == "huge"
    assert first.answer.result().record.width == 12_500


def test_an_image_alone_is_judged_without_waiting_for_others(desk, contents):
    desk.hand_in(contents[0]).answer.result(PATIENCE)  # which makes room for views
    answers = [desk.hand_in(contents[0]).answer.result(PATIENCE) for _ in range(10)]
    assert {answer.together for answer in answers} == {1}
    assert min(answer.seconds["batch"] for answer in answers) < 0.005


def test_images_that_are_there_together_share_batches(open_desk, vit_bundle, contents, monkeypatch):
    """While the engine is at work, those that come meet in a batch of four."""
    detector = Detector(vit_bundle, DetectorOptions(crops=2, batch_size=8, workers=1))
    began, let_go = threading.Event(), threading.Event()
    judge = detector._engine.judge

    def held(*given: Any) -> Any:
        began.set()
        assert let_go.wait(PATIENCE)
        return judge(*given)

    monkeypatch.setattr(detector._engine, "judge", held)
    desk = open_desk(detector)
    first = desk.hand_in(contents[0])
    assert began.wait(PATIENCE)
    others = [desk.hand_in(contents[place % 4]) for place in range(12)]
    until(lambda: desk._pipeline._intake.waiting == 8)  # all that a worker has in store
    let_go.set()
    assert first.answer.result(PATIENCE).together == 1
    sizes = [each.answer.result(PATIENCE).together for each in others]
    assert max(sizes) == 4
    runs = sum(1 / size for size in sizes)
    assert runs < 8  # three, if files are read more quickly than judged


@pytest.mark.parametrize(
    ("on_host", "fixed_batch", "together"), [(True, False, 1), (True, True, 3), (False, False, 3)]
)
def test_few_images_wait_for_each_other_only_where_that_pays(
    on_host, fixed_batch, together, open_desk, vit_bundle, contents, monkeypatch
):
    """On the host's CPUs all of a batch would have their verdicts when the last has.

    Unless a graph computes a full batch in any case.
    """
    backbone = msgspec.structs.replace(vit_bundle.manifest.backbone, fixed_batch=fixed_batch)
    bundle = replace(
        vit_bundle, manifest=msgspec.structs.replace(vit_bundle.manifest, backbone=backbone)
    )
    detector = Detector(bundle, DetectorOptions(crops=2, batch_size=8, workers=1))
    detector._engine.on_host, detector._engine.lanes = on_host, 1
    began, let_go, made = threading.Event(), threading.Event(), threading.Semaphore(0)
    judge, make = detector._engine.judge, ViewMaker.make

    def held(*given: Any) -> Any:
        began.set()
        assert let_go.wait(PATIENCE)
        return judge(*given)

    def counted(*given: Any) -> Any:
        found = make(*given)
        made.release()
        return found

    monkeypatch.setattr(detector._engine, "judge", held)
    monkeypatch.setattr(ViewMaker, "make", counted)
    desk = open_desk(detector)
    handed = [desk.hand_in(contents[0])]
    assert began.wait(PATIENCE)
    handed += [desk.hand_in(contents[place]) for place in range(3)]
    if on_host:
        until(lambda: desk._pipeline._intake.waiting == 3)
    else:
        assert all(made.acquire(timeout=PATIENCE) for _ in handed)
    let_go.set()
    first, *others = (each.answer.result(PATIENCE).together for each in handed)
    assert (first, others) == (1, [together] * 3)


def test_images_of_other_seeds_share_a_batch_and_those_of_other_crops_do_not(
    open_desk, vit_bundle, contents, monkeypatch
):
    detector = Detector(vit_bundle, DetectorOptions(crops=2, batch_size=8, workers=1))
    began, let_go = threading.Event(), threading.Event()
    judge = detector._engine.judge

    def held(*given: Any) -> Any:
        began.set()
        assert let_go.wait(PATIENCE)
        return judge(*given)

    monkeypatch.setattr(detector._engine, "judge", held)
    desk = open_desk(detector)
    desk.hand_in(contents[0])
    assert began.wait(PATIENCE)
    seeds = [desk.hand_in(contents[4], DetectorOptions(crops=2, seed=seed)) for seed in range(4)]
    crops = [desk.hand_in(contents[0], DetectorOptions(crops=crops)) for crops in (1, 2, 3, 2)]
    until(lambda: desk._pipeline._intake.waiting == 8)
    let_go.set()
    assert [each.answer.result(PATIENCE).together for each in seeds] == [4] * 4
    assert [each.answer.result(PATIENCE).together for each in crops] == [1] * 4
    tops = {each.answer.result().record.crops[0].top for each in seeds}
    assert len(tops) > 1


# --- those who leave, and what fails ----------------------------------------------------------


def test_nothing_is_computed_for_who_has_left(open_desk, vit_bundle, contents, monkeypatch):
    detector = Detector(vit_bundle, DetectorOptions(workers=1))
    made: list[bytes] = []
    began, let_go = threading.Event(), threading.Event()
    make = ViewMaker.make

    def noted(self: ViewMaker, batch: Any, slot: int, content: Any, look: Any) -> Any:
        made.append(content)
        began.set()
        assert let_go.wait(PATIENCE)
        return make(self, batch, slot, content, look)

    monkeypatch.setattr(ViewMaker, "make", noted)
    desk = open_desk(detector)
    first = desk.hand_in(contents[0])
    assert began.wait(PATIENCE)
    gone, stays = desk.hand_in(contents[1]), desk.hand_in(contents[2])
    gone.left = True
    let_go.set()
    answer = gone.answer.result(PATIENCE)
    assert answer.record.error.message == "nobody waits for it any more."
    for each in (first, stays):
        assert isinstance(each.answer.result(PATIENCE).record, Verdict)
    assert made == [contents[0], contents[2]]


def test_a_fault_costs_one_image_its_verdict(desk, contents, monkeypatch):
    make = ViewMaker.make

    def faulty(self: ViewMaker, batch: Any, slot: int, content: Any, look: Any) -> Any:
        if content is contents[1]:
            raise RuntimeError("a library is at fault")
        return make(self, batch, slot, content, look)

    monkeypatch.setattr(ViewMaker, "make", faulty)
    handed = [desk.hand_in(content) for content in contents * 3]
    for place, each in enumerate(handed):
        if place % len(contents) == 1:
            answer = each.answer.result(PATIENCE)
            assert isinstance(answer.fault, FaultError)
            assert isinstance(answer.fault.__cause__, RuntimeError)
            assert answer.record.error.message == (
                "RuntimeError: a library is at fault. This is a fault of glass-edge."
            )
        else:
            assert isinstance(each.answer.result(PATIENCE).record, Verdict)
    assert desk.failure is None


def test_an_engine_that_fails_fails_all_that_wait(open_desk, vit_bundle, contents, monkeypatch):
    detector = Detector(vit_bundle, DetectorOptions(crops=2, workers=2))
    began, let_go = threading.Event(), threading.Event()

    def broken(*_: object) -> None:
        began.set()
        assert let_go.wait(PATIENCE)
        raise EngineError("the engine is out of memory.")

    monkeypatch.setattr(detector._engine, "run", broken)
    desk = open_desk(detector)
    handed = [desk.hand_in(content) for content in contents * 4]
    assert began.wait(PATIENCE)
    let_go.set()
    for each in handed:
        assert isinstance(each.answer.exception(PATIENCE), EngineError)
        assert "out of memory" in str(each.answer.exception())
    assert desk.failure is handed[0].answer.exception()
    with pytest.raises(EngineError, match="nothing is judged any more") as refused:
        desk.hand_in(contents[0])
    assert refused.value.__cause__ is desk.failure
    desk.close()
    assert not desk_threads()


def test_closing_answers_those_that_wait(open_desk, detector, contents):
    desk = open_desk(detector)
    handed = [desk.hand_in(content) for content in contents * 12]
    handed[0].answer.result(PATIENCE)
    desk.close()
    for each in handed:
        assert each.answer.done()
    refused = [each for each in handed if each.answer.exception() is not None]
    assert refused
    assert {str(each.answer.exception()) for each in refused} == {"nothing is judged any more."}
    assert not desk_threads()
    with pytest.raises(EngineError, match="nothing is judged any more"):
        desk.hand_in(contents[0])
    assert desk.failure is None


def test_a_desk_closes_that_nobody_came_to(detector):
    detector.desk(WAITING).close()
    assert not desk_threads()


# --- other detectors, modes and engines -------------------------------------------------------


@pytest.fixture(scope="module")
def small(contents: list[bytes]) -> list[bytes]:
    """Without the one that is smaller than some views."""
    return contents[1:5]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiled", "guided", "centred"])
def test_detectors_of_every_kind_work_through_the_desk(open_desk, name, shared, small):
    if name == "tiled":
        state = {"model": test_spai.STATE, "config": Namespace(tiles=4)}
        bundle = exported(state, "spai", shared)
    elif name == "guided":
        bundle = exported({"model": test_fusing.STATES["fusing"]()}, "fusing", shared)
    else:
        bundle = exported(files.cnnspot(), "centred", shared, preset="centre-224")
    detector = Detector(bundle, DetectorOptions(workers=2))
    expected = detector.detect(small)
    desk = open_desk(detector)
    handed = [desk.hand_in(content) for content in small * 2]
    influence = [desk.hand_in(content, DetectorOptions(influence=True)) for content in small]
    for each, verdict in zip(handed, expected * 2, strict=True):
        check_alike(each.answer.result(PATIENCE), verdict)
    of_influence = Detector(bundle, DetectorOptions(influence=True)).detect(small)
    for each, verdict in zip(influence, of_influence, strict=True):
        check_alike(each.answer.result(PATIENCE), verdict)
    with pytest.raises(InputError, match="leave the number of crops out"):
        desk.hand_in(small[0], DetectorOptions(crops=4))


def test_latency_mode_judges_one_image_at_a_time(open_desk, bundle, contents):
    detector = Detector(bundle, DetectorOptions(mode="latency", crops=2))
    expected = detector.detect(contents)
    desk = open_desk(detector)
    handed = [desk.hand_in(content) for content in contents]
    for each, verdict in zip(handed, expected, strict=True):
        answer = each.answer.result(PATIENCE)
        check_alike(answer, verdict)
        assert answer.together == 1


def test_an_engine_on_a_device_is_fed_by_workers_that_only_make_views(open_desk, bundle, contents):
    detector = Detector(bundle, DetectorOptions(crops=2, batch_size=8, workers=2))
    expected = detector.detect(contents)
    detector._engine.on_host, detector._engine.lanes = False, 1
    desk = open_desk(detector)
    auto = DetectorOptions(crops="auto")
    handed = [desk.hand_in(content) for content in contents]
    settled = [desk.hand_in(content, auto) for content in contents]
    for each, verdict in zip(handed, expected, strict=True):
        check_alike(each.answer.result(PATIENCE), verdict)
    for each, verdict in zip(settled, Detector(bundle, auto).detect(contents), strict=True):
        check_alike(each.answer.result(PATIENCE), verdict)


def test_runs_on_a_device_take_turns(open_desk, vit_bundle, contents):
    engine = Elsewhere(vit_bundle.manifest)
    detector = Detector(vit_bundle, DetectorOptions(crops=2, batch_size=2, workers=2))
    detector._engine = engine
    desk = open_desk(detector)
    handed = [desk.hand_in(content) for content in contents[:4] * 3]
    records = [each.answer.result(PATIENCE).record for each in handed]
    assert {record.engine for record in records if isinstance(record, Verdict)} == {"elsewhere"}
    assert max(engine.seen) == 1


def test_arrays_are_judged_too(desk, detector):
    array = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    check_alike(desk.hand_in(array).answer.result(PATIENCE), detector.detect(array)[0])
