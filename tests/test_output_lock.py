"""One run at a time writes an output file, and nothing that a run wrote is lost to another."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import slow
from glass_edge.runtime.commands.running.output import check_output, open_output
from glass_edge.runtime.machine.errors import InputError

PROGRAM = Path(sys.executable).parent / "glass-run"
IN_USE = "verdicts.jsonl is being written by another process"


@pytest.fixture(scope="module")
def images(photographs: list[Path]) -> list[str]:
    return [str(path) for path in photographs[:4]]


@pytest.fixture
def command(vit_bundle) -> list[str]:
    """A run over a list on standard input."""
    return [str(PROGRAM), "-", "--bundle", str(vit_bundle.path), "--crops", "1", "-o",
            "verdicts.jsonl"]  # fmt: skip


def run(place: Path, command: list[str], images: list[str], *options: str):
    return subprocess.run(
        [*command, *options], cwd=place, input="\n".join(images), capture_output=True, text=True
    )


@contextmanager
def started(
    place: Path, command: list[str], images: list[str], *options: str, new: int | None = None
) -> Iterator:
    """A run that has written its first records, ``new`` or all, and waits for more images."""
    process = subprocess.Popen(
        [*command, *options], cwd=place, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    before = lines(place)
    process.stdin.write("".join(f"{image}\n" for image in images))
    process.stdin.flush()
    new = len(images) if new is None else new
    while lines(place) < before + new and process.poll() is None:
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()[1]
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def lines(place: Path) -> int:
    output = place / "verdicts.jsonl"
    return output.read_bytes().count(b"\n") if output.exists() else 0


def paths(place: Path) -> list[str]:
    text = (place / "verdicts.jsonl").read_text()
    return [json.loads(line)["path"] for line in text.splitlines()]


@pytest.mark.parametrize(
    ("first", "second"),
    [("--force", "--force"), slow("--resume", "--resume"), slow("--resume", "--force")],
)
def test_a_second_run_is_refused_and_the_first_loses_nothing(
    first, second, command, images, tmp_path
):
    (tmp_path / "verdicts.jsonl").touch()
    with started(tmp_path, command, images[:2], first) as process:
        refused = run(tmp_path, command, images, second)
        assert refused.returncode == 2
        assert IN_USE in refused.stderr
        assert "Traceback" not in refused.stderr
        _, messages = process.communicate("\n".join(images[2:]), timeout=60)
        assert process.returncode == 0, messages
    assert paths(tmp_path) == images
    assert [path.name for path in tmp_path.iterdir()] == ["verdicts.jsonl"]


def test_two_resumes_of_one_file_lose_no_record(command, images, tmp_path):
    """A scheduler restarts a job that still runs: the lock is held before the file is read."""
    assert run(tmp_path, command, images[:1]).returncode == 0
    with started(tmp_path, command, images[:2], "--resume", new=1) as process:
        refused = run(tmp_path, command, images, "--resume")
        assert refused.returncode == 2
        assert IN_USE in refused.stderr
        assert paths(tmp_path) == images[:2]
        _, messages = process.communicate("\n".join(images[2:]), timeout=60)
        assert process.returncode == 0, messages
    assert paths(tmp_path) == images
    assert [path.name for path in tmp_path.iterdir()] == ["verdicts.jsonl"]


@pytest.mark.slow
def test_of_resumes_that_begin_at_once_one_goes_on(command, images, tmp_path):
    """Each mends the file before it goes on, by putting another in its place."""
    assert run(tmp_path, command, images[:2]).returncode == 0
    streams = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    begun = [subprocess.Popen([*command, "--resume"], cwd=tmp_path, **streams) for _ in range(3)]
    deadline = time.monotonic() + 60
    while [each.poll() for each in begun].count(None) > 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    ended = [(each.communicate("\n".join(images), timeout=60)[1], each) for each in begun]
    assert sorted(process.returncode for _, process in ended) == [0, 2, 2], ended
    assert [IN_USE in messages for messages, _ in ended].count(True) == 2
    assert paths(tmp_path) == images


def test_of_two_runs_that_begin_at_once_one_is_refused(command, images, tmp_path):
    """Both find no file when they look, seconds before they write."""
    both = [
        subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    ended = [(process.communicate("\n".join(images).encode()), process)[1] for process in both]
    assert sorted(process.returncode for process in ended) == [0, 2]
    assert paths(tmp_path) == images


@pytest.mark.parametrize("name", ["verdicts.jsonl", "verdicts.csv"])
def test_a_file_that_appears_after_the_check_is_not_written_to(name, tmp_path):
    path = tmp_path / name
    check_output(str(path), force=False, resume=False)
    path.write_text("precious\n")
    with pytest.raises(InputError, match="exists already"), open_output(str(path)):
        pass
    assert path.read_text() == "precious\n"


def test_a_killed_run_leaves_no_lock(command, images, tmp_path):
    with started(tmp_path, command, images[:2]) as process:
        process.kill()
        process.wait()
        done = run(tmp_path, command, images, "--resume")
    assert done.returncode == 0, done.stderr
    assert paths(tmp_path) == images
    assert [path.name for path in tmp_path.iterdir()] == ["verdicts.jsonl"]


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_file_that_is_taken_away_is_no_success(how, command, images, tmp_path):
    with started(tmp_path, command, images[:2]) as process:
        if how == "removed":
            (tmp_path / "verdicts.jsonl").unlink()
        else:
            (tmp_path / "other").write_text("")
            (tmp_path / "other").replace(tmp_path / "verdicts.jsonl")
        _, messages = process.communicate("\n".join(images[2:]), timeout=60)
        assert process.returncode == 2
        assert "verdicts.jsonl was removed or replaced while it was written" in messages


def test_a_link_may_lead_to_a_file_that_is_not_there_yet(tmp_path):
    (tmp_path / "link.jsonl").symlink_to("verdicts.jsonl")
    with pytest.raises(InputError, match="exists already"):
        check_output(str(tmp_path / "link.jsonl"), force=False, resume=False)
    with open_output(str(tmp_path / "link.jsonl"), "replace") as sink:
        sink.append(b"{}\n")
    assert (tmp_path / "verdicts.jsonl").read_bytes() == b"{}\n"
    assert (tmp_path / "link.jsonl").is_symlink()
