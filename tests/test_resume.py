"""Nothing missing, nothing twice, whatever ended the run before."""

from __future__ import annotations

import errno
import json
import math
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import PROGRAMS, Done, call, launch
from glass_edge.runtime.commands.running.output import open_output
from glass_edge.runtime.finding import files
from glass_edge.runtime.images import reading
from glass_edge.runtime.machine.errors import OutputError
from PIL import Image

PROGRAM = PROGRAMS / "glass-run"


@pytest.fixture(scope="module")
def place(tmp_path_factory, vit_bundle, photograph) -> Path:
    """A bundle, 40 images of which 2 are no images, and an undisturbed run over them."""
    place = tmp_path_factory.mktemp("place")
    (place / "model.glass").symlink_to(vit_bundle.path)
    (place / "images").mkdir()
    small = photograph.resize((620, 300))
    for number in range(38):
        picture = small.resize((240 + 10 * number, 300))
        picture.save(place / "images" / f"{number:02}.jpg")
    (place / "images" / "17-no-image.jpg").write_bytes(b"this is no image")
    (place / "images" / "31-empty.jpg").touch()
    assert run(place, "undisturbed.jsonl").returncode == 0
    return place


def run(place: Path, output: str, *options: str) -> Done:
    return call("glass-run", place, "images", "-o", output, "--crops", "2", *options)


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_same(found: list[dict], expected: list[dict]) -> None:
    """The same records; logits may differ in the last bits, because batches were others."""
    assert [record["path"] for record in found] == [record["path"] for record in expected]
    for one, other in zip(found, expected, strict=True):
        score, expected_score = one.pop("score", 0), other.pop("score", 0)
        assert score == pytest.approx(expected_score, abs=1e-5)
        for record in (one, other):
            for name in ("logits", "probabilities"):
                record.pop(name, None)
            for crop in record.get("crops", ()):
                del crop["attention"]
        assert one == other


def killed_run(place: Path, output: str, moment: random.Random) -> bool:
    """Start or take up a run and kill it, one in three perhaps while it is still starting.

    Returns:
        Whether it was killed with images left to judge, and not through before.
    """
    command = [PROGRAM, "images", "-o", output, "--crops", "2", "--resume", "--workers", "1"]
    process = subprocess.Popen(command, cwd=place, stderr=subprocess.DEVNULL)
    before = size(place / output)
    deadline = time.monotonic() + moment.uniform(0, 1) if moment.random() < 1 / 3 else math.inf
    while process.poll() is None and time.monotonic() < deadline:
        if size(place / output) > before:
            time.sleep(moment.uniform(0, 0.12))
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    killed = process.wait() == -signal.SIGKILL
    return killed and (not size(place / output) or len(records_of(place / output)) < 40)


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def records_of(path: Path) -> list[bytes]:
    return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def survive(place: Path, output: str, kills: int, seed: int) -> None:
    """Kill so many runs before they are through, at random moments; then let one get through.

    After half of them, and where a run was through, part of the file is gone, as after a power cut.
    """
    moment, killed = random.Random(seed), 0
    while killed < kills:
        midway = killed_run(place, output, moment)
        killed += midway
        if size(place / output) and (not midway or moment.random() < 0.5):
            lost = moment.randrange(1, 400 if midway else size(place / output))
            os.truncate(place / output, max(0, size(place / output) - lost))
    done = run(place, output, "--resume")
    assert done.returncode == 0, done.stderr
    assert not list(place.glob(f".{output}*"))


