"""A stream that nobody closes ends by itself: no threads stay, and no process is aborted."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import slow_but
from waiting import until

from glass_edge import Detector, DetectorOptions

RUNS = 6

LOOP = """
import sys
from glass_edge import Detector, DetectorOptions
bundle, engine, how, *photographs = sys.argv[1:]
detector = Detector(bundle, DetectorOptions(engine=engine, crops=2))
if how == "break":
    for record in detector.stream(photographs * 4):
        break
elif how == "next":
    next(iter(detector.stream(photographs * 4)))
elif how == "kept":
    kept = detector.stream(photographs * 4)
    next(kept)
else:
    for record in detector.stream(photographs * 4):
        raise LookupError("the caller's own")
"""


def glass_threads() -> list[str]:
    names = (thread.name for thread in threading.enumerate())
    return [name for name in names if name.startswith("glass-")]


def wait_for_no_threads() -> None:
    until(lambda: not glass_threads(), 10)


@pytest.fixture(scope="module")
def detector(vit_bundle) -> Detector:
    return Detector(vit_bundle, DetectorOptions(crops=2, batch_size=4, workers=2))


def test_a_loop_that_is_left_leaves_no_threads(detector, photographs):
    for _ in range(3):
        for record in detector.stream(photographs * 20):
            assert record.path == str(photographs[0])
            break
    wait_for_no_threads()


def test_an_exception_in_the_body_leaves_no_threads(detector, photographs):
    def body() -> None:
        for _ in detector.stream(photographs * 20):
            raise LookupError

    with pytest.raises(LookupError):
        body()
    wait_for_no_threads()


def test_a_stream_in_a_cycle_ends_when_garbage_is_collected(detector, photographs):
    """Whatever thread collects it, perhaps one of the stream's own."""
    stream = detector.stream(photographs * 20)
    next(stream)
    cycle = [stream]
    cycle.append(cycle)
    del stream, cycle
    assert glass_threads()
    gc.collect()
    wait_for_no_threads()


@pytest.mark.skipif(sys.platform != "linux", reason="isolation and /proc are Linux's")
def test_processes_that_decode_end_with_a_stream_that_is_left(vit_bundle, photographs):
    """None runs on, and none that ended stays unburied."""

    def children() -> int:
        found = 0
        for task in Path("/proc/self/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended just now
                found += len((task / "children").read_text().split())
        return found

    detector = Detector(vit_bundle, DetectorOptions(crops=2, workers=2, isolate=True))
    before = children()
    for _ in detector.stream(photographs * 20):
        assert children() > before
        break
    wait_for_no_threads()
    until(lambda: children() == before, 10)


def test_a_stream_that_never_began_has_no_threads(detector, photographs):
    detector.stream(photographs)
    assert not glass_threads()


ENDINGS = {"break": 0, "next": 0, "kept": 0, "exception": 1}
QUICK = [("next", "onnxruntime"), ("break", "openvino")]


@pytest.mark.parametrize(
    ("how", "engine"),
    slow_but(QUICK, [(how, engine) for how in ENDINGS for engine in ("onnxruntime", "openvino")]),
)
def test_the_process_ends_as_the_program_says(how, engine, vit_bundle, photographs):
    """A thread within an engine while the interpreter ends would abort the process (SIGABRT)."""
    images = [str(path) for path in photographs[:6]]
    command = [sys.executable, "-c", LOOP, str(vit_bundle.path), engine, how, *images]
    for _ in range(RUNS if how == "break" else 3):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == ENDINGS[how], done.stderr
        if how == "exception":
            assert done.stderr.rstrip().endswith("LookupError: the caller's own")
        else:
            assert done.stderr == ""
