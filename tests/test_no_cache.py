"""A cache is a convenience: without a place for it everything runs, and one line says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import fake_tensorrt
import pytest
from conftest import PROGRAMS, ROOT, call, refusal
from fake_tensorrt import FakeCuda
from glass_edge.runtime.engines.base import EngineOptions
from glass_edge.runtime.engines.registry import open_engine
from glass_edge.runtime.engines.tensorrt import engine, store
from glass_edge.runtime.engines.tensorrt.api import Library
from glass_edge.runtime.machine import cache

from glass_edge import Detector, DetectorOptions, OutputError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and namespaces")

NOTE = "Note: nothing is kept for the next run: "
ADVICE = ": set GLASS_CACHE to a folder that may be written."
NO_FOLDER = "the cache folder {} cannot be written (No such file or directory)"
NOWHERE = NOTE + NO_FOLDER.format("/proc/glass") + ADVICE
NAMELESS = ("unshare", "--user", "--map-user=54321")  # a user that no file of the system names
ENGINES = ("onnxruntime", "openvino")


@pytest.fixture
def nowhere(monkeypatch):
    """There is no place for the cache, which nobody has said yet."""
    cache._say_once.cache_clear()
    monkeypatch.setenv("GLASS_CACHE", "/proc/glass")


def judge(command: Sequence[object], **variables: str) -> tuple[str, list[str]]:
    """Judge an image as a user who has these variables and ``PATH``; return score and notes."""
    environment = {"PATH": os.environ["PATH"]} | variables
    done = subprocess.run(
        [*map(str, command), "-o", "-"], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    *notes, summary = done.stderr.splitlines()
    assert summary.startswith("1 images in ")
    return json.loads(done.stdout)["score"], notes


@pytest.mark.parametrize("name", ENGINES)
def test_a_home_that_cannot_be_written(name, vit_bundle, photographs, tmp_path):
    command = [PROGRAMS / "glass-run", photographs[0], "-b", vit_bundle.path, "--engine", name]
    score, notes = judge(command, HOME="/proc")
    assert notes == [NOTE + NO_FOLDER.format("/proc/.cache/glass-edge") + ADVICE]
    assert judge(command, HOME=str(tmp_path)) == (score, [])


@pytest.mark.parametrize("name", ENGINES)
def test_a_user_without_a_name_and_a_home(name, vit_bundle, photographs):
    """As in a container that was started with a number for a user."""
    if subprocess.run([*NAMELESS, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody make a user namespace")
    command = [PROGRAMS / "glass-run", photographs[0], "-b", vit_bundle.path, "--engine", name]
    _, notes = judge([*NAMELESS, *command])
    assert notes == [f"{NOTE}there is no home folder for a cache{ADVICE}"]


def test_a_program_finds_one_line_in_its_log(nowhere, vit_bundle, caplog):
    for name in (*ENGINES, *ENGINES):
        Detector(vit_bundle, DetectorOptions(engine=name))
    assert caplog.messages == [NOWHERE]


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Where temporary files lie, and a made-up GPU."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(store, "build_plan", fake_tensorrt.build_plan)
    monkeypatch.setattr(engine, "open_cuda", FakeCuda)
    monkeypatch.setattr(engine, "find_library", lambda name: Library(name, "10.3.0", fake_tensorrt))
    return tmp_path


def test_tensorrt_builds_in_a_folder_that_goes(nowhere, scratch, vit_bundle, caplog):
    open_engine(vit_bundle, "tensorrt", EngineOptions("cuda"))
    assert caplog.messages[0] == NOWHERE
    assert "building the global engine: there was none" in caplog.messages
    assert list(scratch.iterdir()) == []


def test_a_folder_asked_for_is_no_convenience(scratch, vit_bundle):
    options = EngineOptions("cuda", folder=Path("/proc/engines"))
    with pytest.raises(OutputError, match=r"the engine folder /proc/engines/.* cannot be made"):
        open_engine(vit_bundle, "tensorrt", options)


def test_what_is_built_for_the_cache_needs_one(nowhere, vit_bundle):
    pytest.importorskip("tensorrt_rtx")
    done = call("glass-build", ROOT, vit_bundle.path, "--library", "tensorrt-rtx")
    assert refusal(done) == NOWHERE.replace(NOTE, "Error: ")
