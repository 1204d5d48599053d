"""From photographs to verdicts: what PyTorch says, whatever the batch, order or threads."""

from __future__ import annotations

import random
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import reference
import torch
from conftest import DATA, golden_picture, slow, slow_but
from glass_edge.export.exporter import ExportOptions, export_bundle
from glass_edge.runtime.engines.base import EngineOptions
from glass_edge.runtime.engines.onnxruntime import OnnxRuntimeCudaEngine
from networks import FULL, SMALL, random_glass
from PIL import Image

from glass_edge import (
    Bundle,
    Detector,
    DetectorOptions,
    EngineError,
    Failure,
    ImageError,
    InputError,
    UnreadableError,
    Verdict,
)

pytestmark = pytest.mark.usefixtures("every_cpu")

SEED = 1234


def assert_as_pytorch(verdict: Verdict, path: Path, model: torch.nn.Module, count: int) -> None:
    logits, attention = reference.judge(model, str(path), count, SEED)
    assert list(verdict.logits.values()) == pytest.approx(logits.tolist(), abs=1e-3)
    assert [c.attention for c in verdict.crops] == pytest.approx(attention.tolist(), abs=1e-3)
    assert verdict.score == pytest.approx(logits.softmax(0)[0].item(), abs=1e-3)
    assert verdict.verdict == ("fake" if logits[0] >= logits[1] else "real")


@pytest.mark.parametrize("family", slow_but(["vit", "timm"], list(SMALL)))
def test_verdicts_are_those_of_pytorch(family, export_family, photographs):
    """Views by the specification with torch's generator and torchvision's resize."""
    detector = Detector(export_family(family), DetectorOptions(fixed_seed=SEED))
    verdicts = detector.detect(photographs)
    model, count = random_glass(family), SMALL[family][2]
    for verdict, path in zip(verdicts, photographs, strict=True):
        assert_as_pytorch(verdict, path, model, count)


@pytest.mark.slow
@pytest.mark.parametrize("family", list(FULL))
def test_full_size_verdicts_are_those_of_pytorch(family, photographs, tmp_path):
    model = random_glass(family, full=True)
    torch.save(model.state_dict(), tmp_path / f"gl_{family}.pt")
    bundle = export_bundle(tmp_path / f"gl_{family}.pt", tmp_path / "full.glass", ExportOptions())
    detector = Detector(bundle, DetectorOptions(fixed_seed=SEED))
    for verdict, path in zip(detector.detect(photographs), photographs, strict=True):
        assert_as_pytorch(verdict, path, model, FULL[family][2])


@pytest.mark.parametrize("case", range(5))
def test_golden_crops_reach_the_engine(case, vit_bundle):
    import hashlib

    from glass_edge.export.paper import glass_views
    from glass_edge.runtime.views.batch import Sampling, ViewBatch

    golden = np.load(DATA / "views.npz")
    height, width, count, seed, picture_seed = golden[f"case{case}_meta"].tolist()
    sha256 = str(golden[f"case{case}_picture_sha256"])
    picture = golden_picture(height, width, picture_seed, sha256)
    spec = glass_views(224, count)
    batch = ViewBatch(2, spec)
    batch.views["local"][:] = 77  # what an earlier image left behind
    batch.fill(1, picture, Sampling(spec, seed, fixed=True))
    digest = hashlib.sha256(batch.views["local"][1].tobytes()).hexdigest()
    assert digest == str(golden[f"case{case}_crops_sha256"])
    assert np.abs(batch.views["global"][1] - golden[f"case{case}_global"]).max() <= 0.02


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 1},
        {"batch_size": 3, "workers": 1},
        {"batch_size": 7, "threads": 1, "workers": 4},
        {"batch_size": 64, "threads": 2},
    ],
)
def test_batch_order_and_threads_change_nothing(options, vit_bundle, photographs):
    expected = {v.path: v for v in Detector(vit_bundle).detect(photographs)}
    shuffled = random.Random(1).sample(photographs, len(photographs))
    verdicts = Detector(vit_bundle, DetectorOptions(**options)).detect(shuffled)
    assert [v.path for v in verdicts] == [str(path) for path in shuffled]
    for verdict in verdicts:
        other = expected[verdict.path]
        assert verdict.seed == other.seed
        places = [(c.top, c.left, c.height, c.width) for c in verdict.crops]
        assert places == [(c.top, c.left, c.height, c.width) for c in other.crops]
        assert list(verdict.logits.values()) == pytest.approx(list(other.logits.values()), abs=1e-5)


def test_twice_the_same_is_the_same_to_the_bit(vit_bundle, photographs):
    detector = Detector(vit_bundle)
    assert detector.detect(photographs) == detector.detect(photographs)


