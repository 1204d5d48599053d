"""A tool that is fed evidence tells nobody: no network, and no files but its own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import EXAMPLES, PROGRAMS
from offline import ASKED, SUPPORTED, run_offline

pytestmark = pytest.mark.skipif(not SUPPORTED, reason="Linux tells which sockets are opened")

CACHES = (".cache/glass-edge", ".cache/matplotlib")  # the other is a list of the fonts there are
LIBRARY = """
import sys
from glass_edge import Detector, DetectorOptions
for engine in ("onnxruntime", "openvino"):
    Detector(sys.argv[1], DetectorOptions(engine=engine, crops=2)).detect(sys.argv[2])
"""


def run_silent(place: Path, command: Sequence[object], outputs: Sequence[str] = ()) -> None:
    """Run a program that must ask for no network and write nothing but its outputs and cache."""
    done = run_offline(command, place, ORT_DISABLE_TELEMETRY="0")
    assert done.returncode != ASKED, "it asked for the network"
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in place.iterdir()) == sorted(["home", "tmp", *outputs])
    assert files(place / "tmp") == []
    assert [path for path in files(place / "home") if not path.startswith(CACHES)] == []


def files(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "program",
    [
        "socket.create_connection(('192.0.2.1', 443))",
        "socket.socket(type=socket.SOCK_DGRAM).sendto(b'hello', ('192.0.2.1', 53))",
        "socket.getaddrinfo('example.org', 443)",
        "os.fork() or socket.getaddrinfo('example.org', 443); os.wait()",
    ],
    ids=["connection", "datagram", "name", "child"],
)
def test_who_asks_for_the_network_is_seen(program, tmp_path):
    command = [sys.executable, "-c", f"import os, socket; {program}"]
    assert run_offline(command, tmp_path).returncode == ASKED


def test_who_stays_on_this_machine_is_not_taken_for_one(tmp_path):
    program = "import socket; socket.socket(socket.AF_UNIX).connect_ex('/nobody')"
    assert run_offline([sys.executable, "-c", program], tmp_path).returncode == 0


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_glass_run_is_silent(engine, vit_bundle, photographs, tmp_path):
    command = [PROGRAMS / "glass-run", *photographs[:3], "--bundle", vit_bundle.path]
    run_silent(tmp_path, [*command, "--engine", engine, "-o", "out.jsonl"], ["out.jsonl"])


def test_the_library_is_silent(vit_bundle, photographs, tmp_path):
    run_silent(tmp_path, [sys.executable, "-c", LIBRARY, vit_bundle.path, photographs[0]])


def test_processes_that_decode_are_silent(vit_bundle, photographs, tmp_path):
    command = [PROGRAMS / "glass-run", photographs[0], "--bundle", vit_bundle.path]
    run_silent(tmp_path, [*command, "--isolate"])


@pytest.mark.slow
def test_glass_eval_is_silent(vit_bundle, tmp_path):
    command = [PROGRAMS / "glass-eval", EXAMPLES, "--bundle", vit_bundle.path, "--crops", 2]
    run_silent(tmp_path, [*command, "-o", "report.png"], ["report.png"])


@pytest.mark.slow
def test_glass_quantize_is_silent(vit_bundle, tmp_path):
    command = [PROGRAMS / "glass-quantize", vit_bundle.path, "--calibrate", EXAMPLES]
    for place in ("layers", "bundle"):
        (tmp_path / place).mkdir()
    run_silent(tmp_path / "layers", [*command, "--layers"])
    made = [*command, "--precision", "int8", "--accept-loss", "-o", "int8.glass"]
    few = ["--int8-budget", "0", "--judgements", "1"]
    run_silent(tmp_path / "bundle", [*made, *few], ["int8.glass"])


@pytest.mark.slow
def test_glass_bench_int8_is_silent(vit_bundle, tmp_path):
    pytest.importorskip("nncf")
    command = [PROGRAMS / "glass-bench", "int8", vit_bundle.path, "--calibrate", EXAMPLES]
    makers = ["--makers", "nncf-performance,nncf-accuracy-control,onnxruntime-minmax,nearest"]
    few = ["--calibration-images", "4", "--judgements", "1"]
    run_silent(tmp_path, [*command, *makers, *few, "-o", "report.png"], ["report.png"])


def test_glass_build_is_silent(vit_bundle, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    command = [PROGRAMS / "glass-build", vit_bundle.path, "--library", "tensorrt-rtx"]
    run_silent(tmp_path, command)


@pytest.mark.slow
def test_glass_export_is_silent(checkpoints, tmp_path):
    command = [PROGRAMS / "glass-export", checkpoints["vit"], "-o", "vit.glass"]
    run_silent(tmp_path, command, ["vit.glass"])
