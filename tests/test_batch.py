"""glass-batch: shards are judged once, whatever ends a run, and add up to what glass-run says."""

from __future__ import annotations

import csv
import errno
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import pytest
from conftest import Done, call, refusal, slow
from glass_edge.runtime.commands.batching.options import new_output
from glass_edge.runtime.judging import roads
from glass_edge.runtime.machine.errors import InputError, OutputError
from glass_edge.runtime.results.parquet import footer_of, records_in
from glass_edge.runtime.results.records import ErrorInfo, Failure
from glass_edge.runtime.shards.judging import JudgeSettings, ShardJudge
from glass_edge.runtime.shards.parts import Counts
from glass_edge.runtime.shards.running import begin_run
from glass_edge.runtime.storage.folders import LocalFolder
from pyarrow import parquet

from glass_edge import BundleError, DetectorOptions, EngineError

batch = partial(call, "glass-batch")
PROCESS = [sys.executable, "-c", "from glass_edge.runtime.commands.batch import main; main()"]
OPTIONS = ("-b", "model.glass", "--crops", "2", "--engine", "onnxruntime", "--workers", "1")
SHARDS = 7  # of 2 images each, of which one cannot be decoded


@pytest.fixture(scope="module")
def place(tmp_path_factory, vit_bundle, calibration_images) -> Path:
    """A bundle, 13 images of which one is none, their plan, and glass-run's records of them."""
    place = tmp_path_factory.mktemp("place")
    (place / "model.glass").symlink_to(vit_bundle.path)
    shutil.copytree(calibration_images, place / "images")
    (place / "images" / "no-image.jpg").write_bytes(b"this is no image")
    done = batch(place, "plan", "images", "-o", "plan.jsonl", "--images", 2)
    assert done.returncode == 0, done.stderr
    done = call("glass-run", place, place / "images", *OPTIONS, "-o", "expected.jsonl")
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture(scope="module")
def undisturbed(place) -> Path:
    done = judge(place, "undisturbed")
    assert done.returncode == 0, done.stderr
    return place / "undisturbed"


@pytest.fixture
def out(undisturbed, tmp_path) -> Path:
    """A finished run that a test may damage."""
    return Path(shutil.copytree(undisturbed, tmp_path / "out"))


def judge(place: Path, out: object, *more: object, plan: object = "plan.jsonl") -> Done:
    return batch(place, "run", plan, *OPTIONS, "-o", out, *more)


def judging(place: Path, out: str, *more: str, **options: object) -> subprocess.Popen[str]:
    """Start a run in a process of its own."""
    command = [*PROCESS, "run", "plan.jsonl", *OPTIONS, "-o", out, *more]
    return subprocess.Popen(command, cwd=place, text=True, stderr=subprocess.PIPE, **options)


def parts(out: Path) -> list[Path]:
    return sorted(out.glob("part-*.parquet"))


def records(out: Path) -> list[dict]:
    """What all parts hold, in order, without an own word on how parts are read."""
    done = batch(out.parent, "merge", out, "-o", f"{out}.jsonl", "--force", "--partial")
    assert done.returncode == 0, done.stderr
    return json_lines(out.with_name(f"{out.name}.jsonl"))


def json_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_same(found: Iterable[dict], expected: Iterable[dict]) -> None:
    """The same records; numbers may differ in the last bits, because batches were others."""
    for one, other in zip(found, expected, strict=True):
        for record in (one, other):
            for name in ("logits", "probabilities"):
                record.pop(name, None)
            for crop in record.get("crops", ()):
                del crop["attention"]
        assert one.pop("score", 0) == pytest.approx(other.pop("score", 0), abs=1e-5)
        assert one == other