def test_a_path_its_bytes_and_a_copy_of_it_get_the_same_crops(vit_bundle, photographs, tmp_path):
    path = photographs[5]
    content = path.read_bytes()
    (tmp_path / "copy.jpg").write_bytes(content)
    one, two, three = Detector(vit_bundle).detect([path, content, str(tmp_path / "copy.jpg")])
    assert one.crops == two.crops == three.crops
    assert (one.path, two.path) == (str(path), None)


def test_the_seed_of_a_record_repeats_its_crops(vit_bundle, photographs):
    (verdict,) = Detector(vit_bundle, DetectorOptions(seed=5)).detect(photographs[5])
    (again,) = Detector(vit_bundle, DetectorOptions(fixed_seed=verdict.seed)).detect(photographs[5])
    assert again.crops == verdict.crops
    (other,) = Detector(vit_bundle, DetectorOptions(seed=6)).detect(photographs[5])
    assert other.crops != verdict.crops


def test_arrays_give_what_the_file_gives(vit_bundle, photographs):
    path = photographs[6]
    rgb = np.asarray(Image.open(path).convert("RGB"))
    detector = Detector(vit_bundle, DetectorOptions(fixed_seed=SEED))
    from_file, from_array = detector.detect([path, rgb])
    assert from_array.logits == from_file.logits
    mirrored = detector.detect(rgb[:, ::-1])
    assert mirrored == detector.detect(np.ascontiguousarray(rgb[:, ::-1]))


def test_one_image_alone_is_a_list_of_one(vit_bundle, photographs):
    detector, path = Detector(vit_bundle), photographs[2]
    rgb = np.asarray(Image.open(path).convert("RGB"))
    for image in (path, str(path), path.read_bytes(), rgb):
        (record,) = detector.stream(image)
        assert [record] == detector.detect(image)
        assert isinstance(record, Verdict)


@pytest.mark.parametrize("other", [None, 3, ["list.jpg"]])
def test_what_is_no_image_at_all_is_refused(other, vit_bundle, photographs):
    """It must not pass for the end of the images."""
    images = [photographs[2], other, photographs[3]]
    sentence = (
        f"as a path, a file's bytes, an RGB array or a PIL image, not as {type(other).__name__}."
    )
    with pytest.raises(InputError, match=sentence):
        list(Detector(vit_bundle).stream(images))


@pytest.mark.parametrize(
    "array",
    [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3), np.float32), np.zeros((0, 9, 3), np.uint8)],
)
def test_arrays_that_are_no_images(array, vit_bundle):
    with pytest.raises(ImageError, match="array of shape"):
        Detector(vit_bundle).detect([array])


def test_the_number_of_crops_can_be_chosen(vit_bundle, photographs):
    (verdict,) = Detector(vit_bundle, DetectorOptions(crops=3)).detect([photographs[5]])
    assert len(verdict.crops) == 3
    assert sum(crop.attention for crop in verdict.crops) == pytest.approx(1, abs=1e-5)


def test_the_threshold_moves_the_verdict(vit_bundle, photographs):
    for threshold, expected in ((0.0, "fake"), (1.0, "real")):
        options = DetectorOptions(threshold=threshold)
        assert Detector(vit_bundle, options).detect([photographs[5]])[0].verdict == expected


def test_the_fake_class_may_come_second(fake_second_bundle, photographs):
    detector = Detector(fake_second_bundle, DetectorOptions(threshold=0.0))
    (verdict,) = detector.detect([photographs[5]])
    assert verdict.verdict == "generated"
    assert verdict.score == verdict.probabilities["generated"]


def bad_images(folder: Path, photograph: Path) -> dict[Path, str]:
    folder.mkdir()
    files = {
        "empty.jpg": (b"", "empty"),
        "text.png": (b"hello" * 50, "not an image"),
        "cut.jpg": (photograph.read_bytes()[:5000], "truncated or damaged"),
    }
    for name, (content, _) in files.items():
        (folder / name).write_bytes(content)
    found = {folder / name: sentence for name, (_, sentence) in files.items()}
    return found | {folder / "missing.jpg": "no such file", folder: "is a folder"}


def test_bad_images_become_records_and_the_rest_is_judged(vit_bundle, photographs, tmp_path):
    bad = bad_images(tmp_path / "bad", photographs[5])
    mixed = [photographs[0], *bad, photographs[1]]
    records = list(Detector(vit_bundle, DetectorOptions(batch_size=4)).stream(mixed))
    assert [record.path for record in records] == [str(path) for path in mixed]
    good = Detector(vit_bundle, DetectorOptions(batch_size=4)).detect(photographs[:2])
    assert [r.logits for r in records if isinstance(r, Verdict)] == [
        pytest.approx(v.logits, abs=1e-5) for v in good
    ]
    for record, sentence in zip(records[1:-1], bad.values(), strict=True):
        assert isinstance(record, Failure)
        unreadable = sentence == "no such file"
        assert record.error.type == ("UnreadableError" if unreadable else "ImageError")
        assert sentence in record.error.message


