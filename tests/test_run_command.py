"""glass-run as a user meets it: a process with files, streams and exit codes."""

from __future__ import annotations

import csv
import json
import os
import platform
import re
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import PROGRAMS, ROOT, call, launch, refusal, slow
from fuzz.cut import cut_short
from fuzz.seeds import seeds
from glass_edge.runtime.commands.running.advice import int8_note
from glass_edge.runtime.engines.base import X86
from PIL import Image
from tiffs import Page, written

from glass_edge import Detector

pytestmark = pytest.mark.usefixtures("every_cpu")

SAMPLES_PER_PIXEL = 277
PROGRAM = PROGRAMS / "glass-run"
run = partial(call, "glass-run")


@pytest.fixture(scope="module")
def place(tmp_path_factory, vit_bundle, photographs) -> Path:
    """A working directory with one bundle and a folder of photographs."""
    place = tmp_path_factory.mktemp("place")
    (place / "model.glass").symlink_to(vit_bundle.path)
    (place / "images").mkdir()
    for path in photographs[:4]:
        (place / "images" / path.name).symlink_to(path)
    return place


def test_a_table_on_the_screen_and_a_summary_beside_it(place):
    done = launch("glass-run", place, "images")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["verdict", "P(fake)", "pixels", "image"]
    assert [line.split()[-1] for line in lines[1:]] == [
        "images/exact.png", "images/narrow.png", "images/small.jpg", "images/tiny.png",
    ]  # fmt: skip
    assert "4 images in" in done.stderr
    assert "0 errors" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_json_lines_on_standard_output(place, vit_bundle):
    done = launch("glass-run", place, "images/small.jpg", "--output", "-", "--seed", "3")
    (record,) = map(json.loads, done.stdout.splitlines())
    assert record["status"] == "ok"
    assert record["bundle"] == f"{vit_bundle.path.name}@{vit_bundle.digest[:12]}"
    (verdict,) = Detector(place / "model.glass").detect(place / "images/small.jpg")
    assert record["seed"] != verdict.seed


def test_json_and_csv_files_say_the_same(place, tmp_path):
    for name in ("verdicts.jsonl", "verdicts.csv"):
        done = run(place, "images", "-o", str(tmp_path / name))
        assert (done.returncode, done.stdout) == (0, "")
    records = [json.loads(line) for line in (tmp_path / "verdicts.jsonl").open()]
    rows = list(csv.DictReader((tmp_path / "verdicts.csv").open(newline="")))
    assert [r["path"] for r in records] == [r["path"] for r in rows]
    assert [str(r["score"]) for r in records] == [r["score"] for r in rows]


def test_a_spreadsheet_is_told_that_names_are_utf_8(place, tmp_path):
    """Excel takes a CSV file without the mark for one in the encoding of the user's country."""
    (tmp_path / "Zoë.png").symlink_to(place / "images" / "exact.png")
    command = ("Zoë.png", "-b", place / "model.glass")
    for option, start in (((), b'"path"'), (("--add-bom",), b'\xef\xbb\xbf"path"')):
        output = tmp_path / f"verdicts{len(option)}.csv"
        assert run(tmp_path, *command, "-o", output, *option).returncode == 0
        assert output.read_bytes().startswith(start)
        with output.open(newline="", encoding="utf-8-sig") as lines:
            assert [row["path"] for row in csv.DictReader(lines)] == ["Zoë.png"]
    for output in ("verdicts.jsonl", "-"):
        sentence = refusal(run(tmp_path, *command, "-o", output, "--add-bom"))
        assert "--add-bom is for spreadsheets: give it with -o FILE.csv." in sentence


@pytest.mark.skipif(platform.machine() not in X86, reason="kernels of other CPUs are others")
def test_int8_that_does_not_pay_is_said_beside_the_records(place, make_precision):
    for precision, notes in (("int8", 1), ("fp32", 0)):
        bundle = str(make_precision("vit", precision).path)
        done = run(place, "images", "-b", bundle, "-o", "-", "--engine", "onnxruntime")
        assert len([json.loads(line) for line in done.stdout.splitlines()]) == 4
        said = [line for line in done.stderr.splitlines() if line.startswith("Note: ")]
        assert len(said) == notes
        assert all("int8" in line for line in said)


