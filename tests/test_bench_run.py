"""glass-bench run and show: everyone judges the same crops, and the report says what was seen."""

from __future__ import annotations

import io
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
import reference
import torch
from conftest import EXAMPLES, call, launch, refusal, with_rule
from glass_edge.benchmarks.contenders.naive import NaiveContender
from glass_edge.benchmarks.contenders.ours import BundleContender
from glass_edge.benchmarks.contenders.pytorch import PyTorchContender, half_precision
from glass_edge.benchmarks.contenders.work import (
    Runner,
    Setup,
    cycled,
    plan_photos,
    spread_out,
    tiled,
)
from glass_edge.benchmarks.machines import Machines
from glass_edge.benchmarks.measuring.bundles import load_fitting
from glass_edge.benchmarks.measuring.process import OwnProcess
from glass_edge.benchmarks.measuring.samples import (
    MARK,
    SPREAD,
    UNSTEADY,
    Samples,
    median_ratio,
    spread,
    three_digits,
)
from glass_edge.benchmarks.measuring.usage import MemoryCurve, cpu_seconds, memory_bytes
from glass_edge.benchmarks.run import roofline
from glass_edge.benchmarks.run.measure import _contenders
from glass_edge.benchmarks.run.options import RunOptions
from glass_edge.benchmarks.run.report import (
    DecodeFloor,
    Peak,
    Point,
    Roofline,
    RunReport,
    Series,
)
from glass_edge.benchmarks.run.roofline import count_multiply_adds
from glass_edge.benchmarks.run.tables import run_markdown
from glass_edge.benchmarks.run.turns import Entry
from glass_edge.export.loading import load_model
from glass_edge.runtime.engines.onnxruntime import OnnxRuntimeEngine
from glass_edge.runtime.images.decode import decode
from glass_edge.runtime.machine.cuda import gpu_present
from glass_edge.runtime.views.batch import Sampling
from PIL import Image
from scipy.stats import linregress
from torch import nn

from glass_edge import Bundle, Detector, DetectorOptions, EngineError, ImageError, InputError

run = partial(call, "glass-bench")
IMAGES = [str(EXAMPLES / name) for name in ("fake/cat.jpg", "real/coffee.jpg", "real/rocket.jpg")]
CROPS, SEED, ROUNDS = 3, 7, 2
LINUX = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux only")


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


@pytest.fixture(scope="module")
def setup(vit_bundle) -> Setup:
    views = vit_bundle.manifest.views.with_crops(CROPS)
    return Setup(views, seed=SEED, batch_size=2, threads=1, workers=1)


@pytest.fixture(scope="module")
def plain(checkpoints, vit_bundle) -> PyTorchContender:
    manifest = vit_bundle.manifest
    return PyTorchContender(checkpoints["vit"], "auto", manifest.normalisation, manifest.fake_index)


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


def test_the_line_is_that_of_scipy():
    costs = {1.0: (0.2, 0.3, 0.1), 2.0: (0.5, 0.4, 0.6), 5.0: (0.9, 1.1, 1.0)}
    points = tuple(Point(at, Samples(cost)) for at, cost in costs.items())
    line = Series("crops", "any", points).line
    expected = linregress(list(costs), [np.median(cost) for cost in costs.values()])
    assert line.slope == pytest.approx(expected.slope)
    assert line.intercept == pytest.approx(expected.intercept)
    assert line.r2 == pytest.approx(expected.rvalue**2)


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


