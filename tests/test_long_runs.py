"""However long a run is, it holds no more than after its first images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from itertools import cycle, islice
from pathlib import Path

import pytest
from conftest import slow_but
from PIL import Image

ENGINES = ("onnxruntime", "openvino")
GLASS_RUN = Path(sys.executable).parent / "glass-run"
MEMORY = 40e6  # bytes: less than a graph's weights held ten times
# With one arena, what threads leave free in theirs does not look like growth.
ENVIRONMENT = os.environ | {"MALLOC_ARENA_MAX": "1"}
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")

HELD = """
import json, os, sys, time
from glass_edge import Detector, DetectorOptions

bundle, engine, warm, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

def held():
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return {
        "memory": int(status["VmRSS"].split()[0]) * 1024,
        "peak": int(status["VmHWM"].split()[0]) * 1024,
        "files": len(os.listdir("/proc/self/fd")),
        "threads": int(status["Threads"]),
    }

def report(before):
    after, deadline = held(), time.monotonic() + 10
    # The system may count a thread for a moment after it was joined.
    while after["threads"] > before["threads"] and time.monotonic() < deadline:
        time.sleep(0.01)
        after = held()
    print(json.dumps({name: value - before[name] for name, value in after.items()}))
"""
STREAM = """
# Two workers that run a graph at once, which may first happen late, hold two batches: small ones.
detector = Detector(bundle, DetectorOptions(engine=engine, crops=1, batch_size=8))
paths = (line.rstrip() for line in sys.stdin)
for number, record in enumerate(detector.stream(paths), 1):
    assert record.status == "ok", record
    if number == warm:
        before = held()
assert number == count
report(before)
"""
LARGE = """
detector = Detector(bundle, DetectorOptions(engine=engine))
detector.detect([sys.argv[5]])
before = held()
assert all(record.status == "ok" for record in detector.stream(line.rstrip() for line in sys.stdin))
report(before)
"""
COME_AND_GO = """
for number in range(count):
    detector = Detector(bundle, DetectorOptions(engine=engine, crops=1))
    detector.detect([sys.argv[5]])
    del detector
    if number == warm:
        before = held()
report(before)
"""


def growth(
    program: str, bundle: Path, engine: str, *images: Path, warm: int, count: int
) -> dict[str, int]:
    """Return by how much a process grows between its ``warm``-th image or detector and the last."""
    command = [sys.executable, "-c", HELD + program, bundle, engine, str(warm), str(count)]
    lines = "".join(f"{path}\n" for path in islice(cycle(images), count))
    done = subprocess.run(
        [*command, *images[:1]],
        input=lines,
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


def assert_flat(growth: dict[str, int]) -> None:
    assert growth["peak"] < MEMORY
    assert growth["files"] <= 0
    assert growth["threads"] <= 0


@pytest.fixture(scope="module")
def thumbnails(tmp_path_factory, photographs) -> list[Path]:
    """Small images of real photographs, JPEG and PNG."""
    folder = tmp_path_factory.mktemp("thumbnails")
    paths = []
    for number, photograph in enumerate(photographs):
        with Image.open(photograph) as image:
            small = image.convert("RGB").resize((64 + number, 48))
        for suffix in ("jpg", "png"):
            paths.append(folder / f"{number}.{suffix}")
            small.save(paths[-1])
    return paths


@pytest.mark.parametrize("engine", slow_but(["openvino"], ENGINES))
def test_a_run_does_not_grow(engine, vit_bundle, thumbnails):
    assert_flat(growth(STREAM, vit_bundle.path, engine, *thumbnails, warm=300, count=900))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_over_a_hundred_thousand_images_does_not_grow(engine, vit_bundle, thumbnails):
    found = growth(STREAM, vit_bundle.path, engine, *thumbnails, warm=1000, count=100_000)
    print(engine, found)
    assert_flat(found)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_detectors_that_come_and_go_leave_nothing(engine, vit_bundle, thumbnails):
    assert_flat(growth(COME_AND_GO, vit_bundle.path, engine, *thumbnails, warm=10, count=40))


def judged_folder(place: Path, bundle: Path, count: int, thumbnails: list[Path]) -> int:
    """Make a folder of so many files and judge it; return the most memory that took in bytes."""
    (place / f"{count}").mkdir()
    for number, source in enumerate(islice(cycle(thumbnails), count)):
        os.link(source, place / f"{count}" / f"{number:05}{source.suffix}")
    output = place / f"{count}.jsonl"
    command = [GLASS_RUN, place / f"{count}", "-b", bundle, "--crops", "1", "-o", output]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    most = 0
    while process.poll() is None:
        most = max(most, peak_memory(process.pid))
        time.sleep(0.02)
    assert process.returncode == 0
    assert sum(1 for _ in output.open()) == count
    return most


def peak_memory(process: int) -> int:
    """Return a process's own peak in bytes; what wait4 tells begins with its parent's."""
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    kibibytes = [int(line.split()[1]) for line in status if line.startswith("VmHWM")]
    return sum(kibibytes) * 1024  # one that has ended has none


@pytest.mark.slow
def test_a_folder_of_ten_thousand_files_takes_no_more_than_one_of_five_hundred(
    vit_bundle, thumbnails, tmp_path
):
    few = judged_folder(tmp_path, vit_bundle.path, 500, thumbnails)
    many = judged_folder(tmp_path, vit_bundle.path, 10_000, thumbnails)
    print(few, many)
    assert many - few < MEMORY


@pytest.mark.slow
def test_two_hundred_large_photographs_take_less_than_a_gigabyte_and_a_half(
    vit_bundle, photograph, tmp_path
):
    """Above what the detector holds once it has judged a small one; nine of ten are large."""
    paths = [tmp_path / "small.jpg", *[tmp_path / f"{number}.jpg" for number in range(9)]]
    photograph.resize((64, 48)).save(paths[0])
    photograph.resize((6000, 4000), Image.Resampling.BILINEAR).save(paths[1])
    for path in paths[2:]:
        os.link(paths[1], path)
    found = growth(LARGE, vit_bundle.path, "auto", *paths, warm=0, count=220)
    print(found)
    assert found["peak"] < 1.5e9