@pytest.mark.parametrize(
    ("engine", "computed", "flags", "note"),
    [
        ("onnxruntime 1.32.0 cpu", "int8", ["avx512_vnni"], "may be no faster than fp32"),
        ("openvino 2026.4.1 cpu", "int8", ["avx2"], "this CPU has no VNNI"),
        ("openvino 2026.4.1 cpu", "int8", ["avx2", "avx_vnni"], None),
        ("openvino 2026.4.1 cpu", "int8", [], None),
        ("onnxruntime 1.32.0 cuda", "fp32", ["avx512_vnni"], "computes this int8 bundle in fp32"),
        ("tensorrt 10.9 NVIDIA H100", "int8", ["avx2"], None),
    ],
)
def test_where_int8_does_not_pay(engine, computed, flags, note, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    found = int8_note(engine, computed, flags)
    assert found is None if note is None else note in found


def test_onnx_runtime_on_arm_has_kernels_of_its_own(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert int8_note("onnxruntime 1.32.0 cpu", "int8", ["asimd"]) is None


def test_a_list_on_standard_input(place):
    done = run(
        place, "-", "-b", "model.glass", "-o", "-", input="images/tiny.png\n\nimages/small.jpg\n"
    )
    paths = [json.loads(line)["path"] for line in done.stdout.splitlines()]
    assert paths == ["images/tiny.png", "images/small.jpg"]


def test_a_list_may_hold_names_that_are_no_utf_8(place, photographs):
    """In most locales Python itself would refuse to read them from standard input."""
    (place / os.fsdecode(b"caf\xe9.png")).symlink_to(photographs[0])
    done = subprocess.run(
        [PROGRAM, "-", "-b", "model.glass", "-o", "-"],
        cwd=place,
        env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"},
        input=b"caf\xe9.png\nimages/tiny.png\n",
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["path"] for record in records] == ["caf\\xe9.png", "images/tiny.png"]
    assert [record["status"] for record in records] == ["ok", "ok"]


def test_names_cannot_forge_a_line_nor_drive_the_terminal(place, tmp_path, photographs):
    name = "a\x1b]0;\r\x9b\u202egpj.\nreal   0.0000      1x1  c.png"
    (tmp_path / name).symlink_to(photographs[0])
    (tmp_path / f"{name}.empty").touch()
    for path in (tmp_path / name, tmp_path / f"{name}.empty"):
        _, line = run(place, str(path)).stdout.splitlines()
        assert (line.split()[0] == "error") == (path.suffix == ".empty")
        assert "a\\x1b]0;\\r\\x9b\\u202egpj.\\nreal   0.0000      1x1  c.png" in line
    sentence = refusal(run(place, "images", "-b", str(tmp_path / "\x1b]0;")))
    assert "\\x1b]0;" in sentence
    assert "\x1b" not in sentence


def test_a_bad_image_is_a_record_and_strict_makes_it_the_exit_code(place, tmp_path):
    (tmp_path / "bad.jpg").touch()
    arguments = ("images/tiny.png", str(tmp_path / "bad.jpg"), "images/missing.jpg", "-o", "-")
    done = run(place, *arguments)
    assert done.returncode == 0
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["status"] for record in records] == ["ok", "error", "error"]
    assert "1 real, 2 errors" in done.stderr or "0 real, 2 errors" in done.stderr
    assert launch("glass-run", place, *arguments, "--strict").returncode == 1


def test_brackets_in_a_missing_name_are_no_end_of_the_run(place, tmp_path):
    """Nor are they silently a pattern that matches another image."""
    for name in ("IMG[1].png", "IMG2.png"):
        (tmp_path / name).symlink_to(place / "images" / "exact.png")
    command = ("-b", place / "model.glass", "-o", "-")
    done = run(tmp_path, "IMG[3].png", "IMG[1].png", *command)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(each["path"], each["status"]) for each in found] == [
        ("IMG[3].png", "error"), ("IMG[1].png", "ok"),
    ]  # fmt: skip
    assert found[0]["error"] == {"type": "UnreadableError", "message": "there is no such file."}
    assert "Note: there is no IMG[3].png. Did you mean IMG[1].png?" in done.stderr
    done = run(tmp_path, "IMG[2].png", *command)
    assert json.loads(done.stdout)["path"] == "IMG2.png"
    assert "Note: there is no IMG[2].png. As a pattern it matches IMG2.png." in done.stderr


def test_results_are_not_overwritten_unasked(place, tmp_path):
    output = tmp_path / "verdicts.jsonl"
    output.write_text("precious\n")
    assert "--force" in refusal(run(place, "images", "-o", str(output)))
    assert output.read_text() == "precious\n"
    assert run(place, "images", "-o", str(output), "--force").returncode == 0
    assert len(output.read_text().splitlines()) == 4