class TestParts:
    def test_hold_what_glass_run_says_of_the_same_images(self, place, undisturbed):
        assert len(parts(undisturbed)) == SHARDS
        assert_same(records(undisturbed), json_lines(place / "expected.jsonl"))

    def test_are_named_by_shard_and_bundle(self, undisturbed, vit_bundle):
        expected = [f"part-{n:06}-{vit_bundle.digest[:12]}.parquet" for n in range(SHARDS)]
        assert [path.name for path in parts(undisturbed)] == expected

    def test_are_tables_that_any_program_reads(self, place, undisturbed):
        found = [row for part in parts(undisturbed) for row in parquet.read_table(part).to_pylist()]
        expected = json_lines(place / "expected.jsonl")
        assert [row["path"] for row in found] == [record["path"] for record in expected]
        assert [row["verdict"] for row in found] == [rec.get("verdict") for rec in expected]

    def test_say_in_their_footer_what_they_hold(self, undisturbed, vit_bundle):
        for number, part in enumerate(parts(undisturbed)):
            with part.open("rb") as file:
                rows, about = footer_of(file)
                held = list(records_in(file))
            summary = json.loads(about["glass_part"])
            assert summary["shard"] == number
            assert summary["images"] == rows == len(held)
            good = [record for record in held if record.status == "ok"]
            assert summary["verdicts"] == Counter(record.verdict for record in good)
            assert sum(summary["errors"].values()) == len(held) - len(good)
            assert {(rec.engine, rec.precision, rec.bundle) for rec in good} <= {
                (summary["engine"], summary["precision"], vit_bundle.name)
            }
            assert 0 < summary["seconds"] < 60

    def test_that_are_there_are_not_judged_again(self, place, out):
        before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
        parts(out)[3].unlink()
        done = judge(place, out)
        assert done.returncode == 0
        assert f"6 of {SHARDS} shards have their parts already." in done.stderr
        assert "1 shard with 2 images" in done.stderr
        after = {path: path.stat().st_mtime_ns for path in out.iterdir()}
        assert [path for path in before if before[path] != after[path]] == [parts(out)[3]]
        assert (
            judge(place, out).stderr == f"{SHARDS} of {SHARDS} shards have their parts already.\n"
        )

    def test_that_are_damaged_are_named(self, place, out):
        part = parts(out)[2]
        for content in (part.read_bytes()[:-1], b"", b"PAR1 nothing PAR1"):
            part.write_bytes(content)
            sentence = f"{part.name} in {out} is damaged: remove it, and run glass-batch run again."
            assert sentence in refusal(batch(place, "status", out))
            assert sentence in refusal(batch(place, "merge", out, "-o", out / "all.csv"))
            assert not (out / "all.csv").exists()
        part.unlink()
        assert judge(place, out).returncode == 0

    def test_that_are_damaged_within_leave_no_output(self, place, out):
        part = parts(out)[2]
        content = bytearray(part.read_bytes())
        content[4:400] = bytes(396)
        part.write_bytes(content)
        assert batch(place, "status", out).returncode == 0  # which looks at footers
        done = batch(place, "merge", out, "-o", out / "all.jsonl")
        assert f"{part.name} in {out} is damaged" in refusal(done)
        assert not list(out.glob("all*"))
        assert not list(out.glob(".*"))