def test_runs_killed_at_random_moments_end_like_an_undisturbed_one(place):
    survive(place, "killed.jsonl", kills=2, seed=1)
    assert_same(records(place / "killed.jsonl"), records(place / "undisturbed.jsonl"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(25))
def test_a_hundred_runs_killed_at_random_moments(seed, place):
    survive(place, f"killed-{seed}.jsonl", kills=4, seed=seed)
    assert_same(records(place / f"killed-{seed}.jsonl"), records(place / "undisturbed.jsonl"))


@pytest.mark.parametrize("cut", [1, 2, 30, 300])
def test_a_torn_last_line_is_judged_again(cut, place):
    output = place / f"torn-{cut}.jsonl"
    output.write_bytes((place / "undisturbed.jsonl").read_bytes()[:-cut])
    done = run(place, output.name, "--resume")
    assert "39 records are there already" in done.stderr
    assert "1 images in" in done.stderr
    assert_same(records(output), records(place / "undisturbed.jsonl"))


@pytest.mark.parametrize("line", [0, 17, 39])
def test_what_a_power_cut_left_blank_is_judged_again(line, place):
    """Blocks that never came to the disk read as NULs, in the middle of lines."""
    lines = (place / "undisturbed.jsonl").read_bytes().splitlines(keepends=True)
    start = sum(map(len, lines[:line])) + 50
    content = b"".join(lines)
    blank = content[:start] + bytes(600) + content[start + 600 :]
    output = place / f"blank-{line}.jsonl"
    output.write_bytes(blank[: len(content)])
    done = run(place, output.name, "--resume")
    assert f"{line} records are there already" in done.stderr
    assert_same(records(output), records(place / "undisturbed.jsonl"))


def test_the_file_stays_the_one_that_it_was(place):
    """A link stays a link, rights stay as they were; what a killed run left is cleaned up."""
    shutil.copy(place / "undisturbed.jsonl", place / "target.jsonl")
    (place / "target.jsonl").chmod(0o640)
    (place / "link.jsonl").symlink_to("target.jsonl")
    (place / ".target.jsonl.partial").write_text("what a run killed while it mended left behind")
    done = run(place, "link.jsonl", "--resume")
    assert "40 records are there already" in done.stderr
    assert (place / "link.jsonl").readlink() == Path("target.jsonl")
    assert stat.S_IMODE((place / "target.jsonl").stat().st_mode) == 0o640
    assert_same(records(place / "target.jsonl"), records(place / "undisturbed.jsonl"))
    assert not list(place.glob(".target*"))


def test_a_finished_run_has_nothing_left_to_do(place):
    shutil.copy(place / "undisturbed.jsonl", place / "finished.jsonl")
    done = run(place, "finished.jsonl", "--resume")
    assert done.returncode == 0
    assert "0 images in" in done.stderr
    undisturbed = (place / "undisturbed.jsonl").read_bytes()
    assert (place / "finished.jsonl").read_bytes() == undisturbed


def test_without_a_file_it_is_a_run_like_any_other(place):
    run(place, "fresh.jsonl", "--resume")
    assert_same(records(place / "fresh.jsonl"), records(place / "undisturbed.jsonl"))


def test_images_that_changed_are_judged_again_and_their_old_records_dropped(place):
    own = place.parent / "own"
    shutil.copytree(place, own, symlinks=True)
    run(own, "verdicts.jsonl")
    with Image.open(own / "images" / "05.jpg") as picture:
        picture.rotate(180).save(own / "images" / "05.jpg")
    (own / "images" / "09.jpg").unlink()
    shutil.copy(own / "images" / "10.jpg", own / "images" / "31-empty.jpg")
    done = run(own, "verdicts.jsonl", "--resume")
    assert "2 images in" in done.stderr
    found = records(own / "verdicts.jsonl")
    paths = [record["path"] for record in found]
    assert len(set(paths)) == len(paths) == 40
    assert paths[-2:] == ["images/05.jpg", "images/31-empty.jpg"]
    assert found[-1]["status"] == "ok"
    assert "images/09.jpg" in paths  # it is gone, its verdict is not


@pytest.fixture
def failing(tmp_path, vit_bundle, photographs) -> Path:
    """A run over a good image, a damaged one, one on a share that does not answer, and none."""
    (tmp_path / "model.glass").symlink_to(vit_bundle.path)
    (tmp_path / "images").mkdir()
    shutil.copy(photographs[0], tmp_path / "images" / "good.png")
    shutil.copy(photographs[1], tmp_path / "images" / "locked.png")
    (tmp_path / "images" / "damaged.png").write_bytes(b"this is no image")
    with unreadable("locked.png"):
        assert run_list(tmp_path).returncode == 0
    assert errors(tmp_path) == FAILED
    return tmp_path


FAILED = {
    "images/damaged.png": "ImageError",
    "images/locked.png": "UnreadableError",
    "images/missing.png": "UnreadableError",
}


@contextmanager
def unreadable(name: str) -> Iterator[None]:
    """Let reads of one file fail as on a stale share; root could read a locked file."""
    opening = files.without_waiting

    def fail(path: str, flags: int) -> int:
        if Path(path).name == name:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return opening(path, flags)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "without_waiting", fail)
        yield