def test_the_bundle_may_come_from_the_environment(place, tmp_path, vit_bundle):
    image = str(place / "images" / "tiny.png")
    done = run(tmp_path, image, env={"GLASS_BUNDLE": str(vit_bundle.path)})
    assert done.returncode == 0, done.stderr
    assert "name a bundle with --bundle or set GLASS_BUNDLE" in refusal(run(tmp_path, image))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Missing argument 'PATH...'"),
        (["images", "--bundel", "x"], "--bundle"),
        (["images", "--bundle", "nowhere.glass"], "no such folder; make one with glass-export"),
        (["images", "--bundle", "images"], "is not a bundle made by glass-export"),
        (["images", "--engine", "tensorflow"], "is not one of 'auto', 'onnxruntime'"),
        (["images", "--crops", "0"], "crops must lie between 1 and 1024, not 0."),
        (["images", "--batch-size", "many"], "'many' is not a valid integer"),
        (["images", "--threshold", "2"], "2.0 is not in the range"),
        (["images", "--threads", "-1"], "threads must lie between 0 and 1024, not -1."),
        (["images", "--max-pixels", "0"], "max_pixels must lie between 1 and"),
        (["images", "--memory", "0"], "0 is not in the range x>=1"),
        (["images", "-o", "verdicts.xml"], ".jsonl, .csv or .parquet"),
        (["images", "-o", "missing/folder/verdicts.csv"], "cannot be written"),
        (["images", "-o", f"{'long' * 99}.jsonl"], "cannot be written: File name too long"),
        (["images", "-o", f"{'long' * 99}.jsonl", "--resume"], "File name too long"),
        (["images", "-o", f"{'long' * 99}.csv", "--force"], "File name too long"),
        (["*.gif"], "matches no image"),
        (["-", "images"], "cannot be combined"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(arguments, sentence, place):
    assert sentence in refusal(run(place, *arguments))


def test_debug_shows_the_traceback(place):
    done = launch("glass-run", place, "images", "--bundle", "nowhere.glass", "--debug")
    assert "Traceback" in done.stderr
    assert "BundleError" in done.stderr


def test_help_has_examples():
    done = run(ROOT, "--help")
    assert done.returncode == 0
    assert "Examples:" in done.stdout
    assert "glass-run photo.jpg" in done.stdout


def started_run(
    place: Path, output: Path, image: Path, images: int = 500, *, closed_stderr: bool = False
) -> subprocess.Popen:
    """Start a long run and return when it has written some records."""
    command = [PROGRAM, "-", "-b", "model.glass", "-o", output, "--workers", "1"]
    process = subprocess.Popen(
        ["sh", "-c", f'exec "$@" {"2>&-" if closed_stderr else ""}', "sh", *command],
        cwd=place,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write("\n".join([str(image)] * images) + "\n")
    process.stdin.flush()  # and left open: whoever lists the images may be at it still
    while not (output.exists() and output.read_text().count("\n") >= 4):
        assert process.poll() is None
        time.sleep(0.02)
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), slow(signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_after_the_images_begun(number, code, place, tmp_path, photographs):
    output = tmp_path / "verdicts.jsonl"
    process = started_run(place, output, photographs[-1])
    process.send_signal(number)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == code
    assert "finishing the images begun" in messages
    assert "interrupted" in messages
    records = [json.loads(line) for line in output.read_text().splitlines()]
    assert all(record["status"] == "ok" for record in records)
    assert f"{len(records)} images in" in messages
    assert 4 <= len(records) < 200


@pytest.mark.parametrize(("number", "code"), [slow(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_it_at_once(number, code, place, tmp_path, photographs):
    output = tmp_path / "verdicts.jsonl"
    process = started_run(place, output, photographs[-1])
    process.send_signal(number)
    assert process.stderr is not None
    assert any("finishing" in line for line in iter(process.stderr.readline, ""))
    process.send_signal(number)
    assert process.wait(5) == code
    assert all(json.loads(line)["status"] == "ok" for line in output.read_text().splitlines())


def test_a_signal_ends_a_run_whose_messages_nobody_reads(place, tmp_path, photographs):
    output = tmp_path / "verdicts.jsonl"
    process = started_run(place, output, photographs[-1])
    assert process.stderr is not None
    process.stderr.close()
    before = len(output.read_text().splitlines())
    process.send_signal(signal.SIGTERM)
    process.wait(60)  # files are read ahead, and so more records are to come
    assert before + 3 <= len(output.read_text().splitlines()) < 200


@pytest.mark.parametrize("number", [signal.SIGINT, slow(signal.SIGTERM)])
def test_a_signal_writes_nothing_into_the_output_of_a_run_without_standard_error(
    number, place, tmp_path, photographs
):
    """Where 2 is closed, the next file opened gets that number."""
    output = tmp_path / "verdicts.jsonl"
    process = started_run(place, output, photographs[-1], closed_stderr=True)
    process.send_signal(number)
    assert process.wait(60) == 128 + number
    assert all(json.loads(line)["status"] == "ok" for line in output.read_text().splitlines())


def test_timings_say_where_the_time_went(place):
    done = run(place, "images", "--timings", "-o", "-")
    stages = [line.split()[0] for line in done.stderr.splitlines() if line[:1].islower()]
    for stage in ("read", "decode", "views", "wait", "infer", "aggregate", "write"):
        assert stage in stages
    assert "of the" in done.stderr.splitlines()[-1] or "wait" in done.stderr.splitlines()[-1]


def test_latency_mode_says_the_same(place):
    usual, latency = (run(place, "images", "-o", "-", *o) for o in ([], ["--mode", "latency"]))
    for line, other in zip(usual.stdout.splitlines(), latency.stdout.splitlines(), strict=True):
        one, two = json.loads(line), json.loads(other)
        assert (one["path"], one["seed"]) == (two["path"], two["seed"])
        assert one["score"] == pytest.approx(two["score"], abs=1e-5)


@pytest.mark.parametrize("options", [["-o", "-"], []], ids=["JSON", "table"])
def test_a_closed_pipe_ends_a_run_as_it_ends_other_programs(options, place):
    """Without a word, and with the code that shells give for SIGPIPE; --strict has another."""
    reading, writing = os.pipe()
    command = [PROGRAM, *["images"] * 20, "-b", "model.glass", *options, "--batch-size", "1",
               "--strict"]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=place, stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    with open(reading) as output:
        assert output.readline()
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 141
    assert re.fullmatch(r"\d+ images in [^\n]+\n", messages)


# --- damaged images -------------------------------------------------------------------------


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A folder of files that libraries complain of on standard error."""
    folder = tmp_path / "damaged"
    folder.mkdir()
    known = seeds()
    for name in ("jpeg", "png", "webp", "heic", "jpeg 2000"):
        (folder / f"{name}.bin").write_bytes(cut_short(known[name][0], 0.5))
    for index, file in enumerate(known["tiff"]):
        (folder / f"{index}.tif").write_bytes(cut_short(file, 0.5))
    broken = bytearray(known["png"][0])
    broken[broken.index(b"IDAT") + 20] ^= 0xFF
    (folder / "broken.png").write_bytes(broken)
    many = Page(np.zeros((4, 4, 3), np.uint8), {SAMPLES_PER_PIXEL: (2048,)})
    (folder / "many.tif").write_bytes(written(many))
    return folder


def test_what_libraries_say_of_damaged_images_stays_off_the_terminal(damaged, vit_bundle):
    done = launch("glass-run", damaged.parent, "damaged", "-b", vit_bundle.path, "-o", "out.jsonl")
    assert done.returncode == 0
    (summary,) = done.stderr.splitlines()
    assert re.search(r"18 images in .*: 0 fake, 0 real, 18 errors", summary)
    assert done.stdout == ""


def test_a_damaged_image_can_be_judged_and_its_record_says_so(vit_bundle, tmp_path):
    content = seeds()["jpeg"][0]
    (tmp_path / "cut.jpg").write_bytes(cut_short(content, 0.5))
    (tmp_path / "whole.jpg").write_bytes(content)
    arguments = ["cut.jpg", "whole.jpg", "--bundle", vit_bundle.path, "-o"]
    call("glass-run", tmp_path, *arguments, "strict.jsonl")
    refused, judged = map(json.loads, (tmp_path / "strict.jsonl").read_text().splitlines())
    assert (refused["status"], judged["damaged"]) == ("error", False)
    call("glass-run", tmp_path, *arguments, "all.jsonl", "--allow-damaged")
    cut, whole = map(json.loads, (tmp_path / "all.jsonl").read_text().splitlines())
    assert (cut["status"], cut["damaged"], whole["damaged"]) == ("ok", True, False)
    call("glass-run", tmp_path, *arguments, "isolated.jsonl", "--allow-damaged", "--isolate")
    cut, whole = map(json.loads, (tmp_path / "isolated.jsonl").read_text().splitlines())
    assert (cut["status"], cut["damaged"], whole["damaged"]) == ("ok", True, False)
    call("glass-run", tmp_path, *arguments, "all.csv", "--allow-damaged")
    with open(tmp_path / "all.csv", newline="") as table:
        assert [row["damaged"] for row in csv.DictReader(table)] == ["true", "false"]


def test_grey_of_16_bits_is_judged_scaled_if_that_is_asked_for(vit_bundle, photograph, tmp_path):
    grey = np.asarray(photograph.resize((300, 280)).convert("L")).astype(np.uint16)
    Image.fromarray(grey * 255 + 256).save(tmp_path / "wide.png")
    done = call("glass-run", tmp_path, "wide.png", "-b", vit_bundle.path, "-o", "-")
    assert "--sixteen-bit scale" in json.loads(done.stdout)["error"]["message"]
    done = call("glass-run", tmp_path, "wide.png", "-b", vit_bundle.path, "-o", "-",
                "--sixteen-bit", "scale")  # fmt: skip
    assert json.loads(done.stdout)["status"] == "ok"