class TestTheRun:
    def test_keeps_what_it_was_begun_with(self, place, undisturbed, vit_bundle):
        settings = json.loads((undisturbed / "run.json").read_text())
        assert settings["bundle_sha256"] == vit_bundle.digest
        assert settings["crops"] == 2
        assert settings["classes"] == list(vit_bundle.manifest.classes)
        assert (undisturbed / "plan.jsonl").read_bytes() == (place / "plan.jsonl").read_bytes()

    def test_never_writes_the_secret(self, place, tmp_path, monkeypatch):
        digests = set()
        for key in ("swordfish", "swordfish", "marlin"):
            monkeypatch.setenv("GLASS_SEED_KEY", key)
            out = tmp_path / f"out-{len(list(tmp_path.iterdir()))}"
            assert judge(place, out, "--share", "7/8").returncode == 0
            content = (out / "run.json").read_text()
            assert key not in content
            digests.add(json.loads(content)["seed_key"])
        assert len(digests) == 2
        assert {len(digest) for digest in digests} == {8}

    @pytest.mark.parametrize(
        ("options", "difference"),
        [
            (("--seed", "7"), "--seed 0 (now 7)"),
            (("--crops", "3"), "--crops 2 (now 3)"),
            (("--threshold", "0.25"), "--threshold not given (now 0.25)"),
            (("--fixed-seed", "1"), "--fixed-seed not given (now 1)"),
            (("--allow-damaged",), "--allow-damaged false (now true)"),
            (("--sixteen-bit", "scale"), "--sixteen-bit clip (now scale)"),
            (("--max-pixels", "10"), "--max-pixels 200000000 (now 10)"),
            (("--influence",), "--influence false (now true)"),
            (("--provenance",), "--provenance false (now true)"),
        ],
    )
    def test_does_not_mix_with_one_of_other_options(self, place, undisturbed, options, difference):
        said = refusal(judge(place, undisturbed, *options))
        assert f"was begun with other options: {difference}. Give what it was begun with" in said

    def test_that_has_judged_nothing_can_be_removed(self, place, out):
        """Such as one that failed before the first shard, for want of what it was begun with."""
        for part in parts(out):
            part.unlink()
        said = refusal(judge(place, out, "--crops", "3"))
        assert "It has judged nothing: remove its run.json, or choose another folder." in said
        (out / "run.json").unlink()
        assert judge(place, out, "--crops", "3").returncode == 0

    def test_does_not_mix_with_one_of_another_secret(self, place, undisturbed, monkeypatch):
        monkeypatch.setenv("GLASS_SEED_KEY", "swordfish")
        said = refusal(judge(place, undisturbed))
        assert "begun with other options: another GLASS_SEED_KEY." in said
        assert "swordfish" not in said

    def test_does_not_mix_with_one_of_another_bundle(
        self, place, undisturbed, fake_second_bundle, vit_bundle
    ):
        said = refusal(judge(place, undisturbed, "-b", fake_second_bundle.path))
        assert f"--bundle {vit_bundle.name} (now {fake_second_bundle.name})" in said

    def test_goes_on_with_the_same_bundle_in_a_folder_of_another_name(self, place, out, tmp_path):
        shutil.copytree(place / "model.glass", tmp_path / "renamed.glass")
        parts(out)[2].unlink()
        done = judge(place, out, "-b", tmp_path / "renamed.glass")
        assert done.returncode == 0, done.stderr
        assert f"6 of {SHARDS} shards have their parts already." in done.stderr
        assert len(parts(out)) == SHARDS
        assert batch(place, "status", out).returncode == 0

    def test_does_not_mix_with_one_of_another_plan(self, place, undisturbed, tmp_path):
        batch(place, "plan", "images/no-image.jpg", "-o", tmp_path / "other.jsonl")
        said = refusal(judge(place, undisturbed, plan=tmp_path / "other.jsonl"))
        assert "other.jsonl is another plan than the run in" in said
        assert "was begun with, which was made of images: give that one" in said

    def test_may_use_another_engine_or_batch(self, place, undisturbed):
        done = judge(place, undisturbed, "--engine", "openvino", "--batch-size", "3")
        assert done.returncode == 0, done.stderr

    def test_needs_a_whole_plan(self, place, tmp_path):
        content = (place / "plan.jsonl").read_bytes()
        (tmp_path / "cut.jsonl").write_bytes(content[:-1])
        said = refusal(judge(place, tmp_path / "out", plan=tmp_path / "cut.jsonl"))
        assert (
            "cut.jsonl has no last line, so it is incomplete: run glass-batch plan again." in said
        )
        (tmp_path / "bad.jsonl").write_bytes(content.replace(b"astronaut", b"astronout", 1))
        said = refusal(judge(place, tmp_path / "out", plan=tmp_path / "bad.jsonl"))
        assert "bad.jsonl is damaged (its digest is another): make the plan anew." in said
        assert not (tmp_path / "out").exists()

    def test_needs_its_own_copy_of_the_plan(self, place, out):
        batch(place, "plan", "images/no-image.jpg", "-o", out / "plan.jsonl", "--force")
        said = refusal(batch(place, "status", out))
        assert "plan.jsonl is not the plan that the run in" in said
        assert "remove it, and run glass-batch run with the right one." in said
        (out / "plan.jsonl").unlink()
        assert judge(place, out).returncode == 0
        assert (out / "plan.jsonl").read_bytes() == (place / "plan.jsonl").read_bytes()

    def test_ends_with_1_for_errors_only_if_asked(self, place, out):
        (error,) = (n for n, part in enumerate(parts(out)) if b"no-image.jpg" in part.read_bytes())
        parts(out)[error].unlink()
        assert judge(place, out, "--strict").returncode == 1
        parts(out)[error].unlink()
        done = judge(place, out)
        assert done.returncode == 0
        assert ", 1 errors; onnxruntime" in done.stderr

    @pytest.mark.parametrize("share", ["8/8", "1", "-1/2", "1/0", "a/b", "1/2/3", ""])
    def test_has_no_share_that_cannot_be(self, place, share):
        said = refusal(judge(place, "nowhere", "--share", share))
        assert "is no share: of 8 processes the first is 0/8 and the last 7/8." in said

    def test_takes_no_bundle_from_among_the_planned_images_unasked(self, tmp_path, vit_bundle):
        (tmp_path / "model.glass").symlink_to(vit_bundle.path)
        done = batch(tmp_path, "plan", ".", "-o", tmp_path / "plan.jsonl")
        assert done.returncode == 0, done.stderr
        done = batch(tmp_path, "run", "plan.jsonl", "-o", "out")
        assert refusal(done).startswith("Error: model.glass is not used unasked, because ")

    def test_checks_bundle_and_engine_before_the_first_shard(self, place, tmp_path):
        said = refusal(judge(place, tmp_path / "out", "-b", "modle.glass"))
        assert "Did you mean model.glass?" in said
        done = judge(place, tmp_path / "out", "--crops", "auto")
        assert done.returncode == 2
        assert "shard" not in done.stderr


