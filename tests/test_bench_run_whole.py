"""glass-bench run as a whole, and what glass-bench show makes of its report."""

from __future__ import annotations

import io
import subprocess
import sys
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
import reference
import torch
from conftest import EXAMPLES, call, launch
from glass_edge.benchmarks.contenders.naive import NaiveContender
from glass_edge.benchmarks.contenders.pytorch import half_precision
from glass_edge.benchmarks.machines import Machines
from glass_edge.benchmarks.measuring.samples import (
    MARK,
    SPREAD,
    UNSTEADY,
    Samples,
    median_ratio,
    three_digits,
)
from glass_edge.benchmarks.run import roofline
from glass_edge.benchmarks.run.report import (
    DecodeFloor,
    Peak,
    Point,
    Roofline,
    RunReport,
    Series,
)
from glass_edge.benchmarks.run.tables import run_markdown
from glass_edge.export.loading import load_model
from glass_edge.runtime.images.decode import decode
from glass_edge.runtime.views.batch import Sampling
from PIL import Image

run = partial(call, "glass-bench")
IMAGES = [str(EXAMPLES / name) for name in ("fake/cat.jpg", "real/coffee.jpg", "real/rocket.jpg")]
CROPS, SEED, ROUNDS = 3, 7, 2
pytestmark = pytest.mark.slow  # every contender has a process of its own


@pytest.fixture(scope="module")
def place(checkpoints, export_family, make_precision, tmp_path_factory) -> Path:
    """A working directory with the files of one small run."""
    place = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(roofline, "_SECONDS", 0.1)  # no test asks how high the machine's peaks are
        done = run(place, "run", *IMAGES, "--checkpoint", checkpoints["vit"],
                   "-b", export_family("vit").path, "-b", make_precision("vit", "bf16").path,
                   "--crops", str(CROPS), "--seed", str(SEED), "--batch-size", "2",
                   "--batches", "1,2", "--scale-crops", "1,3",
                   "--scale-megapixels", "0.1,0.4,0.1", "--rounds", str(ROUNDS),
                   "--seconds", "0.01", "--full-size-images", "1", "--no-compile",
                   "--workers", "1", "-o", "report.json", "-o", "report.md",
                   "-o", "report.png")  # fmt: skip
    assert done.returncode == 0, done.stderr
    (place / "screen").write_text(done.stdout)
    return place


@pytest.fixture(scope="module")
def report(place) -> RunReport:
    return msgspec.json.decode((place / "report.json").read_bytes(), type=RunReport)


def named(report: RunReport, start: str):
    (found,) = (each for each in report.contenders if each.name.startswith(start))
    return found


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_json_markdown_and_screen_come_from_one_object(place, report):
    assert run_markdown(report) == (place / "report.md").read_text()
    assert run_markdown(report) == (place / "screen").read_text()
    assert report.schema == 1
    assert report.command.startswith("glass-bench run ")
    assert report.to_json() == (place / "report.json").read_bytes()


def test_everyone_takes_part_or_says_why_not(report, vit_bundle, make_precision):
    names = [each.name for each in report.contenders]
    half = half_precision().upper()
    assert names[:3] == [
        "PyTorch FP32",
        f"PyTorch {half} autocast",
        f"PyTorch {half} autocast, channels-last",
    ]
    small = make_precision("vit", "bf16")
    assert names[3:] == [
        NaiveContender.name,
        f"{vit_bundle.name}, onnxruntime",
        f"{vit_bundle.name}, openvino",
        f"{small.name}, openvino",
    ]
    refusals = {each.name: each.reason for each in report.refusals}
    assert "ONNX Runtime refuses" in refusals.pop(f"{small.name}, onnxruntime")
    assert set(refusals.values()) == {"left out by --no-compile."}
    assert list(refusals) == [
        "PyTorch FP32, torch.compile",
        f"PyTorch {half} autocast, channels-last, torch.compile",
    ]


def test_a_refusal_is_a_row(report):
    first = rows(run_markdown(report).partition("Milliseconds")[0])
    (row,) = (row for row in first if row[0] == "PyTorch FP32, torch.compile")
    assert row[1] == "refused: left out by --no-compile."


def test_pytorch_and_fp32_bundles_agree_with_the_specification(report, checkpoints):
    model = load_model(checkpoints["vit"]).model
    sampling = Sampling(report.views, SEED)
    for index, path in enumerate(IMAGES):
        seed = sampling.generator_seed(decode(Path(path).read_bytes()))
        logits, _ = reference.judge(model, path, CROPS, seed)
        expected = torch.softmax(logits, 0)[0].item()
        for contender in report.contenders:
            exact = contender.kind != "naive" and contender.precision == "fp32"
            tolerance = 1e-5 if exact else 0.05
            assert contender.scores[index] == pytest.approx(expected, abs=tolerance)


