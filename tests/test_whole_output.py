"""An output that is there whole at the end of a run, or not at all: a Parquet table."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest
from conftest import PROGRAMS, Done, call
from glass_edge.runtime.commands.running.output import (
    check_output,
    finish,
    open_output,
    record_writer,
)
from glass_edge.runtime.machine.errors import EngineError, OutputError
from glass_edge.runtime.machine.signals import Interrupted
from glass_edge.runtime.results.parquet import records_in
from glass_edge.runtime.results.records import ErrorInfo
from glass_edge.runtime.results.whole_file import whole_file

from glass_edge import Failure, InputError

SCRATCH = ".verdicts.parquet.partial"
OLD = b"what was there"


@pytest.fixture(scope="module")
def images(photographs: list[Path]) -> list[str]:
    return [str(path) for path in photographs[:3]]


@pytest.fixture
def place(tmp_path, vit_bundle) -> Path:
    (tmp_path / "model.glass").symlink_to(vit_bundle.path)
    (tmp_path / "verdicts.parquet").write_bytes(OLD)
    return tmp_path


def run(place: Path, images: Sequence[str], *options: str, output="verdicts.parquet") -> Done:
    return call("glass-run", place, *images, "-b", "model.glass", "--crops", "1", "-o", output,
                *options)  # fmt: skip


def files(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir() if path.name != "model.glass")


@contextmanager
def waiting_run(place: Path) -> Iterator[subprocess.Popen[str]]:
    """A run that has opened its output, and waits for images on standard input."""
    command = [
        PROGRAMS / "glass-run",
        "-",
        "-b",
        "model.glass",
        "-o",
        "verdicts.parquet",
        "--force",
    ]
    process = subprocess.Popen(
        command, cwd=place, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not (place / SCRATCH).exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.1)
    assert process.poll() is None, process.communicate()[1]
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_run_writes_what_json_lines_say(place, images):
    done = run(place, [*images, "missing.jpg"], "--force")
    assert done.returncode == 0, done.stderr
    assert files(place) == ["verdicts.parquet"]
    run(place, [*images, "missing.jpg"], output="verdicts.jsonl")
    with open(place / "verdicts.parquet", "rb") as table:
        found = [json.loads(msgspec.json.encode(record)) for record in records_in(table)]
    lines = (place / "verdicts.jsonl").read_text().splitlines()
    for one, other in zip(found, map(json.loads, lines), strict=True):
        if one["status"] == "ok":
            assert one.pop("score") == pytest.approx(other.pop("score"), abs=1e-5)
            for name in ("logits", "probabilities"):
                assert one.pop(name) == pytest.approx(other.pop(name), abs=1e-4)
        assert one == other


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_stopped_leaves_what_was_there(number, code, place):
    with waiting_run(place) as process:
        process.send_signal(number)
        _, messages = process.communicate(timeout=60)
    assert process.returncode == code
    assert "no verdicts.parquet was written, and one that was there is kept" in messages
    assert "Only a run to a .jsonl file on this machine can be continued." in messages
    assert "Traceback" not in messages
    assert files(place) == ["verdicts.parquet"]
    assert (place / "verdicts.parquet").read_bytes() == OLD


def test_one_run_at_a_time_and_the_next_after_a_kill_goes_ahead(place, images):
    with waiting_run(place) as process:
        refused = run(place, images, "--force")
        assert refused.returncode == 2
        assert "verdicts.parquet is being written by another process" in refused.stderr
        process.kill()
        process.wait()
    assert (place / "verdicts.parquet").read_bytes() == OLD
    (place / SCRATCH).write_bytes(b"x" * 100_000)  # more than what follows
    assert run(place, images, "--force").returncode == 0
    assert files(place) == ["verdicts.parquet"]
    assert pq.read_table(place / "verdicts.parquet").num_rows == 3


@contextmanager
def file_sizes_up_to(size: int) -> Iterator[None]:
    """Refuse what makes a file larger, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 2000])
def test_a_full_disk_leaves_what_was_there(size, place, images):
    with file_sizes_up_to(size):
        done = run(place, images, "--force")
    assert done.returncode == 2
    assert "Error: verdicts.parquet cannot be written: File too large. Make room" in done.stderr
    assert files(place) == ["verdicts.parquet"]
    assert (place / "verdicts.parquet").read_bytes() == OLD


