"""A bundle is checked byte for byte, and refused with one sentence."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from glass_edge.runtime.bundle.bundle import sha256_of
from glass_edge.runtime.bundle.finding import find_bundle
from glass_edge.runtime.bundle.manifest import parse_manifest

from glass_edge import (
    Bundle,
    BundleError,
    Detector,
    DetectorOptions,
    EngineError,
    InputError,
)


def change(bundle: Path, edit) -> None:
    path = bundle / "glass.json"
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))


def graph_of(manifest: dict[str, Any], role: str) -> dict[str, Any]:
    """Return a graph's entry in a manifest."""
    return manifest[role] if role == "aggregator" else manifest["streams"][role]["graph"]


def views_of(manifest: dict[str, Any], stream: str) -> dict[str, Any]:
    """Return how a stream's views are made, as a manifest says it."""
    return manifest["streams"][stream]["views"]


def refusal(bundle: Path) -> str:
    with pytest.raises(BundleError) as raised:
        Bundle.open(bundle)
    sentence = str(raised.value)
    assert sentence.startswith(f"bundle {bundle}: ")
    assert "\n" not in sentence
    return sentence


def test_a_whole_bundle_opens(copied_bundle, vit_bundle):
    assert Bundle.open(copied_bundle).digest == vit_bundle.digest
    assert Bundle.open(copied_bundle).name.startswith("copied.glass@")


@pytest.mark.parametrize("name", ["global.onnx", "local.onnx", "aggregator.onnx"])
@pytest.mark.parametrize("position", [0, 0.5, -1])
def test_a_flipped_byte_is_found(name, position, copied_bundle):
    path = copied_bundle / name
    content = bytearray(path.read_bytes())
    content[int(len(content) * position) if position != -1 else -1] ^= 1
    path.write_bytes(content)
    assert f"{name} is damaged or was changed" in refusal(copied_bundle)


YARDSTICK = {"noise": 0.4, "unit": "draws", "flips": 0.03, "error": 0.21, "shift": -0.02}


def with_comparison(bundle: Path, **figures: object) -> None:
    """Let the manifest say what its export measured, as older versions did but for ``figures``."""
    said = {"engine": "openvino 2026.1 cpu", "precision": "int8", "images": 5, "judgements": 200}
    measured = {"flips": 1, "mean_change": 0.01, "largest_change": 0.1, "speed": 2.0}
    change(bundle, lambda manifest: manifest.update(comparison={**said, **measured, **figures}))


def test_bundles_older_than_the_yardstick_open(copied_bundle):
    with_comparison(copied_bundle)
    assert Bundle.open(copied_bundle).manifest.comparison.yardstick is None


def test_the_yardstick_is_read_as_it_is_written(copied_bundle):
    with_comparison(copied_bundle, yardstick=YARDSTICK)
    manifest = Bundle.open(copied_bundle).manifest
    assert msgspec.to_builtins(manifest.comparison.yardstick) == YARDSTICK
    assert parse_manifest(manifest.encode()) == manifest


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"noise": 0}, "noise"),
        ({"unit": "pixels"}, "unit"),
        ({"flips": 1.5}, "flips"),
        ({"error": -0.1}, "error"),
        ({"error": None}, "error"),
        ({"spread": 1}, "spread"),
    ],
)
def test_a_yardstick_that_cannot_be_is_refused(wrong, field, copied_bundle):
    with_comparison(copied_bundle, yardstick={**YARDSTICK, **wrong})
    sentence = refusal(copied_bundle)
    assert "does not fit its schema" in sentence
    assert field in sentence


def test_a_missing_graph(copied_bundle):
    (copied_bundle / "local.onnx").unlink()
    assert "local.onnx is missing" in refusal(copied_bundle)


def test_a_missing_manifest(copied_bundle):
    (copied_bundle / "glass.json").unlink()
    assert "holds no glass.json" in refusal(copied_bundle)


def test_a_missing_folder(tmp_path):
    assert "no such folder" in refusal(tmp_path / "nothing.glass")


