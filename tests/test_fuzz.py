"""The fuzzer notices what it is for, repeats itself, and finds nothing in a short run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from conftest import ROOT
from fuzz import bundles, images
from fuzz.harness import Child, Tally, keep, run_all
from fuzz.kinds import kinds
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


def test_memory_and_time_are_measured():
    with Child("fuzz.misbehave:act", seconds=60.0, memory=2 << 30) as child:
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
    assert [len(content) for content in cut[:1000]] == list(range(1000))


KINDS = kinds()


def test_every_format_is_damaged_and_nothing_is_found():
    known = seeds()
    assert len(known) == 20
    with Child(images.TARGET, seconds=images.SECONDS, memory=images.MEMORY) as child:
        for name, files in known.items():
            tally = run_all(child, [*files, *(mutated(files, f"{index}") for index in range(20))])
            assert tally.outcomes["read"] >= len(files)
            assert not tally.findings, name


def test_of_files_cut_and_ended_as_they_should_be_none_is_filled_in():
    cut = [name for name in KINDS if name.endswith(", cut")]
    assert len(cut) == 20
    with Child(images.CUT_TARGET, seconds=images.SECONDS, memory=images.MEMORY) as child:
        for name in cut:
            kind = KINDS[name]
            tally = run_all(child, kind.damage(name, kind.files, 20, 0))
            assert tally.outcomes.total() == 20
            assert not tally.findings, name


def test_what_is_filled_in_is_a_finding():
    """A PNG that is another picture stands for one that a decoder has filled in."""
    one, other = seeds()["png"][0], seeds()["bmp"][0]
    with Child(images.CUT_TARGET, seconds=images.SECONDS, memory=images.MEMORY) as child:
        assert child.run(images.paired(one, other)).outcome == "read"
        result = child.run(images.paired(one, seeds()["gif"][0]))
    assert (result.outcome, result.what) == (
        "fault",
        "AssertionError: a part of the picture was filled in",
    )


def test_raw_files_are_refused_and_metadata_are_passed_over():
    with Child(images.TARGET, seconds=images.SECONDS, memory=images.MEMORY) as child:
        outcomes = {
            name: [child.run(content).outcome for content in kind.files]
            for name, kind in KINDS.items()
            if name == "raw" or name.endswith(" metadata")
        }
    assert outcomes.pop("raw") == ["refused"] * 4 + ["read"]
    assert len(outcomes) == 5
    assert {outcome for files in outcomes.values() for outcome in files} == {"read"}


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_hundreds_of_files_of_a_kind_and_nothing_is_found(name):
    kind = KINDS[name]
    with Child(kind.target, seconds=images.SECONDS, memory=images.MEMORY) as child:
        tally = run_all(child, kind.damage(name, kind.files, 400, 1))
    assert tally.outcomes["refused"] > 200
    assert not tally.findings


def fuzzed_bundles(bundle: Path, engine: str, count: int, seed: int) -> Tally:
    with Child(bundles.TARGETS[engine], seconds=bundles.SECONDS, memory=bundles.MEMORY) as child:
        return run_all(child, bundles.damaged(bundle, count, seed))


@pytest.fixture
def fuzzed(vit_bundle, monkeypatch) -> Path:
    monkeypatch.setenv(bundles.BUNDLE_VARIABLE, str(vit_bundle.path))
    return vit_bundle.path


@pytest.mark.parametrize("engine", bundles.TARGETS)
def test_damaged_bundles_are_read_or_refused(engine, fuzzed):
    tally = fuzzed_bundles(fuzzed, engine, 20, seed=0)
    assert tally.outcomes["read"] >= 1  # the bundle as it is
    assert tally.outcomes["refused"] >= 10
    assert not tally.findings


@pytest.mark.slow
@pytest.mark.parametrize("engine", bundles.TARGETS)
def test_hundreds_of_damaged_bundles(engine, fuzzed):
    """An engine's crashes are its makers' to mend; none hangs or raises what is no sentence."""
    tally = fuzzed_bundles(fuzzed, engine, 300, seed=1)
    assert tally.outcomes["refused"] > 100
    assert not [result for _, result in tally.findings if result.outcome != "crash"]
    assert engine == "openvino" or not tally.findings


@pytest.mark.parametrize("engine", bundles.TARGETS)
@pytest.mark.parametrize(("operator", "becomes"), [("Conv", "Conv"), ("Transpose", "Pad")])
def test_a_graph_that_crashed_an_engine_ends_a_process_of_its_own_and_no_more(
    operator, becomes, engine, fuzzed
):
    """With one input OpenVINO 2026.4 dies of both, and no check of ours can stop it."""
    model = onnx.load(fuzzed / "global.onnx")
    node = next(node for node in model.graph.node if node.op_type == operator)
    node.op_type = becomes
    del node.input[1:]
    whole = bundles.as_input("glass.json", (fuzzed / "glass.json").read_bytes())
    with Child(bundles.TARGETS[engine], seconds=bundles.SECONDS, memory=bundles.MEMORY) as child:
        result = child.run(bundles.as_input("global.onnx", model.SerializeToString()))
        assert child.run(whole).outcome == "read"
    assert result.outcome == "refused" or (engine, result.what) == ("openvino", "SIGSEGV")


def test_the_command_prints_a_table():
    command = [sys.executable, "-m", "fuzz", "images", "--files", "3", "--kind", "bmp"]
    done = subprocess.run(command, cwd=ROOT / "tests", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split(" | ")[1:3] == ["files", "read"]
    assert done.stdout.splitlines()[2].startswith("| bmp")