def test_a_report_that_fails_costs_no_verdicts(place, images):
    with file_sizes_up_to(20_000):  # more than the table, less than the page
        done = run(place, images, "--force", "--report", "page.html")
    assert done.returncode == 2
    assert "page.html cannot be written" in done.stderr
    assert files(place) == ["verdicts.parquet"]
    assert pq.read_table(place / "verdicts.parquet").num_rows == 3


@pytest.mark.parametrize("error", [EngineError("it broke."), KeyboardInterrupt()])
def test_a_run_that_fails_leaves_nothing(error, tmp_path, capfd):
    target = str(tmp_path / "verdicts.parquet")

    def fail() -> None:
        with open_output(target) as output:
            writer = record_writer(target, output, ("fake", "real"), "fake")
            writer.write(Failure(path="a.jpg", error=ErrorInfo("ImageError", "it is empty.")))
            assert files(tmp_path) == [SCRATCH]
            raise error

    with pytest.raises(type(error)):
        fail()
    assert files(tmp_path) == []
    assert f"no {target} was written: the run " in capfd.readouterr().err


def test_sigterm_between_the_last_image_and_the_end_leaves_nothing(tmp_path):
    with (
        pytest.raises(Interrupted),
        open_output(str(tmp_path / "verdicts.parquet")),
    ):
        os.kill(os.getpid(), signal.SIGTERM)
    assert files(tmp_path) == []


def test_a_link_stays_one_and_the_mode_of_the_file_too(place):
    (place / "verdicts.parquet").chmod(0o640)
    (place / "link.parquet").symlink_to("verdicts.parquet")
    target = str(place / "link.parquet")
    with open_output(target, "replace") as output:
        finish(record_writer(target, output, ("fake", "real"), "fake"), output)
    assert (place / "link.parquet").is_symlink()
    assert (place / "verdicts.parquet").stat().st_mode & 0o777 == 0o640
    assert pq.read_table(place / "verdicts.parquet").num_rows == 0


def test_a_file_that_appears_meanwhile_is_kept_and_so_are_the_verdicts(tmp_path):
    path = tmp_path / "v.parquet"
    place = whole_file(str(path), replace=False)
    place.__enter__().write(b"verdicts")
    path.write_bytes(OLD)
    with pytest.raises(OutputError, match="appeared while it was written"):
        place.__exit__(None, None, None)
    assert path.read_bytes() == OLD
    assert (tmp_path / ".v.parquet.partial").read_bytes() == b"verdicts"


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_only_files_are_replaced(kind, tmp_path):
    path = tmp_path / "v.parquet"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    with (
        pytest.raises(OutputError, match="no file that can be replaced"),
        open_output(str(path), "replace"),
    ):
        pass
    assert files(tmp_path) == ["v.parquet"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "verdicts.parquet exists already: choose another name, or --force to replace it."),
        ({"resume": True}, "--resume needs the .jsonl file of the run to go on with: "
                           "verdicts.parquet is written whole"),
        ({"bom": True, "force": True}, "--add-bom is for spreadsheets"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused_before_the_run(options, sentence, place, monkeypatch):
    monkeypatch.chdir(place)
    with pytest.raises(InputError) as refused:
        check_output("verdicts.parquet", **{"force": False, "resume": False} | options)
    assert sentence in str(refused.value)


def test_without_pyarrow_the_extra_is_named_before_the_run(monkeypatch):
    monkeypatch.setattr("glass_edge.runtime.commands.console.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'glass-edge\[parquet\]'"):
        check_output("v.parquet", force=False, resume=False)


def test_a_table_can_be_shown(place, images):
    assert run(place, images, "--force").returncode == 0
    done = call("glass-report", place, "verdicts.parquet")
    assert done.returncode == 0, done.stderr
    assert "report.html (3 images)" in done.stderr
    (place / "other.parquet").write_bytes(OLD)
    done = call("glass-report", place, "other.parquet", "--force")
    assert done.returncode == 2
    assert "damaged or no Parquet file" in done.stderr