@pytest.mark.parametrize("schema", [1, 2, 4])
def test_another_schema_version(schema, copied_bundle):
    change(copied_bundle, lambda m: m.update(schema=schema))
    assert refusal(copied_bundle).endswith(
        f"glass.json has schema version {schema}, and this glass-edge reads version 3: "
        "export the bundle again, or install a release that reads it."
    )


def test_a_bundle_of_schema_2_is_to_be_exported_again(copied_bundle):
    """What it says besides is not looked at: it had two backbones and an aggregator, always."""

    def as_it_was(manifest):
        streams = manifest.pop("streams")
        roles = {"aggregator": manifest.pop("aggregator")}
        roles |= {name: stream["graph"] for name, stream in streams.items()}
        manifest.pop("detector")
        manifest["backbone"]["feature_size"] = 128
        views = {"crop_size": 224, "num_crops": 10, "max_grid": 8}
        manifest.update(schema=2, graphs=roles, views=views)

    change(copied_bundle, as_it_was)
    sentence = refusal(copied_bundle)
    assert "has schema version 2" in sentence
    assert "export the bundle again" in sentence


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"{}"])
def test_a_manifest_that_is_none(content, copied_bundle):
    (copied_bundle / "glass.json").write_bytes(content)
    assert re.search("not valid JSON|schema version None", refusal(copied_bundle))


VIEWS, GRAPH = (rf"\$\.streams\[\.\.\.\]\.{part}" for part in ("views", "graph"))


@pytest.mark.parametrize(
    ("edit", "field"),
    [
        (lambda m: views_of(m, "local").update(size="224"), rf"Expected `int`.*{VIEWS}\.size"),
        (
            lambda m: views_of(m, "local")["places"].update(count=0),
            rf"`int` >= 1.*{VIEWS}\.places\.count",
        ),
        (
            lambda m: views_of(m, "local")["places"].update(kind="spiral"),
            rf"'spiral'.*{VIEWS}\.places\.kind",
        ),
        (
            lambda m: views_of(m, "local")["places"].update(snap=14),
            rf"unknown field `snap`.*{VIEWS}\.places",
        ),
        (lambda m: views_of(m, "local").update(dtype="int8"), rf"'int8'.*{VIEWS}\.dtype"),
        (
            lambda m: views_of(m, "global")["resize"].update(rule="area"),
            rf"'area'.*{VIEWS}\.resize\.rule",
        ),
        (
            lambda m: views_of(m, "global")["resize"].update(fit="long-side"),
            rf"'long-side'.*{VIEWS}\.resize\.fit",
        ),
        (lambda m: m.update(streams={}), r"length >= 1.*\$\.streams"),
        (lambda m: m["detector"].pop("preset"), r"`preset`.*\$\.detector"),
        (lambda m: m.pop("detector"), "missing required field `detector`"),
        (lambda m: m.pop("aggregator"), "missing required field `aggregator`"),
        (lambda m: m.pop("opset"), "missing required field `opset`"),
        (lambda m: m.pop("reference"), "missing required field `reference`"),
        (lambda m: m["backbone"].pop("fixed_batch"), r"`fixed_batch`.*\$\.backbone"),
        (lambda m: m.update(surprise=1), "unknown field `surprise`"),
        (lambda m: m.update(precision="fp7"), r"'fp7'.*\$\.precision"),
        (lambda m: m.update(classes=["fake"]), r"\$\.classes"),
        (lambda m: graph_of(m, "local").update(sha256="0"), rf"{GRAPH}\.sha256"),
        (lambda m: graph_of(m, "local").update(file="../x.onnx"), rf"{GRAPH}\.file"),
        (lambda m: graph_of(m, "local").update(file="/etc/passwd"), rf"{GRAPH}\.file"),
    ],
)
def test_a_field_that_does_not_fit_is_named(edit, field, copied_bundle):
    change(copied_bundle, edit)
    assert re.search(field, refusal(copied_bundle))


def test_a_checkpoint_may_have_any_name(copied_bundle):
    change(copied_bundle, lambda m: m["checkpoint"].update(file="gl vit (2).pt"))
    assert Bundle.open(copied_bundle).manifest.checkpoint.file == "gl vit (2).pt"