class TestImagesThatCannotBeRead:
    @pytest.fixture
    def moved(self, place, tmp_path) -> Path:
        """Four images in two shards; of the first one image is gone, of the second both."""
        (tmp_path / "model.glass").symlink_to(place / "model.glass")
        (tmp_path / "images").mkdir()
        (tmp_path / "elsewhere").mkdir()
        for name in ("fake-cat.jpg", "fake-coffee.jpg", "real-cat.jpg", "real-rocket.jpg"):
            shutil.copy(place / "images" / name, tmp_path / "images")
        batch(tmp_path, "plan", "images", "-o", "plan.jsonl", "--images", 2)
        for name in ("fake-coffee.jpg", "real-cat.jpg", "real-rocket.jpg"):
            (tmp_path / "images" / name).rename(tmp_path / "elsewhere" / name)
        return tmp_path

    def test_fail_a_shard_only_if_it_has_no_other(self, moved):
        done = judge(moved, "out")
        assert done.returncode == 1
        name = f"{moved}/images/real-cat.jpg"
        assert f"shard 1: none of its 2 images could be read: {name}: " in done.stderr
        assert done.stderr.endswith("; 1 shard failed\n")
        assert [path.name[:11] for path in parts(moved / "out")] == ["part-000000"]
        assert [record["status"] for record in records(moved / "out")] == ["ok", "error"]

    @pytest.mark.parametrize(
        ("message", "said"),
        [
            ("it is not there.", "s3://bucket/a: it is not there."),
            ("s3://bucket/a cannot be read.", "s3://bucket/a cannot be read."),
        ],
    )
    def test_are_named_once(self, message, said):
        """A message from before an image was looked at names it already."""
        counts = Counts()
        counts.add(Failure(path="s3://bucket/a", error=ErrorInfo("UnreadableError", message)))
        assert counts.first_unreadable == said

    def test_are_read_again_on_request(self, moved):
        judge(moved, "out")
        for path in (moved / "elsewhere").iterdir():
            path.rename(moved / "images" / path.name)
        assert judge(moved, "out").returncode == 0
        assert [record["status"] for record in records(moved / "out")] == [
            "ok",
            "error",
            "ok",
            "ok",
        ]
        done = judge(moved, "out", "--retry-errors")
        assert "1 of 2 shards have their parts already." in done.stderr
        assert [record["status"] for record in records(moved / "out")] == ["ok"] * 4

    def test_keep_their_part_if_they_still_cannot_be_read(self, moved):
        judge(moved, "out")
        (moved / "images" / "fake-cat.jpg").rename(moved / "elsewhere" / "fake-cat.jpg")
        assert judge(moved, "out", "--retry-errors").returncode == 1
        assert [record["status"] for record in records(moved / "out")] == ["ok", "error"]

    def test_never_replace_a_part_that_has_more_verdicts(self, moved):
        """Of four images one is away, then three, then another one alone, and then none."""
        images, elsewhere = moved / "images", moved / "elsewhere"

        def away(*names: str) -> None:
            for path in elsewhere.iterdir():
                path.rename(images / path.name)
            for name in names:
                (images / name).rename(elsewhere / name)

        def readable() -> set[str]:
            found = records(moved / "out")
            assert len(found) == 4
            return {Path(each["path"]).name for each in found if each["status"] == "ok"}

        every = ["fake-cat.jpg", "fake-coffee.jpg", "real-cat.jpg", "real-rocket.jpg"]
        away()
        batch(moved, "plan", "images", "-o", "plan.jsonl", "--force")
        away(every[1])
        assert judge(moved, "out").returncode == 0
        (part,) = parts(moved / "out")
        before = part.read_bytes()
        away(*every[1:])
        done = judge(moved, "out", "--retry-errors")
        assert done.returncode == 1
        said = (
            "shard 0: 3 of its images cannot be read now, and 1 could not before, so its part "
            "stays as it is."
        )
        assert said in done.stderr
        assert part.read_bytes() == before
        assert readable() == set(every) - {every[1]}
        away()
        done = judge(moved, "out", "--retry-errors")
        assert done.returncode == 0
        assert readable() == set(every)
        done = judge(moved, "out", "--retry-errors")
        assert done.stderr == "1 of 1 shards have their parts already.\n"

    def test_replace_a_part_that_has_fewer_verdicts(self, moved):
        batch(moved, "plan", "images", "elsewhere", "-o", "plan.jsonl", "--force")
        paths = sorted((moved / "elsewhere").iterdir())
        for path in paths:
            path.rename(path.with_suffix(".away"))
        judge(moved, "out")
        paths[0].with_suffix(".away").rename(paths[0])
        done = judge(moved, "out", "--retry-errors")
        assert done.returncode == 0
        assert "1 shard with 4 images" in done.stderr
        assert [each["status"] for each in records(moved / "out")] == ["ok", "ok", "error", "error"]