def run_list(place: Path, *options: str) -> Done:
    names = [f"images/{name}.png" for name in ("good", "damaged", "locked", "missing")]
    return call("glass-run", place, *names, "-o", "out.jsonl", "--crops", "1", *options)


def errors(place: Path) -> dict[str, str]:
    found = records(place / "out.jsonl")
    assert len({record["path"] for record in found}) == len(found) == 4
    return {record["path"]: record["error"]["type"] for record in found if "error" in record}


def test_errors_of_reading_are_tried_again_and_damaged_files_are_not(failing):
    damaged, _, missing = FAILED.items()
    done = run_list(failing, "--resume")
    assert "3 records are there already; 1 more are made again" in done.stderr
    assert "1 images in" in done.stderr
    assert errors(failing) == dict([damaged, missing])


def test_an_error_that_has_not_passed_is_the_same_record_again(failing):
    with unreadable("locked.png"):
        done = run_list(failing, "--resume")
    assert "1 images in" in done.stderr
    assert errors(failing) == FAILED


@pytest.mark.parametrize(("retry", "images"), [("none", 0), ("read", 1), ("all", 2)])
def test_which_errors_are_tried_again_can_be_chosen(retry, images, failing):
    done = run_list(failing, "--resume", "--retry-errors", retry)
    assert f"{images} images in" in done.stderr
    assert len(errors(failing)) == (3 if retry == "none" else 2)


def test_a_file_that_was_not_there_is_judged_when_it_is(failing):
    shutil.copy(failing / "images" / "good.png", failing / "images" / "missing.png")
    assert "2 images in" in run_list(failing, "--resume").stderr
    assert list(errors(failing)) == ["images/damaged.png"]


def test_other_ways_to_name_the_same_folder_are_the_same_images(place):
    """However it is written, and through links to folders."""
    own = place.parent / "spelled"
    shutil.copytree(place, own, symlinks=True)
    (own / "link").symlink_to("images")
    for images in ("./images", "images/", "link", "../spelled/images", str(own / "images")):
        command = (images, "-o", own / "undisturbed.jsonl", "--crops", "2", "--resume")
        done = call("glass-run", own, *command)
        assert "40 records are there already\n0 images in" in done.stderr, images
        assert len(records(own / "undisturbed.jsonl")) == 40


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--crops", "3"], "--crops 2"),
        (["--seed", "7"], "another --seed"),
        (["--fixed-seed", "7"], "another --seed"),
        (["--force"], "give one of them"),
    ],
)
def test_records_made_in_another_way_are_not_mixed(options, words, place):
    before = (place / "undisturbed.jsonl").read_bytes()
    done = run(place, "undisturbed.jsonl", "--resume", *options)
    assert done.returncode == 2
    assert words in done.stderr
    assert (place / "undisturbed.jsonl").read_bytes() == before


def test_a_threshold_that_would_change_a_verdict_is_another(place):
    """Even if it is one alone and not the first; one that changes none is as good as the same."""
    path = place / "threshold.jsonl"
    shutil.copy(place / "undisturbed.jsonl", path)
    judged = [record for record in records(path) if record["status"] == "ok"]
    scores = sorted(record["score"] for record in judged)
    assert len({record["verdict"] for record in judged}) == 1  # random weights tell nothing apart
    if judged[0]["verdict"] == "fake":
        other, same = (scores[0] + scores[1]) / 2, scores[0]
    else:
        other, same = (scores[-2] + scores[-1]) / 2, scores[-1] + 1e-6
    assert [r["score"] >= other for r in judged].count(judged[0]["verdict"] != "fake") == 1
    assert (judged[0]["score"] >= other) == (judged[0]["verdict"] == "fake")
    done = run(place, path.name, "--resume", "--threshold", repr(other))
    assert done.returncode == 2
    assert "another --threshold" in done.stderr
    assert path.read_bytes() == (place / "undisturbed.jsonl").read_bytes()
    assert run(place, path.name, "--resume", "--threshold", repr(same)).returncode == 0