def test_classes_must_hold_the_fake_one(copied_bundle):
    change(copied_bundle, lambda m: m.update(fake_class="generated"))
    assert "'generated' as the fake one" in refusal(copied_bundle)


def test_a_bundle_whose_export_never_ended(copied_bundle):
    change(copied_bundle, lambda m: m.update(parity=None))
    assert "no parity measurement" in refusal(copied_bundle)


def test_graphs_that_do_not_fit_each_other(copied_bundle):
    (features,) = graph_of(json.loads((copied_bundle / "glass.json").read_text()), "local")[
        "outputs"
    ]
    assert features["shape"] == ["batch", 128]
    features["shape"][1] = 64
    change(copied_bundle, lambda m: graph_of(m, "local").update(outputs=[features]))
    assert "do not fit the other graphs" in refusal(copied_bundle)


def test_a_graph_that_is_not_what_the_manifest_says(copied_bundle, export_family):
    """Right hashes, wrong graph: the aggregator of another family."""
    other = export_family("timm").graph_path("aggregator").read_bytes()
    (copied_bundle / "aggregator.onnx").write_bytes(other)
    sha256 = sha256_of(copied_bundle / "aggregator.onnx")
    change(copied_bundle, lambda m: graph_of(m, "aggregator").update(sha256=sha256))
    with pytest.raises(EngineError, match="aggregator graph does not fit the manifest"):
        Detector(copied_bundle)


def other_aggregator(bundle: Path) -> bytes:
    """The same graph with other weights, as a later export has them."""
    model = onnx.load(bundle / "aggregator.onnx")
    (bias,) = (tensor for tensor in model.graph.initializer if list(tensor.dims) == [2])
    bias.raw_data = (onnx.numpy_helper.to_array(bias) + np.float32([0.3, 0])).tobytes()
    return model.SerializeToString()


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("how", ["overwritten", "replaced", "gone"])
def test_files_that_change_before_an_engine_reads_them(
    how, engine, copied_bundle, tmp_path, monkeypatch
):
    """The self-test passed here before, so that nothing else would find it."""
    monkeypatch.setenv("GLASS_CACHE", str(tmp_path / "cache"))
    options = DetectorOptions(engine=engine)
    bundle = Bundle.open(copied_bundle)
    Detector(bundle, options)
    path = copied_bundle / "aggregator.onnx"
    content, times = other_aggregator(copied_bundle), path.stat()
    if how != "overwritten":
        path.unlink()
    if how != "gone":
        path.write_bytes(content)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises((BundleError, EngineError)) as raised:
        Detector(bundle, options)
    if how != "gone":
        assert "was changed since it was opened: aggregator.onnx" in str(raised.value)


def test_files_that_were_only_touched_are_the_same(copied_bundle):
    bundle = Bundle.open(copied_bundle)
    for path in copied_bundle.glob("*.onnx"):
        path.rename(path.with_suffix(".old"))
        path.write_bytes(path.with_suffix(".old").read_bytes())
    Detector(bundle)


def test_the_bundle_to_use_when_none_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("GLASS_BUNDLE", raising=False)
    with pytest.raises(InputError, match=r"no \*\.glass in the working directory"):
        find_bundle(tmp_path)
    (tmp_path / "one.glass").mkdir()
    assert find_bundle(tmp_path).name == "one.glass"
    (tmp_path / "two.glass").mkdir()
    with pytest.raises(InputError, match=r"one\.glass, two\.glass"):
        find_bundle(tmp_path)
    monkeypatch.setenv("GLASS_BUNDLE", "/elsewhere/named.glass")
    assert find_bundle(tmp_path) == Path("/elsewhere/named.glass")


def test_reference_views_that_do_not_fit_the_streams(copied_bundle):
    change(copied_bundle, lambda m: m["reference"].update(crops=0))
    with pytest.raises(BundleError, match="the reference has 0 views of a stream of several"):
        Bundle.open(copied_bundle)