def test_detect_raises_for_a_bad_image(vit_bundle, tmp_path):
    with pytest.raises(UnreadableError, match=r"missing\.jpg: there is no such file"):
        Detector(vit_bundle).detect([tmp_path / "missing.jpg"])


def test_stream_is_lazy(vit_bundle, photographs):
    taken = []

    def source():
        for path in photographs * 100:
            taken.append(path)
            yield path

    stream = Detector(vit_bundle, DetectorOptions(batch_size=2, workers=1)).stream(source())
    assert not taken
    next(stream)
    stream.close()
    assert len(taken) < 40


@pytest.mark.parametrize("factor", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_no_verdict(factor, vit_bundle, photographs, monkeypatch):
    detector = Detector(vit_bundle)
    engine = detector._engine
    run = engine.run

    def broken(role, inputs):
        outputs = run(role, inputs)
        return [output * factor for output in outputs] if role == "aggregator" else outputs

    monkeypatch.setattr(engine, "run", broken)
    (record,) = detector.stream([photographs[0]])
    assert isinstance(record, Failure)
    assert record.error.type == "EngineError"


@pytest.mark.parametrize(
    "options",
    [{"crops": 0}, {"batch_size": 0}, {"threads": -1}, {"workers": -1}, {"threshold": 1.5},
     {"seed": 2**63}, {"fixed_seed": -1}, {"max_pixels": 0},
     {"workers": 2, "mode": "latency"}],
)  # fmt: skip
def test_senseless_options(options):
    with pytest.raises(InputError, match=next(iter(options))):
        DetectorOptions(**options)


@pytest.mark.parametrize("options", [{"engine": "tensorflow"}, {"device": "tpu"}])
def test_unknown_engines_and_devices(options, vit_bundle):
    with pytest.raises(EngineError, match="choose auto or"):
        Detector(vit_bundle, DetectorOptions(**options))


def test_a_device_that_is_not_there_is_no_silent_fall_back(vit_bundle: Bundle):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime offers CUDA")
    with pytest.raises(EngineError, match="cannot run on cuda: it offers"):
        Detector(vit_bundle, DetectorOptions(device="cuda"))


@pytest.mark.parametrize(
    ("precision", "computed"), [("fp32", "fp32"), slow("fp16", "fp16"), slow("int8", "fp32")]
)
def test_what_onnx_runtime_is_told_and_computes_on_cuda(
    precision, computed, make_precision, monkeypatch
):
    """FP32 is never TF32; INT8 has no kernels there. The sessions really run on the CPU."""
    import onnxruntime

    bundle = make_precision("vit", precision)
    asked = []

    class OnCpu(onnxruntime.InferenceSession):
        def __init__(self, model, settings, providers):
            asked.extend(providers)
            super().__init__(model, settings, providers=["CPUExecutionProvider"])

        def get_providers(self):
            return ["CUDAExecutionProvider"]

    monkeypatch.setattr(onnxruntime, "InferenceSession", OnCpu)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    engine = OnnxRuntimeCudaEngine(bundle, EngineOptions("cuda"))
    assert engine.precision == computed
    assert len(asked) == 3
    for name, told in asked:
        assert (name, told["use_tf32"]) == ("CUDAExecutionProvider", "0")


@pytest.mark.parametrize(
    ("weights", "engine"),
    slow_but(
        [("vit_bundle", "onnxruntime"), ("shared_bundle", "openvino")],
        list(product(["vit_bundle", "shared_bundle"], ["onnxruntime", "openvino"])),
    ),
)
def test_a_bundle_may_be_overwritten_while_it_is_in_use(
    weights, engine, request, tmp_path, photographs
):
    """Graphs are held in memory: an export to the same place disturbs no run under way."""
    source = request.getfixturevalue(weights).path
    bundle = Path(shutil.copytree(source, tmp_path / "used.glass"))
    detector = Detector(bundle, DetectorOptions(engine=engine))
    photographs = photographs[1:4]
    before = [record.score for record in detector.detect(photographs)]
    for path in bundle.iterdir():
        with path.open("r+b") as file:
            file.write(bytes(path.stat().st_size))
            file.flush()
            after = [record.score for record in detector.detect(photographs)]
            assert after == pytest.approx(before, abs=1e-6)
            file.truncate(0)
    shutil.rmtree(bundle)
    after = [record.score for record in detector.detect(photographs)]
    assert after == pytest.approx(before, abs=1e-6)
