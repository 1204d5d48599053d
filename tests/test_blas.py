"""Views are made with one BLAS thread to a worker; others have theirs back afterwards."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

STREAM = """
import os, sys, threading
os.sched_setaffinity(0, range(os.cpu_count()))  # each process of the tests has one CPU
from glass_edge import Detector, DetectorOptions
from threadpoolctl import threadpool_info

def threads():
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}

came = threading.Event()  # a record, by which time the stream has taken BLAS in hand

def images():
    yield photograph
    came.wait()
    print("in a stream", threads())
    yield photograph

bundle, photograph, mode = sys.argv[1:]
detector = Detector(bundle, DetectorOptions(crops=2, mode=mode))
print("before", threads())
with detector.stream(images()) as one:
    next(one)
    came.set()
    with detector.stream([photograph]) as other:
        list(other)
    print("beside one that ended", threads())
    list(one)
print("after", threads())
"""


@pytest.mark.skipif(
    os.cpu_count() == 1 or not hasattr(os, "sched_setaffinity"), reason="there is but one CPU"
)
@pytest.mark.parametrize("mode", ["throughput", "latency"])
def test_a_stream_holds_blas_to_one_thread_and_gives_it_back(mode, vit_bundle, photographs):
    done = subprocess.run(
        [sys.executable, "-c", STREAM, vit_bundle.path, photographs[2], mode],
        env=os.environ | {"OPENBLAS_NUM_THREADS": "2"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert sorted(done.stdout.splitlines()) == [
        "after {2}", "before {2}", "beside one that ended {1}", "in a stream {1}",
    ]  # fmt: skip