def test_agreement_is_with_pytorch_fp32(report):
    for contender in report.contenders:
        change = report.agreement(contender)
        differences = np.abs(np.subtract(contender.scores, report.paper.scores))
        assert change.largest_change == pytest.approx(differences.max())
        assert change.mean_change == pytest.approx(differences.mean())
    assert report.agreement(report.paper).largest_change == 0
    assert report.agreement(named(report, "naive")).largest_change > 1e-4


def test_every_sample_is_kept(report):
    for contender in report.contenders:
        assert len(contender.end_to_end.passages.seconds) == ROUNDS
        assert [batch.images for batch in contender.engine_only] == [1, 2]
        for batch in contender.engine_only:
            assert len(batch.rounds) == ROUNDS
            assert min(batch.calls) > 0


def test_the_report_names_what_was_measured(report, checkpoints, vit_bundle):
    assert [image.path for image in report.images] == IMAGES
    with Image.open(IMAGES[0]) as image:
        assert (report.images[0].width, report.images[0].height) == image.size
    assert report.checkpoint == checkpoints["vit"].name
    assert report.bundles[0].name == vit_bundle.name
    assert report.bundles[0].graphs == vit_bundle.graphs_digest
    assert report.environment.libraries["torch"] == torch.__version__.partition("+")[0]


def test_ratios_are_of_neighbouring_measurements(report):
    table = run_markdown(report).partition("## End to end")[2].partition("Milliseconds")[0]
    cells = {row[0]: row for row in rows(table)}
    paper, best = report.paper.end_to_end.passages, report.best_pytorch().end_to_end.passages
    assert cells["PyTorch FP32"][3] == cells[report.best_pytorch().name][4] == "1.00"
    for contender in report.contenders:
        mine = contender.end_to_end.passages
        expected = [f"{median_ratio(other, mine):.2f}" for other in (paper, best)]
        assert cells[contender.name][3:5] == expected
        assert cells[contender.name][2].endswith(MARK) == (mine.variation > UNSTEADY)


def test_latencies_are_in_the_markdown(report):
    text = run_markdown(report).partition("## Engine only, batches of 2 images")[2]
    table = rows(text.partition("Milliseconds per batch:")[2])
    assert table[0] == ["contender", *SPREAD, "calls"]
    calls = report.paper.batch_of(2).calls
    assert table[2][0] == "PyTorch FP32"
    assert table[2][1] == three_digits(min(calls) * 1e3)
    assert table[2][-1] == str(len(calls))


def test_what_an_image_costs_is_measured_along_every_axis(report):
    """PyTorch at its best is left out, because it would compile anew for each value."""
    names = [each.name for each in report.contenders if each.kind != "pytorch"]
    everyone = [each.name for each in report.contenders]
    values = {"crops": [1, 3], "megapixels": [0.1, 0.4], "batch": [1, 2]}
    for axis, expected in values.items():
        series = report.along(axis)
        assert [each.contender for each in series] == (
            everyone if axis == "batch" else ["PyTorch FP32", *names]
        )
        for each in series:
            assert [point.at for point in each.points] == expected
            assert all(len(point.cost.seconds) == ROUNDS for point in each.points)
            assert all(min(point.cost.seconds) > 0 for point in each.points)


def test_costs_and_their_lines_are_in_the_markdown(report):
    text = run_markdown(report).partition("## What an image costs")[2].partition("\n## ")[0]
    table = rows(text.partition("By its size")[2].partition("By the images")[0])
    assert table[0] == ["contender", "0.1", "0.4", "ms per megapixel", "ms at 0", "R^2"]
    for row, series in zip(table[2:], report.along("megapixels"), strict=True):
        small, large = (point.cost.median * 1e3 for point in series.points)
        assert row[0] == series.contender
        assert float(row[1].removesuffix(MARK)) == pytest.approx(small, rel=0.01)
        assert float(row[3]) == pytest.approx((large - small) / 0.3, rel=0.01)
        assert row[5] == "1.0000"


def test_there_is_no_line_through_one_point(report):
    assert Series("crops", "any", (Point(1.0, Samples((0.1,))),)).line is None
    one = tuple(
        msgspec.structs.replace(each, engine_only=each.engine_only[:1])
        for each in report.contenders
    )
    plain = msgspec.structs.replace(report, contenders=one, series=())
    assert "What an image costs" not in run_markdown(plain)