Moment = Callable[[Path], object]


def ended_midway(
    place: Path, tmp_path: Path, number: int, moment: Moment, **options: object
) -> tuple[Path, subprocess.Popen[str], str]:
    """Start runs until one was ended by a signal at a moment, with shards left to judge.

    The machine may be busy, so that the moment is over before the signal is sent.
    """
    for attempt in range(20):
        out = tmp_path / f"out-{attempt}"
        process = judging(place, str(out), **options)
        while not moment(out) and process.poll() is None:
            time.sleep(0.0002)
        process.send_signal(number)
        said = process.communicate()[1]
        if process.returncode and moment(out) and len(parts(out)) < SHARDS:
            return out, process, said
    pytest.fail("no run could be ended at that moment.")


def puts_a_part(out: Path) -> bool:
    return (out / "plan.jsonl").exists() and bool(list(out.glob(".glass-*.partial")))


def judges_another(out: Path) -> bool:
    """Whether a shard is done; a moment later the next one is begun."""
    some = bool(parts(out))
    time.sleep(0.01 * some)
    return some


class TestARunThatIsEnded:
    def test_by_a_kill_between_shards_goes_on_where_it_was(self, place, tmp_path):
        out, process, _ = ended_midway(
            place, tmp_path, signal.SIGKILL, lambda out: len(parts(out)) >= 2
        )
        assert process.returncode == -signal.SIGKILL
        kept = len(parts(out))
        done = judge(place, out)
        assert f"{kept} of {SHARDS} shards have their parts already." in done.stderr
        assert_same(records(out), json_lines(place / "expected.jsonl"))

    def test_by_a_kill_while_a_part_is_put_in_place_goes_on_where_it_was(self, place, tmp_path):
        """The part is written under a hidden name, and does not bear its own yet."""
        out, process, _ = ended_midway(place, tmp_path, signal.SIGKILL, puts_a_part)
        assert process.returncode == -signal.SIGKILL
        assert batch(place, "status", out).returncode == 1
        assert judge(place, out).returncode == 0
        assert len(parts(out)) == SHARDS
        assert_same(records(out), json_lines(place / "expected.jsonl"))

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), slow(signal.SIGINT, 130)])
    def test_by_a_signal_drops_the_shard_begun_and_says_so(self, number, code, place, tmp_path):
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        out, process, said = ended_midway(
            place, tmp_path, number, judges_another, env={**os.environ, "TMPDIR": str(scratch)}
        )
        assert process.returncode == code, said
        told = "ended in shard (.*), which is dropped if it has no part yet: run the same command"
        ended = int(re.search(told, said)[1])
        assert len(parts(out)) - ended in (0, 1)  # it came before the part was there, or just after
        done = f"{ended} shard{'s' * (ended != 1)} with {2 * ended} images"
        assert done in said or ended == 0  # nothing is summed up where nothing was done
        assert "Traceback" not in said
        assert not list(out.glob(".*"))
        assert not list(scratch.glob("glass-*"))


def shards_done(said: str) -> int:
    """Return how many shards a run leaves done: those it found done, and its own."""
    found = re.findall(r"^(\d+) (?:of \d+ shards have|shards? with)", said, re.M)
    return sum(map(int, found))


class TestSeveralProcesses:
    def test_share_a_plan_and_are_safe_without_shares(self, place, tmp_path):
        """Two have a share each, and a third is at all shards at the same time."""
        out = tmp_path / "out"
        shares = (("--share", "0/2"), ("--share", "1/2"), ())
        processes = [judging(place, str(out), *share) for share in shares]
        said = [process.communicate()[1] for process in processes]
        assert [process.returncode for process in processes] == [0, 0, 0], said
        assert [shards_done(text) for text in said] == [4, 3, SHARDS]
        assert_same(records(out), json_lines(place / "expected.jsonl"))
        assert not list(out.glob(".*"))

    def test_leave_the_shards_of_others_alone(self, place, tmp_path):
        judge(place, tmp_path / "out", "--share", "2/3")
        assert [path.name[5:11] for path in parts(tmp_path / "out")] == ["000002", "000005"]

    def test_take_over_what_another_has_done_meanwhile(self, place, tmp_path, vit_bundle):
        """Both began when nothing was there, and so both have all shards to do."""
        options = DetectorOptions(crops=2, engine="onnxruntime", workers=1)
        plan, out = str(place / "plan.jsonl"), str(tmp_path / "out")
        first, second = (begin_run(plan, vit_bundle.path, out, options) for _ in range(2))
        assert first.todo == second.todo == tuple(range(SHARDS))
        done = first.judge().judge(3)
        (part,) = parts(tmp_path / "out")
        before = part.read_bytes(), part.stat().st_mtime_ns
        judge, seen = second.judge(), []
        assert judge.judge(3, seen.append) == done
        assert seen == []
        assert (part.read_bytes(), part.stat().st_mtime_ns) == before
        part.write_bytes(b"damaged")
        assert judge.judge(3, seen.append).part.images == done.part.images == 2
        assert seen == [1, 2]