def test_multiply_adds_are_those_of_the_layers(report):
    """A convolution and a linear layer, counted by hand."""

    class TwoLayers(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.linear = nn.Conv2d(3, 8, 16, 16), nn.Linear(8, 5)

        def forward(self, x):
            return self.linear(self.conv(x).mean((2, 3)))

    from glass_edge.export.model import Glass

    one = 14 * 14 * 8 * 3 * 16 * 16 + 8 * 5
    aggregator = 2 * (5 * 128 + 128) + 10 * 2
    model = Glass(TwoLayers(), TwoLayers(), 5).eval()
    assert count_multiply_adds(model, 224, 2) == 3 * one + aggregator
    assert report.roofline.multiply_adds > 1e6


def test_what_a_vits_other_tokens_compute_last_does_not_count(checkpoints):
    model = load_model(checkpoints["vit"]).model
    tokens, width, mlp = 50, 128, 256
    block = tokens * (4 * width * width + 2 * width * mlp) + 2 * tokens * tokens * width
    last = (2 * tokens + 2) * width * width + 2 * width * mlp + 2 * tokens * width
    view = 49 * width * 3 * 32 * 32 + block + last
    aggregator = 2 * (width * 128 + 128) + 2 * width * 2
    assert count_multiply_adds(model, 224, 2) == 3 * view + aggregator


def test_bounds_are_positive_and_in_every_type(report):
    found = {peak.precision: peak.per_second for peak in report.roofline.peaks}
    assert {"fp32", half_precision()} <= set(found)
    assert min(found.values()) > 1e8
    assert set(found) | set(report.roofline.left_out) >= {"int8"}
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


def test_crops_are_the_same_for_all(setup, plain, vit_bundle):
    photos = plan_photos(IMAGES, setup)
    verdicts = Detector(
        vit_bundle, DetectorOptions(engine="onnxruntime", crops=CROPS, seed=SEED)
    ).detect(IMAGES)
    for photo, verdict in zip(photos, verdicts, strict=True):
        assert [(p.top, p.left) for p in photo.placements] == [
            (crop.top, crop.left) for crop in verdict.crops
        ]
    for contender in (BundleContender(vit_bundle, "onnxruntime"), NaiveContender(vit_bundle)):
        judged = contender.open(setup).judge(photos)
        assert judged.placements == tuple(photo.placements for photo in photos)


@pytest.mark.parametrize("images", [1, 2, 4, 16])
def test_no_zeros_are_computed_beside_the_views_of_a_batch(images, setup, vit_bundle, monkeypatch):
    """A detector that serves such batches has an engine for just so many views, up to the most."""
    setup = replace(setup, batch_size=16)
    rows: Counter[str] = Counter()
    run = OnnxRuntimeEngine.run

    def counted(engine, role, inputs):
        rows[role] += len(inputs[0])
        return run(engine, role, inputs)

    loaded = BundleContender(vit_bundle, "onnxruntime").open(setup)
    loaded.batch(plan_photos(IMAGES[:1], setup))  # another size before
    call = loaded.batch(cycled(plan_photos(IMAGES, setup), images))
    monkeypatch.setattr(OnnxRuntimeEngine, "run", counted)
    call()
    assert rows == {"global": images, "local": images * CROPS, "aggregator": images}


def test_tiles_cover_every_pixel_once(setup):
    (photo,) = tiled(plan_photos(IMAGES[:1], setup), 224)
    seen = np.zeros((photo.height, photo.width), int)
    for place in photo.placements:
        seen[place.top : place.top + place.height, place.left : place.left + place.width] += 1
    assert (seen == 1).all()


def test_images_are_spread_and_cycled(setup):
    photos = plan_photos(IMAGES, setup)
    assert spread_out(photos, 2) == (photos[0], photos[1])
    assert spread_out(photos, 9) == photos
    assert cycled(photos, 4) == (*photos, photos[0])


@pytest.mark.skipif(gpu_present(), reason="on a GPU PyTorch's profiler times the parts")
def test_a_bundle_is_measured_without_torch(setup, vit_bundle):
    """From the first step to the last, as the benchmark takes them."""
    contender = BundleContender(vit_bundle, "onnxruntime")
    photos = plan_photos(IMAGES[:1], setup)
    with OwnProcess("bundle", Runner, contender, setup) as process:
        entry = Entry(contender, "ours", process)
        entry.warm_up(photos)
        entry.judge(photos)
        entry.prepare_batch(photos, 0.01)
        entry.time_batch(photos, 0.01)
        assert entry.result().engine_only[0].calls
        with open(f"/proc/{process.pid}/maps") as maps:
            assert "libtorch" not in maps.read()


@LINUX
def test_memory_and_cpu_time_are_of_the_process(setup, vit_bundle):
    contender = BundleContender(vit_bundle, "onnxruntime")
    with OwnProcess("bundle", Runner, contender, setup) as process:
        before = cpu_seconds(process.pid)
        with MemoryCurve(process.pid, 0.25) as memory:
            process.ask(Runner.time_batch, plan_photos(IMAGES[:1], setup), 1.0)
        assert cpu_seconds(process.pid) - before >= 0.1
        assert memory.growth > 1e6
        assert memory_bytes(process.pid) > 1e7
    assert cpu_seconds(process.pid) is None


def test_a_contender_that_fails_is_refused_in_one_sentence(setup, plain, tmp_path):
    gone = tmp_path / "gone.jpg"
    gone.write_bytes(Path(IMAGES[0]).read_bytes())
    photos = plan_photos([str(gone)], setup)
    gone.unlink()
    loaded = plain.open(setup)
    with pytest.raises(EngineError, match="PyTorch FP32 fails here: "):
        loaded.judge(photos)


def test_layout_and_parts_do_not_change_what_is_judged(setup, plain):
    photos = plan_photos(IMAGES[:1], setup)
    (expected,) = plain.open(setup).judge(photos).scores
    for contender in (replace(plain, channels_last=True), replace(plain, crops_at_once=2)):
        assert contender.open(setup).judge(photos).scores[0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_torch_compile_agrees(setup, plain):
    photos = plan_photos(IMAGES[:2], setup)
    scores = []
    for compiled in (False, True):
        contender = replace(plain, compiled=compiled)
        with OwnProcess(contender.name, Runner, contender, setup) as process:
            scores.append(process.ask(Runner.judge, photos).scores)
    assert scores[1] == pytest.approx(scores[0], abs=1e-5)


@pytest.mark.slow
def test_torch_compile_without_a_compiler_is_refused(setup, plain, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")
    contender = replace(plain, compiled=True)
    with (
        OwnProcess(contender.name, Runner, contender, setup) as process,
        pytest.raises(EngineError, match=r"PyTorch FP32, torch\.compile fails here: "),
    ):
        process.ask(Runner.judge, plan_photos(IMAGES[:1], setup))


@pytest.mark.gpu
def test_the_parts_of_a_gpu_s_work_are_told_apart(setup, plain):
    photos = plan_photos(IMAGES[:1], setup)
    with OwnProcess("PyTorch", Runner, plain, setup) as process:
        process.ask(Runner.time_batch, photos, 0.1)
        parts = process.ask(Runner.time_parts, photos, 3)
    assert set(parts) == {"enqueue", "H2D", "compute", "D2H"}
    assert all(len(seconds) == 3 and min(seconds) > 0 for seconds in parts.values())


def test_spread_and_variation_are_numpy_s():
    values = [0.1, 0.2, 0.4, 0.8]
    expected = [0.1, 0.375, *np.percentile(values, [50, 90, 95, 99])]
    assert spread(values) == pytest.approx(expected)
    assert Samples(tuple(values)).variation == pytest.approx(np.std(values, ddof=1) / 0.375)
    assert Samples((0.1,)).variation == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "--checkpoint", "gl.pt", "-b", "x.glass"], "Missing argument 'IMAGES...'"),
        (["run", "a.jpg", "-b", "x.glass"], "Missing option '--checkpoint'"),
        (["run", "a.jpg", "--checkpoint", "gl.pt"], "Missing option '-b'"),
        (["run", "a.jpg", "--checkpoint", "gl.pt", "-b", "x.glass"], "x.glass: no such folder"),
        (
            ["run", "a.jpg", "--checkpoint", "gl.pt", "-b", "x.glass", "--batches", "1,x"],
            "not a list of positive numbers",
        ),
        (
            ["run", "a.jpg", "--checkpoint", "gl.pt", "-b", "x.glass", "--batches", "1.5"],
            "not a list of whole numbers",
        ),
        (
            ["run", "a.jpg", "--checkpoint", "gl.pt", "-b", "x.glass", "--scale-crops", "0"],
            "not a list of positive numbers",
        ),
        (
            ["run", "a.jpg", "--checkpoint", "gl.pt", "-b", "x.glass", "--rounds", "1"],
            "'--rounds'",
        ),
        (
            ["run", "a.jpg", "--checkpoint", "gl.pt", "-b", "x.glass", "-o", "report.xml"],
            "cannot tell the format of report.xml",
        ),
        (["show", "missing.json"], "missing.json cannot be read"),
        (["show", "a.json", "b.json", "-o", "c.png"], "give a name that ends in .md"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(arguments, sentence, tmp_path):
    assert sentence in refusal(run(tmp_path, *arguments))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{", "is not valid JSON"),
        (b"[]", "is no report of glass-bench run"),
        (b'{"report": "run", "schema": 9}', "has schema version 9"),
        (b'{"report": "run", "schema": 1}', "does not fit its schema"),
    ],
)
def test_other_files_are_no_reports(content, sentence, tmp_path):
    (tmp_path / "report.json").write_bytes(content)
    assert sentence in refusal(run(tmp_path, "show", "report.json"))


def test_an_image_that_cannot_be_judged_is_named(setup, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"broken\.jpg: .* Leave it out of the benchmark\."):
        plan_photos([str(tmp_path / "broken.jpg")], setup)
    with pytest.raises(ImageError, match=r"missing\.jpg cannot be read: No such file"):
        plan_photos(["missing.jpg"], setup)


def test_only_a_glass_is_compared_with_pytorch(checkpoints, vit_bundle):
    entry = msgspec.structs.replace(vit_bundle.manifest.detector, family="univfd")
    manifest = msgspec.structs.replace(vit_bundle.manifest, detector=entry)
    other = Bundle(Path("other.glass"), manifest, vit_bundle.digest)
    load_fitting(checkpoints["vit"], "auto", [vit_bundle])
    with pytest.raises(InputError, match=r"other\.glass holds a detector of the family univfd"):
        load_fitting(checkpoints["vit"], "auto", [vit_bundle, other])


def test_a_bundle_with_a_rule_also_takes_as_many_crops_as_images_need(
    setup, plain, vit_bundle, tmp_path
):
    ruled = with_rule(vit_bundle, tmp_path / "ruled.glass", (0.0, 0.0, 0.0, 0.0))
    options = RunOptions(
        backbone="auto",
        engines=("onnxruntime",),
        batches=(1,),
        rounds=3,
        seconds=0.1,
        full_size_images=0,
        compiled=False,
        scale_crops=(),
        scale_megapixels=(),
    )
    ours = [each for kind, each in _contenders(plain, [ruled], options) if kind == "ours"]
    assert [each.name for each in ours] == [
        f"{ruled.name}, onnxruntime",
        f"{ruled.name}, onnxruntime, auto crops",
    ]
    loaded = ours[1].open(setup)
    photos = plan_photos(IMAGES, setup)
    judged = loaded.judge(photos)
    assert (judged.placements, judged.mean_crops) == (None, 1.0)
    with pytest.raises(EngineError, match="measured from files only"):
        loaded.batch(photos)