def test_full_size_judges_every_tile(report, checkpoints):
    full = report.full_size
    assert full.images == (0,)
    rgb = np.asarray(Image.open(IMAGES[0]).convert("RGB"))
    height, width = rgb.shape[:2]
    assert full.tiles == (-(-height // 224) * -(-width // 224),)
    padded = np.zeros((-(-height // 224) * 224, -(-width // 224) * 224, 3), np.uint8)
    padded[:height, :width] = rgb
    grid = padded.reshape(-1, 224, padded.shape[1] // 224, 224, 3).swapaxes(1, 2)
    tiles = torch.from_numpy(grid.reshape(-1, 224, 224, 3).copy()).movedim(-1, 1) / 255
    views = (reference.overview(rgb) - reference.MEAN) / reference.STD
    model = load_model(checkpoints["vit"]).model
    with torch.inference_mode():
        logits, _ = model(views[None], ((tiles - reference.MEAN) / reference.STD)[None])
    assert full.scores[0] == pytest.approx(torch.softmax(logits, 1)[0, 0].item(), abs=1e-5)
    assert full.crops_scores[0] == pytest.approx(report.paper.scores[0], abs=1e-6)


def test_bounds_are_positive_and_in_every_type(report):
    found = {peak.precision: peak.per_second for peak in report.roofline.peaks}
    assert {"fp32", half_precision()} <= set(found)
    assert min(found.values()) > 1e8
    assert set(found) | set(report.roofline.left_out) >= {"int8"}
    assert report.roofline.multiply_adds > 1e6
    assert report.roofline.decode_floor.seconds > 0
    assert report.roofline.share(1.0, "fp64") is None


def test_decoding_and_computing_share_the_cpus(report):
    """What all CPUs do in a second of decoding and a second of computing takes two seconds."""
    peak = Peak("int8", per_second=4e9, measured_by="a test")
    floor = DecodeFloor("a test", seconds=0.25)
    assert Roofline(2_000_000_000, (peak,), {}, floor).images_per_second(peak) == 1 / 0.75
    table = rows(run_markdown(report).partition("## Bounds")[2])
    most = {row[0]: float(row[2]) for row in table[2:]}  # below the header and its line
    for precision in ("fp32", half_precision()):
        both = most[f"decoding, then {precision} at its peak"]
        assert both < most["decoding alone, on all CPUs"]
        assert both < most[f"multiply-adds/s in {precision}, 10^9"]


def test_the_picture_is_one(place):
    with Image.open(io.BytesIO((place / "report.png").read_bytes())) as image:
        assert image.format == "PNG"
        assert image.width > 1500


def test_show_draws_the_same_again(place):
    done = launch("glass-bench", place, "show", "report.json", "-o", "again.md", "-o", "again.png")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (place / "again.md").read_text() == (place / "report.md").read_text()
    assert (place / "again.png").read_bytes() == (place / "report.png").read_bytes()


def test_show_needs_no_torch(place):
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from glass_edge.benchmarks.cli import main; main()"
    )
    command = [sys.executable, "-c", program, "show", "report.json"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (place / "report.md").read_text()


def test_show_compares_machines(place, report):
    (place / "other.json").write_bytes(report.to_json())
    done = run(place, "show", "report.json", "other.json", "-o", "machines.md")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (place / "machines.md").read_text()
    table = rows(done.stdout)
    assert table[0] == ["", "report", "other"]  # of each kind the best
    assert ["machine", "report", "other"] in table
    cells = {row[0]: row[1:] for row in table}
    for contender in report.contenders:
        one, other = cells[contender.name]
        assert one == other
        assert one.endswith(f"{report.agreement(contender).flips} flips")


def test_a_contender_missing_on_one_machine_leaves_its_cell_empty(report):
    fewer = msgspec.structs.replace(report, contenders=report.contenders[:2])
    cells = {row[0]: row[1:] for row in rows(Machines(["a", "b"], [report, fewer]).table())}
    assert cells[report.contenders[-1].name][1] == ""


def test_a_bundle_may_have_a_comma_in_its_name(report):
    def renamed(name: str) -> str:
        return name.replace("vit.glass", "vit, first.glass")

    bundles = tuple(msgspec.structs.replace(b, name=renamed(b.name)) for b in report.bundles)
    contenders = tuple(msgspec.structs.replace(c, name=renamed(c.name)) for c in report.contenders)
    other = msgspec.structs.replace(report, bundles=bundles, contenders=contenders)
    assert other.bundles[0].name.startswith("vit, first.glass@")
    table = Machines(["a", "b"], [report, other]).best_table()
    assert all(row[1] == row[2] for row in rows(table)[2:])