class TestStatus:
    def test_counts_what_the_records_say(self, place, undisturbed):
        done = batch(place, "status", undisturbed, "--json")
        assert done.returncode == 0
        found = json.loads(done.stdout)
        expected = json_lines(place / "expected.jsonl")
        verdicts = Counter(record["verdict"] for record in expected if record["status"] == "ok")
        summary = found["summary"]
        assert (found["complete"], found["missing"], found["left"]) == (True, [], 0)
        assert summary["images"] == len(expected) == 13
        assert summary["verdicts"] == verdicts
        assert summary["errors"] == {"ImageError": 1}
        (engine,) = {record["engine"] for record in expected if record["status"] == "ok"}
        assert (summary["engines"], summary["precisions"]) == ({engine: 13}, {"fp32": 13})
        speed = summary["images"] / summary["seconds"]
        assert summary["images_per_second"] == pytest.approx(speed, rel=0.01)

    def test_says_what_is_left_and_ends_with_1(self, place, out):
        for part in parts(out)[2:5]:
            part.unlink()
        done = batch(place, "status", out)
        assert done.returncode == 1
        assert "shards    4 of 7 done\nmissing   2, 3, 4 (6 images)\nimages    7\n" in done.stdout
        found = json.loads(batch(place, "status", out, "--json").stdout)
        assert (found["complete"], found["missing"], found["left"]) == (False, [2, 3, 4], 6)

    def test_of_a_folder_without_a_run_is_refused(self, place, tmp_path):
        said = refusal(batch(place, "status", tmp_path))
        assert "holds no run of glass-batch: name the folder that was given to" in said
        (tmp_path / "run.json").write_text('{"glass_batch": 1}')
        assert "run.json in" in (said := refusal(batch(place, "status", tmp_path)))
        assert "is damaged or of another version of glass-edge" in said


class TestMerge:
    @pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
    def test_gives_each_record_once_in_order(self, suffix, place, undisturbed, tmp_path):
        target = tmp_path / f"all{suffix}"
        done = batch(place, "merge", undisturbed, "-o", target)
        assert done.returncode == 0
        assert "images    13\n" in done.stdout
        expected = json_lines(place / "expected.jsonl")
        if suffix == ".jsonl":
            rows = json_lines(target)
        elif suffix == ".csv":
            rows = list(csv.DictReader(target.open(newline="")))
        else:
            rows = parquet.read_table(target).to_pylist()
        assert [row["path"] for row in rows] == [record["path"] for record in expected]
        assert [row["status"] for row in rows] == [record["status"] for record in expected]
        scores = [float(row["score"]) for row in rows if row["status"] == "ok"]
        expected_scores = [record["score"] for record in expected if record["status"] == "ok"]
        assert scores == pytest.approx(expected_scores, abs=1e-5)

    def test_has_the_summary_of_the_status(self, place, undisturbed, tmp_path):
        done = batch(place, "merge", undisturbed, "-o", tmp_path / "all.csv", "--json")
        status = json.loads(batch(place, "status", undisturbed, "--json").stdout)
        assert json.loads(done.stdout) == status["summary"]

    def test_is_refused_while_shards_are_missing(self, place, out, tmp_path):
        parts(out)[1].unlink()
        target = tmp_path / "all.jsonl"
        said = refusal(batch(place, "merge", out, "-o", target))
        assert "1 of 7 parts are missing: go on with glass-batch run, or give --partial" in said
        assert not target.exists()
        assert batch(place, "merge", out, "-o", target, "--partial").returncode == 0
        assert len(json_lines(target)) == 11

    def test_replaces_only_with_force(self, place, undisturbed, tmp_path):
        target = tmp_path / "all.jsonl"
        target.write_text("mine")
        assert "exists already" in refusal(batch(place, "merge", undisturbed, "-o", target))
        assert target.read_text() == "mine"
        batch(place, "merge", undisturbed, "-o", target, "--force")
        assert len(json_lines(target)) == 13

    @pytest.mark.parametrize("force", [(), ("--force",)])
    def test_goes_to_no_standard_output_nor_does_a_plan(self, force, place, undisturbed):
        said = refusal(batch(place, "plan", "images", "-o", "-", *force))
        assert "-o - is no file: name one, or an address." in said
        said = refusal(batch(place, "merge", undisturbed, "-o", "-", *force))
        assert "cannot tell the format of -: give a name that ends in .jsonl" in said
        assert not (place / "-").exists()

    def test_needs_a_format(self, place, undisturbed):
        said = refusal(batch(place, "merge", undisturbed, "-o", "all.txt"))
        assert "give a name that ends in .jsonl, .csv or .parquet." in said


