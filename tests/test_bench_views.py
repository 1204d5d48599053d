"""glass-bench views: side by side, exact where it says so, readable by people and machines."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

import msgspec
import pytest
from conftest import call, launch, refusal
from glass_edge.benchmarks.measuring.generated import generated_images
from glass_edge.benchmarks.views.decoders import DecodersReport
from glass_edge.benchmarks.views.measure import ViewsReport
from PIL import Image
from pillow_heif import register_heif_opener

run = partial(call, "glass-bench")


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> tuple[ViewsReport, str, str]:
    place = tmp_path_factory.mktemp("bench")
    done = run(place, "views", "--megapixels", "0.2", "--repeats", "3", "--crops", "4",
               "-o", "report.json", "-o", "report.md")  # fmt: skip
    assert done.returncode == 0, done.stderr
    content = (place / "report.json").read_bytes()
    return (
        msgspec.json.decode(content, type=ViewsReport),
        done.stdout,
        (place / "report.md").read_text(),
    )


@pytest.mark.slow
def test_json_and_markdown_come_from_one_object(report):
    parsed, shown, written = report
    assert parsed.to_markdown() == shown == written
    assert parsed.schema == 1
    assert parsed.command.startswith("glass-bench views --megapixels 0.2 ")


@pytest.mark.slow
def test_ours_is_exact_and_the_obvious_roads_are_not(report):
    for image in report[0].images:
        errors = {road.name: road.max_error for road in image.roads}
        assert errors.pop("reference (Pillow, torchvision)") == 0
        assert errors.pop("glass-edge") <= 0.02
        assert len(errors) == 2
        assert min(errors.values()) > 5


@pytest.mark.slow
def test_every_sample_is_kept(report):
    for image in report[0].images:
        for road in [*image.roads, *image.decoders]:
            assert len(road.total.seconds) == 3
            for index, total in enumerate(road.total.seconds):
                parts = sum(stage.seconds[index] for stage in road.stages.values())
                assert total == pytest.approx(parts)
    assert {result.threads for result in report[0].threads} == {1, 2}


def saved(picture: Image.Image, path: Path, **options: object) -> str:
    register_heif_opener()
    picture.save(path, **options)
    return str(path)


@pytest.mark.slow
def test_images_of_the_users_and_those_who_read_them(tmp_path, photograph):
    """simplejpeg reads JPEG only, and OpenCV no HEIC: who refuses a file is left out.

    A JPEG that is to be turned is judged in the pixels as they are stored, on every road.
    """
    exif = Image.Exif()
    exif[0x0112] = 6
    wide, picture = photograph.resize((900, 300)), photograph.resize((640, 480))
    images = [saved(wide, tmp_path / "turned.jpg", exif=exif)]
    images += [saved(picture, tmp_path / f"my.{kind}") for kind in ("png", "heic")]
    options = ("--repeats", "2", "--threads", "2,3", "-o", "report.json")
    done = run(tmp_path, "views", *images, *options)
    assert done.returncode == 0, done.stderr
    assert "900x300" in done.stdout
    assert "times 2 threads" in done.stdout
    assert "times one thread" not in done.stdout
    report = msgspec.json.decode((tmp_path / "report.json").read_bytes(), type=ViewsReport)
    decoders = [{road.name.split(",")[0] for road in image.decoders} for image in report.images]
    assert decoders == [{"Pillow", "OpenCV", "simplejpeg"}, {"Pillow", "OpenCV"}, {"Pillow"}]
    *_, heic = report.images
    assert [road.name for road in heic.roads] == ["reference (Pillow, torchvision)", "glass-edge"]
    assert heic.roads[1].max_error <= 0.02
    row = next(line for line in report.summary().splitlines() if "my.heic" in line)
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert [cell == "-" for cell in cells] == [False, False, True, True, False, False, False, True,
                                               True, False]  # fmt: skip


def test_decoders_are_compared_on_every_format(tmp_path):
    done = run(tmp_path, "decoders", "--megapixels", "0.1", "--repeats", "2", "-o", "report.json")
    assert done.returncode == 0, done.stderr
    report = msgspec.json.decode((tmp_path / "report.json").read_bytes(), type=DecodersReport)
    found = {result.name: result for result in report.formats}
    assert {"JPEG 4:2:2", "PNG interlaced", "WebP lossy", "AVIF", "HEIC", "TIFF"} <= set(found)
    for result in found.values():
        decoders = {decoder.decoder.lower(): decoder for decoder in result.decoders}
        for name in ("glass-edge", result.taken):
            assert decoders[name].largest_difference == 0
            assert len(decoders[name].time.seconds) == 2


@pytest.mark.parametrize("size", [0.05, 1, 12])
def test_generated_images_have_the_size_asked_for(size):
    ((name, content),) = generated_images([size]).items()
    with Image.open(io.BytesIO(content)) as image:
        assert image.width * image.height == pytest.approx(size * 1e6, rel=0.01)
        assert name == f"{size:g} MP"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--megapixels", "many"], "not a list of positive numbers"),
        (["--megapixels", "-1"], "not a list of positive numbers"),
        (["--megapixels", "1,500"], "images have at most 200 megapixels."),
        (["--repeats", "1"], "2"),
        (["--threads", "0.5"], "not a list of whole numbers"),
        (["--threads", "1,1.5"], "not a list of whole numbers"),
        (["missing.jpg"], "missing.jpg cannot be read"),
        (["-o", "report.xml"], "cannot tell the format of report.xml"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(arguments, sentence, tmp_path):
    assert sentence in refusal(run(tmp_path, "views", *arguments))


def test_unknown_commands_are_answered(tmp_path):
    done = launch("glass-bench", tmp_path, "view")
    assert "there is no command view. Did you mean views?" in refusal(done)
    assert "views" in run(tmp_path, "--help").stdout
