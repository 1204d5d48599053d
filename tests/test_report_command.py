"""glass-report, and glass-run --report: what is in the page, and what is refused."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from urllib.parse import unquote

import pytest
from conftest import EXAMPLES, PROGRAMS, ROOT, call, launch, refusal
from glass_edge.runtime.judging.joining import Joining
from glass_edge.runtime.machine.printable import printable
from glass_edge.runtime.report.writing import check_page
from PIL import Image
from waiting import until

from glass_edge import EngineError, OutputError

PHOTOGRAPHS = sorted(EXAMPLES.rglob("*.jpg"))
report = partial(call, "glass-report")
run = partial(call, "glass-run")


def data_of(page: Path) -> dict:
    """What is embedded in a page."""
    [text] = re.findall(
        r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', page.read_text("utf-8"), re.S
    )
    return json.loads(text)


def rows_of(page: Path) -> list[dict]:
    data = data_of(page)
    return data["rows"] if isinstance(data, dict) else data


@pytest.fixture(scope="module")
def judged(vit_bundle, tmp_path_factory) -> Path:
    """A folder with images, records and a page, as one call of glass-run makes them."""
    folder = tmp_path_factory.mktemp("judged")
    shutil.copytree(EXAMPLES, folder / "images", ignore=shutil.ignore_patterns("*.md"))
    (folder / "images" / "broken.jpg").write_bytes(PHOTOGRAPHS[0].read_bytes()[:5000])
    done = run(folder, "images", "-b", vit_bundle.path, "-o", "v.jsonl", "--report", "page.html")
    assert done.returncode == 0, done.stderr
    assert "report: page.html (13 images)" in done.stderr
    return folder


def records_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_page_holds_every_record_as_it_was_written(judged):
    rows = rows_of(judged / "page.html")
    assert [row["record"] for row in rows] == records_of(judged / "v.jsonl")


def test_every_image_has_a_picture_a_file_and_a_command(judged):
    for row in rows_of(judged / "page.html"):
        if row["record"]["status"] == "error":
            assert row["thumbnail"] is None
            continue
        assert row["thumbnail"].startswith("data:image/webp;base64,")
        assert (judged / row["original"]).is_file()
        assert None not in [crop["influence"] for crop in row["record"]["crops"]]


@pytest.mark.parametrize("options", [(), ("--threshold", "0.99"), ("--crops", "2", "--seed", "7")])
def test_the_command_of_a_row_repeats_its_verdict(options, judged, vit_bundle):
    images = ["images/fake/cat.jpg", "images/real/coffee.jpg"]
    page = ("--report", "repeated.html", "--force", "-o", "repeated.jsonl")
    run(judged, *images, "-b", vit_bundle.path, *page, *options)
    for row in rows_of(judged / "repeated.html"):
        program, *arguments = shlex.split(row["command"])
        assert program == "glass-run"
        again = json.loads(run(judged, *arguments).stdout)
        for field in ("verdict", "score", "logits", "seed"):
            assert again[field] == row["record"][field]


def test_a_few_have_their_crops_in_native_pixels(judged):
    rows = [row for row in rows_of(judged / "page.html") if row["previews"]]
    assert 4 <= len(rows) <= 8
    for row in rows:
        for crop, preview in zip(row["record"]["crops"], row["previews"], strict=True):
            webp = base64.b64decode(preview.partition(",")[2])
            assert Image.open(io.BytesIO(webp)).size == (crop["width"], crop["height"])


def test_glass_report_makes_the_same_page_from_the_records(judged, vit_bundle):
    done = report(judged, "v.jsonl", "-o", "again.html", "-b", vit_bundle.path)
    assert done.returncode == 0, done.stderr
    one, other = rows_of(judged / "page.html"), rows_of(judged / "again.html")
    for row in (*one, *other):
        row.pop("thumbnail")  # of a JPEG that was decoded at a fraction of its size
    assert one == other


def test_thumbnails_may_lie_in_a_folder(judged):
    done = report(judged, "v.jsonl", "-o", "large page.html", "--folder")
    assert done.returncode == 0, done.stderr
    rows = rows_of(judged / "large page.html")
    places = [judged / unquote(row["thumbnail"]) for row in rows if row["thumbnail"]]
    assert len(places) == 12
    assert all(Image.open(place).format == "WEBP" for place in places)
    assert {place.parent.name for place in places} == {"large page_files"}


def test_a_shorter_report_leaves_no_thumbnails_of_a_longer_one(judged):
    report(judged, "v.jsonl", "-o", "short.html", "--folder")
    (judged / "short_files" / "mine.webp").write_bytes(b"")
    report(judged, "v.jsonl", "-o", "short.html", "--folder", "--limit", 3, "--force")
    kept = {path.name for path in (judged / "short_files").iterdir()}
    shown = {row["thumbnail"] for row in rows_of(judged / "short.html")} - {None}
    assert kept == {"mine.webp"} | {Path(url).name for url in shown}
    assert 1 <= len(shown) <= 3


def test_thumbnails_of_an_earlier_page_serve_a_later_one(judged, tmp_path):
    shutil.copytree(judged / "images", tmp_path / "images")
    shutil.copy(judged / "v.jsonl", tmp_path)
    report(tmp_path, "v.jsonl", "--folder")
    first = rows_of(tmp_path / "report.html")
    shutil.rmtree(tmp_path / "images")
    done = report(tmp_path, "v.jsonl", "--folder", "--force")
    assert done.returncode == 0
    second = rows_of(tmp_path / "report.html")
    assert [row["thumbnail"] for row in second] == [row["thumbnail"] for row in first]
    gone = [row["note"] for row in second if row["thumbnail"]]
    assert gone == ["Its file was not found."] * 12


def test_images_that_are_gone_or_changed_are_said_so(judged, tmp_path):
    shutil.copytree(judged / "images", tmp_path / "images")
    shutil.copy(judged / "v.jsonl", tmp_path)
    done = report(tmp_path, "v.jsonl", "--root", judged)
    assert done.returncode == 0, done.stderr
    (tmp_path / "images" / "real" / "cat.jpg").unlink()
    os.utime(tmp_path / "images" / "fake" / "cat.jpg")
    done = report(tmp_path, "v.jsonl", "--force")
    assert "1 image is shown without a picture, because the file was not found" in done.stderr
    notes = {row["record"]["path"]: row["note"] for row in rows_of(tmp_path / "report.html")}
    assert notes["images/real/cat.jpg"] == "Its file was not found."
    assert notes["images/fake/cat.jpg"] == "Its file has changed since it was judged."


def test_records_of_two_bundles_are_a_note(judged, tmp_path):
    lines = (judged / "v.jsonl").read_text().splitlines()
    lines[-1] = lines[-1].replace("vit.glass@", "other.glass@")
    (tmp_path / "mixed.jsonl").write_text("\n".join([*lines, "nonsense", "{"]))
    done = report(tmp_path, "mixed.jsonl", "--root", judged)
    assert done.returncode == 0
    assert "made with 2 bundles" in done.stderr
    assert "Line 14 is not a record" in done.stderr
    assert "last line is incomplete" in done.stderr


def test_records_may_come_on_standard_input(judged, tmp_path):
    done = launch(
        "glass-report", tmp_path, "-", "--root", judged, input=(judged / "v.jsonl").read_text()
    )
    assert done.returncode == 0, done.stderr
    assert len(rows_of(tmp_path / "report.html")) == 13


def test_records_may_come_through_a_pipe_with_a_name(judged, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    feeding = subprocess.Popen(["cp", judged / "v.jsonl", tmp_path / "pipe"])
    done = launch("glass-report", tmp_path, "pipe", "--root", judged)
    assert feeding.wait() == 0
    assert done.returncode == 0, done.stderr
    assert len(rows_of(tmp_path / "report.html")) == 13


def test_a_link_to_a_page_stays_one(judged, tmp_path):
    (tmp_path / "real.html").write_text("old")
    (tmp_path / "link.html").symlink_to("real.html")
    done = report(judged, "v.jsonl", "-o", tmp_path / "link.html", "--force")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "link.html").is_symlink()
    assert len(rows_of(tmp_path / "real.html")) == 13
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.html", "real.html"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash")
def test_a_command_means_in_a_shell_what_it_says_whatever_an_image_is_called(judged, vit_bundle):
    name = "a\x15touch pwned\n'\\ \u202e\u200b$(id)`id`.jpg"
    shutil.copy(PHOTOGRAPHS[0], judged / name)
    run(judged, name, "-b", vit_bundle.path, "--report", "hostile.html", "--force")
    (row,) = rows_of(judged / "hostile.html")
    assert printable(row["command"]) == row["command"]
    script = row["command"].replace("glass-run", "printf '%s\\0'", 1)
    done = subprocess.run(["bash", "-c", script], capture_output=True, cwd=judged)
    assert done.stdout.decode().split("\0")[0] == name
    assert not (judged / "pwned").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_folders_may_have_names_of_any_bytes(judged, vit_bundle, tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff folder?#%"))
    shutil.copytree(judged / "images" / "real", folder)
    done = run(tmp_path, folder, "-b", vit_bundle.path, "-o", "v.jsonl", "--report", "page.html")
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "page.html")
    assert all(row["thumbnail"] for row in rows)
    done = report(folder, tmp_path / "v.jsonl", "-o", folder / "page.html", "--folder")
    assert done.returncode == 0, done.stderr


def test_a_resumed_run_reports_on_all_its_images(judged, vit_bundle, tmp_path):
    shutil.copytree(judged / "images", tmp_path / "images", copy_function=shutil.copy2)
    lines = (judged / "v.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "v.jsonl").write_text("".join(lines[:5]) + lines[5][:40])
    options = ("-b", vit_bundle.path, "-o", "v.jsonl", "--resume", "--report", "page.html")
    done = run(tmp_path, "images", *options)
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "page.html")
    assert sorted(row["record"]["path"] for row in rows) == sorted(
        record["path"] for record in records_of(judged / "v.jsonl")
    )
    assert sum(row["thumbnail"] is not None for row in rows) == 12
    assert run(tmp_path, "images", *options).returncode == 0  # the page may be written again


def test_a_run_that_is_stopped_reports_on_what_it_judged(vit_bundle, tmp_path):
    images = [EXAMPLES / "real" / "dandelions.jpg"] * 400
    command = [PROGRAMS / "glass-run", *images, "-b", vit_bundle.path, "-o", "v.jsonl",
               "--report", "page.html"]  # fmt: skip
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE)
    verdicts = tmp_path / "v.jsonl"
    until(lambda: verdicts.exists() and verdicts.stat().st_size)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    count = len(records_of(verdicts))
    assert 0 < count < 400
    assert len(rows_of(tmp_path / "page.html")) == count
    assert f"report: page.html ({count} images)" in said.decode()


@pytest.mark.parametrize("kind", ["label-studio", "fiftyone"])
def test_other_formats_go_to_standard_output_or_a_file(kind, judged):
    printed = report(judged, "v.jsonl", "--format", kind, "--prefix", "/data/")
    assert printed.returncode == 0, printed.stderr
    assert "Left out: 1 image that could not be judged." in printed.stderr
    done = report(
        judged, "v.jsonl", "--format", kind, "--prefix", "/data/", "-o", f"{kind}.json", "--force"
    )
    assert done.returncode == 0
    assert (judged / f"{kind}.json").read_text() == printed.stdout
    document = json.loads(printed.stdout)
    items = document if kind == "label-studio" else document["samples"]
    assert len(items) == 12
    assert "/data/images/fake/cat.jpg" in printed.stdout


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (("none.jsonl",), "there is no none.jsonl"),
            (("v.jsom",), "Did you mean v.jsonl?"),
            (("empty.jsonl",), "holds no records"),
            (("v.jsonl", "-o", "page.pdf"), "give one that ends in .html"),
            (("v.jsonl", "-o", "page.html"), "exists already"),
            (("v.jsonl", "-o", "no/where.html"), "no/where.html cannot be written: No such file"),
            (("v.jsonl", "-o", "images.html", "--force"), "images.html is not a file"),
            (("v.jsonl", "-o", "v" * 300 + ".html"), "cannot be written: File name too long"),
            (("v.jsonl", "--format", "fiftyone", "-o", "/dev/null", "--force"), "is not a file"),
            (("empty.jsonl", "--format", "fiftyone"), "holds no records"),
            (("v.jsonl", "-o", "x.html", "--root", "imges"), "Did you mean images?"),
            (("images", "-o", "x.html"), "cannot be read: Is a directory"),
            (("v.jsonl", "--format", "fiftyone", "--folder"), "are for a page"),
            (("v.jsonl", "--prefix", "/data/", "-o", "x.html"), "is for a review tool"),
            (("v.jsonl", "--format", "fiftyone", "-o", "v.jsonl"), "v.jsonl exists already"),
        ],
    )
    def test_it_is_one_sentence_and_exit_code_2(self, arguments, sentence, judged):
        (judged / "empty.jsonl").write_text("")
        (judged / "images.html").mkdir(exist_ok=True)
        assert sentence in refusal(report(judged, *arguments))
        assert not (judged / "x.html").exists()

    def test_another_bundle_is_refused(self, judged, fake_second_bundle):
        done = report(judged, "v.jsonl", "-o", "x.html", "-b", fake_second_bundle.path)
        assert "the records were made with vit.glass@" in refusal(done)

    def test_a_page_that_cannot_be_written_is_refused_before_the_run(self, vit_bundle, tmp_path):
        (tmp_path / "page.html").write_text("mine")
        done = run(
            tmp_path, PHOTOGRAPHS[0], "-b", vit_bundle.path, "-o", "v.jsonl", "--report",
            "page.html",
        )  # fmt: skip
        assert "page.html exists already" in refusal(done)
        assert (tmp_path / "page.html").read_text() == "mine"
        assert not (tmp_path / "v.jsonl").exists()

    @pytest.mark.usefixtures("unprivileged")
    def test_a_folder_that_is_not_writable_is_said_so(self):
        with pytest.raises(OutputError, match=r"/usr/page.html cannot be written: Permission"):
            check_page(Path("/usr/page.html"), force=False)


def test_a_page_that_is_not_a_report_is_not_replaced_by_resume(vit_bundle, tmp_path):
    (tmp_path / "page.html").write_text("mine")
    options = ("-b", vit_bundle.path, "-o", "v.jsonl", "--resume", "--report", "page.html")
    assert "page.html exists already" in refusal(run(tmp_path, PHOTOGRAPHS[0], *options))
    assert (tmp_path / "page.html").read_text() == "mine"


def test_a_run_that_fails_reports_on_what_it_judged(vit_bundle, tmp_path, monkeypatch):
    judge, calls = Joining.judge, []

    def failing(self, *arguments):
        calls.append(arguments)
        if len(calls) > 2:
            raise EngineError("the device is gone.")
        return judge(self, *arguments)

    monkeypatch.setattr(Joining, "judge", failing)
    options = ("-b", vit_bundle.path, "-o", "v.jsonl", "--report", "page.html", "--mode", "latency")
    done = run(tmp_path, *PHOTOGRAPHS[:5], *options)
    assert done.returncode == 2
    assert "the device is gone" in done.stderr
    assert len(rows_of(tmp_path / "page.html")) == len(records_of(tmp_path / "v.jsonl")) == 2


@pytest.mark.parametrize("options", [("--isolate",), ("-o", "v.csv"), ("--crops", "1")])
def test_a_report_goes_with_any_way_to_run(options, vit_bundle, tmp_path):
    done = run(tmp_path, *PHOTOGRAPHS[:3], "-b", vit_bundle.path, "--report", "p.html", *options)
    assert done.returncode == 0, done.stderr
    assert [bool(row["thumbnail"]) for row in rows_of(tmp_path / "p.html")] == [True] * 3


def test_a_report_of_no_images_is_wrong_usage(vit_bundle, tmp_path):
    done = run(tmp_path, "--self-test", "-b", vit_bundle.path, "--report", "p.html")
    assert "Missing argument 'PATH...'" in refusal(done)


def test_the_help_has_examples():
    done = report(ROOT, "--help")
    assert "Examples:" in done.stdout
    assert "glass-report verdicts.jsonl" in done.stdout
