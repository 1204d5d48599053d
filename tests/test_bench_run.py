"""glass-bench run: its contenders judge the same crops, and what cannot run is said."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
from conftest import EXAMPLES, call, refusal, with_rule
from glass_edge.benchmarks.contenders.naive import NaiveContender
from glass_edge.benchmarks.contenders.ours import BundleContender
from glass_edge.benchmarks.contenders.pytorch import PyTorchContender
from glass_edge.benchmarks.contenders.work import (
    Runner,
    Setup,
    cycled,
    plan_photos,
    spread_out,
    tiled,
)
from glass_edge.benchmarks.measuring.bundles import load_fitting
from glass_edge.benchmarks.measuring.process import OwnProcess
from glass_edge.benchmarks.measuring.samples import Samples, spread
from glass_edge.benchmarks.measuring.usage import MemoryCurve, cpu_seconds, memory_bytes
from glass_edge.benchmarks.run.measure import _contenders
from glass_edge.benchmarks.run.options import RunOptions
from glass_edge.benchmarks.run.report import Point, Series
from glass_edge.benchmarks.run.roofline import count_multiply_adds
from glass_edge.benchmarks.run.turns import Entry
from glass_edge.export.loading import load_model
from glass_edge.runtime.engines.onnxruntime import OnnxRuntimeEngine
from glass_edge.runtime.machine.cuda import gpu_present
from scipy.stats import linregress
from torch import nn

from glass_edge import Bundle, Detector, DetectorOptions, EngineError, ImageError, InputError

run = partial(call, "glass-bench")
IMAGES = [str(EXAMPLES / name) for name in ("fake/cat.jpg", "real/coffee.jpg", "real/rocket.jpg")]
CROPS, SEED = 3, 7
LINUX = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux only")


@pytest.fixture(scope="module")
def setup(vit_bundle) -> Setup:
    views = vit_bundle.manifest.views.with_crops(CROPS)
    return Setup(views, seed=SEED, batch_size=2, threads=1, workers=1)


@pytest.fixture(scope="module")
def plain(checkpoints, vit_bundle) -> PyTorchContender:
    manifest = vit_bundle.manifest
    return PyTorchContender(checkpoints["vit"], "auto", manifest.normalisation, manifest.fake_index)


def test_the_line_is_that_of_scipy():
    costs = {1.0: (0.2, 0.3, 0.1), 2.0: (0.5, 0.4, 0.6), 5.0: (0.9, 1.1, 1.0)}
    points = tuple(Point(at, Samples(cost)) for at, cost in costs.items())
    line = Series("crops", "any", points).line
    expected = linregress(list(costs), [np.median(cost) for cost in costs.values()])
    assert line.slope == pytest.approx(expected.slope)
    assert line.intercept == pytest.approx(expected.intercept)
    assert line.r2 == pytest.approx(expected.rvalue**2)


def test_multiply_adds_are_those_of_the_layers():
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


def test_what_a_vits_other_tokens_compute_last_does_not_count(checkpoints):
    model = load_model(checkpoints["vit"]).model
    tokens, width, mlp = 50, 128, 256
    block = tokens * (4 * width * width + 2 * width * mlp) + 2 * tokens * tokens * width
    last = (2 * tokens + 2) * width * width + 2 * width * mlp + 2 * tokens * width
    view = 49 * width * 3 * 32 * 32 + block + last
    aggregator = 2 * (width * 128 + 128) + 2 * width * 2
    assert count_multiply_adds(model, 224, 2) == 3 * view + aggregator


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