def test_a_run_that_is_refused_drops_nothing(place):
    """Records of images that changed go only when their images are judged again."""
    own = place.parent / "refused"
    shutil.copytree(place, own, symlinks=True)
    run(own, "verdicts.jsonl")
    before = (own / "verdicts.jsonl").read_bytes()
    (own / "images" / "05.jpg").touch()
    assert run(own, "verdicts.jsonl", "--resume", "--crops", "3").returncode == 2
    assert (own / "verdicts.jsonl").read_bytes() == before
    assert "39 records are there" in run(own, "verdicts.jsonl", "--resume").stderr


def test_what_glass_run_did_not_write_is_left_alone(place):
    (place / "other.jsonl").write_text('{"what": "is this"}\n')
    done = run(place, "other.jsonl", "--resume")
    assert done.returncode == 2
    assert "line 1 is not a record" in done.stderr
    assert (place / "other.jsonl").read_text() == '{"what": "is this"}\n'
    assert not list(place.glob(".other*"))


@pytest.mark.parametrize("output", ["verdicts.csv", "-"])
def test_only_json_lines_in_a_file_can_be_taken_up(output, place):
    done = run(place, output, "--resume")
    assert done.returncode == 2
    assert "--resume needs the .jsonl file" in done.stderr


@pytest.mark.parametrize("output", ["full.jsonl", "full.csv"])
def test_a_full_disk_leaves_whole_records(output, place):
    """The limit of a file's size stops a write in its middle, as a full disk does."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))

    options = ("images", "-o", output, "--crops", "2", "--force")
    done = launch("glass-run", place, *options, preexec_fn=limit)
    assert done.returncode == 2
    assert f"{output} cannot be written any more: File too large" in done.stderr
    assert ("go on with --resume" in done.stderr) == output.endswith("jsonl")
    assert "Traceback" not in done.stderr
    text = (place / output).read_text()
    assert text.endswith("\n")
    assert len(text) > 2500
    if output.endswith("jsonl"):
        done = run(place, output, "--resume")
        assert done.returncode == 0
        assert_same(records(place / output), records(place / "undisturbed.jsonl"))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_what_the_disk_refuses_at_the_end_is_an_error(number, tmp_path, monkeypatch):
    """Network file systems and quotas may take every write and say so only then."""

    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    path = tmp_path / "verdicts.jsonl"
    with (
        pytest.raises(OutputError, match=f"{os.strerror(number)}. Its last records may be lost"),
        open_output(str(path)) as sink,
    ):
        sink.append(b"{}\n")


def test_what_holds_nothing_back_may_be_an_output(place):
    """Pipes cannot be synchronised, and need not be."""
    os.mkfifo(place / "pipe.jsonl")
    with subprocess.Popen(["cat", place / "pipe.jsonl"], stdout=subprocess.PIPE) as reader:
        done = run(place, "pipe.jsonl", "--force")
        assert reader.stdout is not None
        lines = reader.stdout.read().splitlines()
    assert done.returncode == 0, done.stderr
    assert len(lines) == 40


def test_a_folder_that_may_not_be_written_to_is_one_sentence(tmp_path, monkeypatch, request):
    tmp_path.chmod(0o555)
    monkeypatch.chdir(tmp_path)
    request.getfixturevalue("unprivileged")
    with (
        pytest.raises(OutputError, match=r"verdicts.csv cannot be written: Permission denied"),
        open_output("verdicts.csv"),
    ):
        pass


def test_a_full_standard_output_is_one_sentence(place):
    with open("/dev/full", "w") as full:
        streams = {"capture_output": False, "stdout": full, "stderr": subprocess.PIPE}
        done = launch("glass-run", place, "images", "-o", "-", **streams)
    assert done.returncode == 2
    assert "standard output cannot be written: No space left on device." in done.stderr


def test_a_folder_that_is_not_there_is_said_before_the_work(place):
    done = run(place, "nowhere/verdicts.jsonl")
    assert done.returncode == 2
    assert (
        "nowhere/verdicts.jsonl cannot be written: there is no folder nowhere: make it,"
        in done.stderr
    )
