"""The fuzzer notices what it is for, repeats itself, and finds nothing in a short run."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import ROOT
from fuzz import images
from fuzz.harness import Child, keep, run_all
from fuzz.mutate import mutated, truncated
from fuzz.seeds import seeds

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="measures by /proc")


@pytest.fixture
def child():
    with Child("fuzz.misbehave:act", seconds=2.0, memory=2 << 30) as child:
        yield child


@pytest.mark.parametrize(
    ("content", "outcome", "what"),
    [
        (b"read", "read", "read"),
        (b"refuse", "refused", "it is refused."),
        (b"crash", "crash", "SIGABRT"),
        (b"hang", "hang", "longer than 2 s"),
        (b"fault", "fault", "ZeroDivisionError: nobody expects this"),
        (b"eat", "fault", "MemoryError: "),
    ],
)
def test_what_a_target_does_is_noticed(content, outcome, what, child):
    result = child.run(content)
    assert (result.outcome, result.what) == (outcome, what)
    assert child.run(b"read").outcome == "read"  # the next one is not affected


def test_memory_and_time_are_measured(child):
    child.run(b"read")
    assert 90e6 < child.run(b"grow").memory < 130e6
    assert child.run(b"read").memory < 10e6


def test_findings_are_kept_one_of_each_kind(child, tmp_path):
    tally = run_all(child, [b"crash", b"read", b"fault", b"crash", b"refuse"])
    assert tally.outcomes == {"crash": 2, "read": 1, "fault": 1, "refused": 1}
    kept = keep(tmp_path / "found", "a name", tally)
    assert sorted(path.read_bytes() for path in kept) == [b"crash", b"fault"]
    assert all(path.name.startswith("a-name-") for path in kept)


def test_damage_can_be_repeated():
    files = seeds()["jpeg"]
    assert mutated(files, "one") == mutated(files, "one") != mutated(files, "another")
    cut = list(truncated(files[0]))
    assert [len(content) for content in cut[:200]] == list(range(200))


def test_every_format_is_damaged_and_nothing_is_found():
    known = seeds()
    assert len(known) == 20
    with Child(images.TARGET, seconds=images.SECONDS, memory=images.MEMORY) as child:
        for name, files in known.items():
            tally = run_all(child, [*files, *(mutated(files, f"{index}") for index in range(20))])
            assert tally.outcomes["read"] >= len(files)
            assert not tally.findings, name


def test_the_command_prints_a_table():
    command = [sys.executable, "-m", "fuzz", "images", "--files", "3", "--format", "bmp"]
    done = subprocess.run(command, cwd=ROOT / "tests", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split(" | ")[1:3] == ["files", "read"]
    assert done.stdout.splitlines()[2].startswith("| bmp")
