"""glass-bench engines: PyTorch and bundles on engines, side by side in one run."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from functools import partial

import msgspec
import numpy as np
import pytest
from conftest import call, refusal
from glass_edge.benchmarks.contenders.ours import BundleContender
from glass_edge.benchmarks.contenders.pytorch import PyTorchContender
from glass_edge.benchmarks.contenders.work import Backbone
from glass_edge.benchmarks.engines import EnginesReport
from glass_edge.benchmarks.measuring.process import OwnProcess
from glass_edge.benchmarks.measuring.samples import median_ratio
from glass_edge.runtime.engines import registry
from glass_edge.runtime.engines.registry import EngineRecord
from glass_edge.runtime.machine.cuda import gpu_present

from glass_edge import EngineError

run = partial(call, "glass-bench")
PYTORCH = ("PyTorch FP32", "PyTorch BF16 autocast")
REPEATS = 3
OF_A_GPU = ("tensorrt", "tensorrt-rtx")


@pytest.fixture(scope="module")
def report(
    checkpoints, export_family, make_precision, tmp_path_factory
) -> tuple[EnginesReport, str, str]:
    place = tmp_path_factory.mktemp("engines")
    engines = ["onnxruntime", "openvino", *([] if gpu_present() else OF_A_GPU)]
    done = run(place, "engines", checkpoints["vit"], "-b", export_family("vit").path,
               "-b", make_precision("vit", "int8").path, "-b", make_precision("vit", "bf16").path,
               *(word for engine in engines for word in ("--engine", engine)),
               "--batch-size", "4,1", "--repeats", str(REPEATS), "--threads", "1",
               "-o", "report.json", "-o", "report.md")  # fmt: skip
    assert done.returncode == 0, done.stderr
    content = (place / "report.json").read_bytes()
    return (
        msgspec.json.decode(content, type=EnginesReport),
        done.stdout,
        (place / "report.md").read_text(),
    )


@pytest.mark.slow
def test_json_and_markdown_come_from_one_object(report):
    parsed, shown, written = report
    assert parsed.to_markdown() == shown == written
    assert parsed.schema == 1
    assert parsed.command.startswith("glass-bench engines ")
    assert (parsed.batch_sizes, parsed.repeats, parsed.threads) == ((1, 4), REPEATS, 1)


@pytest.mark.slow
def test_every_bundle_meets_pytorch_on_every_engine(report, export_family, make_precision):
    by_size = {1: [], 4: []}
    for result in report[0].contenders:
        by_size[result.batch_size].append(result.name)
    names = by_size[4]
    assert names == by_size[1]
    assert tuple(names[:2]) == PYTORCH
    full, small = export_family("vit"), make_precision("vit", "int8")
    for bundle in (full, small):
        for engine in ("onnxruntime", "openvino"):
            (name,) = (n for n in names if n.startswith(f"{bundle.name}, {engine} "))
            assert name.endswith(" cpu")


@pytest.mark.slow
def test_every_sample_is_kept(report):
    for result in report[0].contenders:
        assert len(result.per_crop.seconds) == REPEATS
        assert min(result.per_crop.seconds) > 0


@pytest.mark.slow
def test_pytorch_is_as_fast_as_itself(report):
    lines = [line for line in report[1].splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    speeds = {(row[0], row[1]): tuple(row[5:8]) for row in rows if len(row) == 10}
    for size in (1, 4):
        fp32, bf16, *others = (r for r in report[0].contenders if r.batch_size == size)
        best = min((fp32, bf16), key=lambda result: result.per_crop.median)
        assert speeds[str(size), fp32.name][0] == speeds[str(size), bf16.name][1] == "1.00"
        assert speeds[str(size), best.name][2] == "1.00"
        for result in others:
            expected = [median_ratio(each.per_crop, result.per_crop) for each in (fp32, bf16, best)]
            assert speeds[str(size), result.name] == tuple(f"{ratio:.2f}" for ratio in expected)


@pytest.mark.slow
def test_fp32_is_exact_and_low_precision_is_near(report):
    fp32, bf16, *others = (result for result in report[0].contenders if result.batch_size == 4)
    assert fp32.error == 0
    assert 1e-4 < bf16.error < 0.05
    for result in others:
        if result.bundle_precision == "fp32":
            assert result.error < 1e-4
        else:
            assert 1e-4 < result.error < 0.2


@pytest.mark.slow
def test_sizes_are_those_on_disk(report, checkpoints, make_precision):
    sizes = {result.name: result.file_bytes for result in report[0].contenders}
    assert sizes["PyTorch FP32"] == checkpoints["vit"].stat().st_size
    small = make_precision("vit", "int8")
    expected = sum(path.stat().st_size for path in small.path.iterdir())
    assert {size for name, size in sizes.items() if name.startswith(small.name)} == {expected}


@pytest.mark.slow
def test_a_refusal_is_a_row_with_its_reason(report, make_precision):
    (refusal,) = (each for each in report[0].refusals if not each.name.endswith(OF_A_GPU))
    assert refusal.name == f"{make_precision('vit', 'bf16').name}, onnxruntime"
    assert "ONNX Runtime refuses" in refusal.reason
    (row,) = (line for line in report[1].splitlines() if line.startswith(f"| {refusal.name} "))
    assert "refused: ONNX Runtime refuses" in row
    assert row.count(" |") == 2


def test_a_process_that_ends_is_named(vit_bundle):
    crops = np.zeros((1, 224, 224, 3), np.uint8)
    contender = BundleContender(vit_bundle, "openvino")
    with OwnProcess(contender.name, contender.open_backbone, crops, 1) as process:
        assert process.ask(Backbone.time, 1) > 0
        (child,) = multiprocessing.active_children()
        child.kill()
        child.join()
        with pytest.raises(EngineError, match=r"of vit\.glass@.*, openvino ended without"):
            process.ask(Backbone.time, 1)


@pytest.mark.slow
@pytest.mark.skipif(gpu_present(), reason="a GPU may run it")
def test_an_engine_without_its_gpu_says_what_is_missing(report, export_family):
    """It chooses its device by itself: nobody asked it for the CPU."""
    parsed, shown, _ = report
    of_fp32 = [each for each in parsed.refusals if each.name.startswith(export_family("vit").name)]
    for engine, refused in zip(OF_A_GPU, of_fp32, strict=True):
        assert refused.name.endswith(f", {engine}")
        assert "not on the cpu" not in refused.reason
        installed = registry.engines()[engine].installed
        assert ("CUDA finds no GPU" if installed else "is not installed") in refused.reason
        assert f"refused: {refused.reason} " in shown


def test_an_engine_of_a_device_is_not_told_to_run_on_the_cpu(vit_bundle, monkeypatch):
    class Accelerator:
        description, precision = "accelerator 1.0 npu", "fp16"

        def features(self, backbone, pixels):
            return np.full((len(pixels), 128), 1.0, np.float32)

    def opened(bundle, options):
        if options.device == "cpu":
            raise EngineError("an accelerator is no CPU.")
        return Accelerator()

    record = EngineRecord("accelerator", "numpy", "none", ("npu",), opened)
    monkeypatch.setattr(registry, "engines", lambda: {"accelerator": record})
    crops = np.zeros((3, 224, 224, 3), np.uint8)
    backbone = BundleContender(vit_bundle, "accelerator").open_backbone(crops, threads=1)
    assert backbone.introduce() == ("accelerator 1.0 npu", "fp16")
    assert backbone.features(2).shape == (2, 128)


@pytest.mark.slow
def test_torch_compile_computes_the_same_features(checkpoints, vit_bundle):
    crops = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    plain = PyTorchContender.plain(checkpoints["vit"], "auto", vit_bundle)
    compiled = replace(plain, compiled=True, channels_last=True)
    expected, found = (each.open_backbone(crops, 1).features(2) for each in (plain, compiled))
    assert compiled.name == "PyTorch FP32, channels-last, torch.compile"
    assert found == pytest.approx(expected, abs=1e-4)


def test_a_checkpoint_of_another_backbone_is_refused(checkpoints, vit_bundle, tmp_path):
    message = refusal(run(tmp_path, "engines", checkpoints["convnext"], "-b", vit_bundle.path))
    assert "give the checkpoint that the bundle was exported from" in message
    assert "torchvision ViT 2x128/32 with 128 features" in message


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["gl.pt", "-b", "missing.glass"], "bundle missing.glass: no such folder"),
        (["gl.pt"], "Missing option '-b'"),
        (["gl.pt", "-b", "missing.glass", "--engine", "abacus"], "'abacus' is not one of"),
        (
            ["gl.pt", "-b", "missing.glass", "-o", "report.xml"],
            "cannot tell the format",
        ),
        (["gl.pt", "-b", "missing.glass", "--threads", "0"], "'--threads'"),
        (["gl.pt", "-b", "missing.glass", "--batch-size", "1,x"], "not a list of positive"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(arguments, sentence, tmp_path):
    assert sentence in refusal(run(tmp_path, "engines", *arguments))


def test_a_missing_checkpoint_is_named(vit_bundle, tmp_path):
    assert "gl.pt" in refusal(run(tmp_path, "engines", "gl.pt", "-b", vit_bundle.path))