class TestHostileFolders:
    def test_a_file_is_no_folder(self, place, tmp_path):
        (tmp_path / "out").write_text("mine")
        for arguments in (["status"], ["merge", "-o", "all.csv"], ["run", "plan.jsonl"]):
            folder = ["-o", tmp_path / "out"] if arguments[0] == "run" else [tmp_path / "out"]
            more = OPTIONS if arguments[0] == "run" else ()
            said = refusal(batch(place, *arguments, *more, *folder))
            assert f"{tmp_path}/out is a file: name a folder." in said
        assert (tmp_path / "out").read_text() == "mine"

    def test_what_cannot_be_written_is_said(self, place):
        said = refusal(judge(place, "/proc/out"))
        assert "/proc/out/run.json cannot be written: " in said

    def test_foreign_files_are_no_parts(self, place, out):
        part = parts(out)[6]
        name = part.name
        (out / name.replace("000006", "000007")).write_bytes(b"beyond the plan")
        (out / f"part-000006-{'0' * 12}.parquet").write_bytes(b"of another bundle")
        (out / f"{name}.bak").write_bytes(b"no part")
        (out / ".glass-0123456789abcdef.partial").write_bytes(b"left by a kill")
        (out / name.replace("000006", "6")).write_bytes(b"not named like one")
        (out / name.replace("000006", "0000006")).write_bytes(b"not named like one, either")
        assert batch(place, "status", out).returncode == 0
        part.rename(out / "moved")
        part.mkdir()
        assert "missing   6 " in batch(place, "status", out).stdout

    def test_a_part_that_cannot_be_put_ends_the_run(self, place, out):
        """Nor could the others: it is said once, and what was done is counted."""
        first, second, third, *_ = parts(out)
        for part in (first, second, third):
            part.unlink()
        second.mkdir()
        done = judge(place, out)
        assert done.returncode == 2
        assert "1 shard with 2 images in" in done.stderr
        assert done.stderr.endswith(f"Error: {second} cannot be written: Is a directory.\n")
        assert first.is_file()
        assert not third.exists()
        assert not list(out.glob(".*"))


class TestAShardJudge:
    def test_opens_nothing_before_it_judges_and_can_be_sent_elsewhere(self, undisturbed, tmp_path):
        settings = JudgeSettings(
            tmp_path / "none.glass", "0" * 64, DetectorOptions(), str(tmp_path)
        )
        outcome = pickle.loads(pickle.dumps(ShardJudge(settings))).judge(0)
        assert (outcome.shard, outcome.part) == (0, None)
        assert f"there is no {tmp_path}/plan.jsonl." in outcome.error
        assert pickle.loads(pickle.dumps(outcome)) == outcome

    def test_refuses_another_bundle_than_it_was_told(self, out, vit_bundle):
        """No shard can be judged then, so it is no outcome of one."""
        settings = JudgeSettings(vit_bundle.path, "0" * 64, DetectorOptions(), str(out))
        with pytest.raises(BundleError, match=vit_bundle.digest):
            ShardJudge(settings).judge(0)

    def test_refuses_another_glass_edge_than_where_the_run_was_started(self, out, vit_bundle):
        settings = JudgeSettings(
            *(vit_bundle.path, vit_bundle.digest, DetectorOptions(), str(out)), glass_edge="0.0.1"
        )
        with pytest.raises(InputError, match=r"is installed, but 0\.0\.1 where the run"):
            ShardJudge(settings).open()

    def test_that_its_engine_fails_is_no_outcome_of_a_shard(self, out, vit_bundle, monkeypatch):
        def fail(*_: object) -> None:
            raise EngineError("the device is gone.")

        monkeypatch.setattr(roads, "rows_of", fail)
        before = parts(out)[1].stat().st_mtime_ns
        parts(out)[0].unlink()
        options = DetectorOptions(crops=2, engine="onnxruntime", workers=1)
        judge = ShardJudge(JudgeSettings(vit_bundle.path, vit_bundle.digest, options, str(out)))
        with pytest.raises(EngineError, match="the device is gone"):
            judge.judge(0)
        assert len(parts(out)) == SHARDS - 1
        assert judge.judge(1).part.images == 2  # which is there
        assert parts(out)[0].stat().st_mtime_ns == before

    def test_that_there_is_no_place_for_its_part_is_no_outcome_of_a_shard(
        self, out, vit_bundle, tmp_path, monkeypatch
    ):
        parts(out)[0].unlink()
        options = DetectorOptions(crops=2, engine="onnxruntime", workers=1)
        judge = ShardJudge(JudgeSettings(vit_bundle.path, vit_bundle.digest, options, str(out)))
        judge.open()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
        with pytest.raises(OutputError, match=r"no part can be made here .*gone.*No such file"):
            judge.judge(0)
        assert len(parts(out)) == SHARDS - 1

    def test_judges_any_shard_of_the_plan_and_says_how_far_it_is(self, out, vit_bundle):
        parts(out)[1].unlink()
        options = DetectorOptions(crops=2, engine="onnxruntime", workers=1)
        judge = ShardJudge(JudgeSettings(vit_bundle.path, vit_bundle.digest, options, str(out)))
        seen: list[int] = []
        outcome = pickle.loads(pickle.dumps(judge.judge(1, seen.append)))
        assert seen == [1, 2]
        assert (outcome.shard, outcome.part.images, outcome.error) == (1, 2, None)
        assert len(parts(out)) == SHARDS
        assert "has no shard 7: it has 7." in judge.judge(7).error


NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EMLINK, errno.EXDEV, errno.EINVAL)
"""What file systems without hard links say, such as FAT, SMB and FUSE's."""


def refusing_with(number: int) -> Callable[..., None]:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


class TestALocalFolder:
    def test_has_files_whole_or_not_at_all(self, tmp_path):
        folder = LocalFolder(tmp_path / "new" / "folder")
        assert list(folder.names()) == []
        (tmp_path / "source").write_bytes(b"content" * 1000)
        folder.put("a", tmp_path / "source")
        assert list(folder.names()) == ["a"]
        with folder.open("a") as file:
            file.seek(7)
            assert file.read(7) == b"content"
        with pytest.raises(OutputError, match=r"folder/a cannot be written: No such file"):
            folder.put("a", tmp_path / "missing")
        assert (tmp_path / "new" / "folder" / "a").read_bytes() == b"content" * 1000
        assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["a"]

    @pytest.mark.parametrize("refused", [None, *NO_LINKS])
    def test_puts_something_new_once(self, refused, tmp_path, monkeypatch):
        if refused is not None:
            monkeypatch.setattr(os, "link", refusing_with(refused))
        folder = LocalFolder(tmp_path / "folder")
        assert folder.put_new("a", b"first")
        assert not folder.put_new("a", b"second")
        assert folder.open("a").read() == b"first"
        assert list(folder.names()) == ["a"]
        assert not list((tmp_path / "folder").glob(".*"))

    def test_says_what_else_a_disk_refuses(self, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "link", refusing_with(errno.EIO))
        folder = LocalFolder(tmp_path / "folder")
        with pytest.raises(OutputError, match=r"folder/a cannot be written: Input/output error\."):
            folder.put_new("a", b"first")
        assert list((tmp_path / "folder").iterdir()) == []

    @pytest.mark.parametrize("refused", [None, *NO_LINKS])
    def test_a_whole_file_is_put_only_where_nothing_is(self, refused, tmp_path, monkeypatch):
        if refused is not None:
            monkeypatch.setattr(os, "link", refusing_with(refused))
        with new_output(str(tmp_path / "a"), force=False) as file:
            file.write(b"first")
        assert (tmp_path / "a").read_bytes() == b"first"
        with (
            pytest.raises(OutputError, match="b appeared while it was written"),
            new_output(str(tmp_path / "b"), force=False) as file,
        ):
            (tmp_path / "b").write_bytes(file.write(b"second") and b"of another")
        assert (tmp_path / "b").read_bytes() == b"of another"
        assert (tmp_path / ".b.partial").read_bytes() == b"second"  # as the sentence says

    def test_says_what_is_not_there(self, tmp_path):
        (tmp_path / "plan.jsonl").touch()
        with pytest.raises(InputError, match=r"there is no .*/paln.jsonl. Did you mean .*plan"):
            LocalFolder(tmp_path).open("paln.jsonl")
        with pytest.raises(InputError, match="is a file: name a folder"):
            list(LocalFolder(tmp_path / "plan.jsonl").names())

    def test_a_file_that_is_not_finished_is_not_there(self, tmp_path):
        def write_half() -> None:
            with new_output(str(tmp_path / "a"), force=False) as file:
                file.write(b"half of")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_half()
        assert list(tmp_path.iterdir()) == []
