"""A bundle from anywhere: nothing leaves its folder, nothing runs but standard operators."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import ROOT, call
from glass_edge.runtime.bundle.bundle import sha256_of
from glass_edge.runtime.bundle.graphfile import _PARTS, check_graph
from glass_edge.runtime.bundle.manifest import parse_manifest
from glass_edge.runtime.engines.base import EngineOptions
from glass_edge.runtime.engines.openvino import shared_core
from glass_edge.runtime.engines.registry import open_engine
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.external_data_helper import set_external_data
from test_bundle import change, graph_of, refusal, views_of

from glass_edge import Bundle, BundleError, EngineError


def graph(
    location: str | None = None, domain: str = "", nodes: list[onnx.NodeProto] | None = None
) -> onnx.ModelProto:
    """A sum with a weight, which lies at ``location`` if there is one."""
    weight = onnx.numpy_helper.from_array(np.zeros(4, np.float32), "w")
    if location is not None:
        set_external_data(weight, location, offset=0, length=16)
        weight.ClearField("raw_data")
    nodes = nodes or [helper.make_node("Add", ["x", "w"], ["y"], domain=domain)]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy"]
    made = helper.make_graph(nodes, "g", values[:1], values[1:], [weight])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)])


def refused(model: onnx.ModelProto | bytes, folder: Path, *weights: str) -> str:
    path = folder / "global.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    with pytest.raises(BundleError) as raised:
        check_graph(path, weights)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def accepted(model: onnx.ModelProto, folder: Path, *weights: str) -> None:
    (folder / "global.onnx").write_bytes(model.SerializeToString())
    check_graph(folder / "global.onnx", weights)


def test_a_plain_graph_is_accepted(tmp_path):
    accepted(graph(), tmp_path)
    accepted(graph(domain="ai.onnx"), tmp_path)
    accepted(graph("weights.bin"), tmp_path, "weights.bin")


@pytest.mark.parametrize("family", ["vit", "shared"])
def test_what_the_export_writes_is_accepted(family, vit_bundle, shared_bundle):
    bundle = vit_bundle if family == "vit" else shared_bundle
    for role in ("global", "local", "aggregator"):
        check_graph(bundle.graph_path(role), [entry.file for entry in bundle.manifest.weights])


@pytest.mark.parametrize(
    "location",
    [
        "unlisted.bin",
        "../weights.bin",
        "../../../../../../etc/passwd",
        "/etc/passwd",
        "./weights.bin",
        "weights.bin/../other.bin",
        "*/_ORT_MEM_ADDR_/*",  # an address in the engine's memory
        "",
        "weights.bin\0",
    ],
)
def test_weights_lie_only_in_files_that_the_manifest_lists(location, tmp_path):
    sentence = refused(graph(location), tmp_path, "weights.bin")
    assert f"keeps weights in {location!r}" in sentence


def test_weights_may_hide_nowhere(tmp_path):
    """In an attribute, in a list of them, in a sparse tensor, in a node's sparse tensor."""
    (weight,) = graph("/etc/passwd").graph.initializer
    sparse = onnx.SparseTensorProto(values=weight, dims=[4])
    attributes = [
        onnx.AttributeProto(name="value", type=onnx.AttributeProto.TENSOR, t=weight),
        onnx.AttributeProto(name="value", type=onnx.AttributeProto.TENSORS, tensors=[weight]),
        onnx.AttributeProto(name="v", type=onnx.AttributeProto.SPARSE_TENSOR, sparse_tensor=sparse),
        onnx.AttributeProto(
            name="v", type=onnx.AttributeProto.SPARSE_TENSORS, sparse_tensors=[sparse]
        ),
    ]
    for attribute in attributes:
        node = helper.make_node("Constant", [], ["y"])
        node.attribute.append(attribute)
        assert "keeps weights in '/etc/passwd'" in refused(graph(nodes=[node]), tmp_path)
    model = graph()
    model.graph.sparse_initializer.append(sparse)
    assert "keeps weights in '/etc/passwd'" in refused(model, tmp_path)


def test_weights_have_a_place_and_nothing_else(tmp_path):
    model = graph("weights.bin")
    model.graph.initializer[0].external_data.add(key="prepacked_0", value="anything")
    assert "'prepacked_0': only length, location, offset" in refused(model, tmp_path, "weights.bin")


@pytest.mark.parametrize("domain", ["com.microsoft", "ai.onnx.ml", "evil", "ai.onnx ", "é"])
def test_operators_are_those_of_the_standard(domain, tmp_path):
    assert f"an operator of {domain!r}" in refused(graph(domain=domain), tmp_path)


def test_nothing_that_may_never_end(tmp_path):
    body = helper.make_graph([], "body", [], [])
    loop = helper.make_node("Loop", [], ["y"], body=body)
    assert "holds loops or branches" in refused(graph(nodes=[loop]), tmp_path)
    model = graph()
    model.functions.add(name="f", domain="ours")
    assert "holds functions of its own" in refused(model, tmp_path)
    model = graph()
    model.training_info.add()
    assert "holds training steps" in refused(model, tmp_path)


def disguised(field: bytes, size_bytes: int = 1) -> bytes:
    """A graph with an operator of Microsoft's, behind this tag and a size of so many bytes."""
    model = graph(nodes=[helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")])
    model.opset_import.add(domain="com.microsoft", version=1)
    content = model.graph.SerializeToString()
    model.ClearField("graph")
    size = bytes(len(content) >> 7 * index & 0x7F | 0x80 for index in range(size_bytes))
    last = bytes([size[-1] & 0x7F])
    return model.SerializeToString() + field + size[:-1] + last + content


PLAIN = b"\x3a"  # field 7, with a length


@pytest.mark.parametrize(
    "content",
    [
        disguised(PLAIN, 2),
        *(disguised(PLAIN, size_bytes) for size_bytes in (3, 4, 5, 10)),
        disguised(b"\xba\x00", 2),
        *(disguised(b"\xba\x80\x80\x80" + bytes([last]), 2) for last in (0x10, 0x40, 0x70)),
        disguised(b"\xba\x80\x80\x80\x80\x01", 2),
        disguised(b"\xba" + b"\x80" * 8 + b"\x01", 2),
        disguised(b"\0" + PLAIN, 2),
        disguised(b"\x02\0" + PLAIN, 2),
        disguised(b"\x0b" + PLAIN, 2) + b"\x0c",
    ],
    ids=[
        *("plainly", "size of 3 bytes", "size of 4", "size of 5", "size of 10", "tag of 2 bytes"),
        *("bit 32", "bit 34", "bits 32 to 34", "bit 35", "bit 63", "end", "field 0", "group"),
    ],
)
def test_no_way_of_writing_hides_what_an_engine_reads(content, tmp_path):
    """What ONNX Runtime finds behind other spellings of tags and sizes, the check finds too."""
    try:
        onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception:  # pybind's exceptions have no common base but Exception
        with suppress(BundleError):
            (tmp_path / "global.onnx").write_bytes(content)
            check_graph(tmp_path / "global.onnx", [])
        return
    sentence = refused(content, tmp_path)
    assert "an operator of 'com.microsoft'" in sentence or "is no ONNX graph" in sentence


@pytest.mark.parametrize("tag", [b"\xba\x80\x80\x80\x10", b"\0", b"\x02"])
def test_fields_have_numbers_that_protobuf_allows(tag, tmp_path):
    assert "a field of no possible number" in refused(disguised(tag, 2), tmp_path)


def exchanged(bundle: Path, role: str, content: bytes) -> Path:
    """Put other bytes in the place of a graph, and make the manifest fit."""
    path = bundle / f"{role}.onnx"
    path.write_bytes(content)
    change(bundle, lambda m: graph_of(m, role).update(sha256=sha256_of(path)))
    return bundle


def noted(content: bytes) -> bytes:
    """Bytes that the walk passes over: a field that ONNX does not have."""
    return b"\xfa\x01" + _size(len(content)) + content


def _size(count: int) -> bytes:
    low = count & 0x7F
    return bytes([low]) if count == low else bytes([low | 0x80]) + _size(count >> 7)


def test_onnx_runtime_reads_no_other_format(shared_bundle, tmp_path):
    """Its own format's mark, where it looks for it, in a graph that it is given as bytes."""
    bundle = Path(shutil.copytree(shared_bundle.path, tmp_path / "copied.glass"))
    marked = noted(b"\0ORTM") + (bundle / "global.onnx").read_bytes()
    assert marked[4:8] == b"ORTM"
    opened = Bundle.open(exchanged(bundle, "global", marked))
    engine, plain = (
        open_engine(which, "onnxruntime", EngineOptions("cpu", 1))
        for which in (opened, shared_bundle)
    )
    views = np.random.default_rng(0).random((1, 224, 224, 3), np.float32)
    assert np.array_equal(engine.run("global", [views]), plain.run("global", [views]))


XML = b"""
<net name="m" version="11"><layers>
<layer id="0" name="pixels" type="Parameter" version="opset1">
<data shape="4" element_type="f32"/>
<output><port id="0" precision="FP32"><dim>4</dim></port></output></layer>
<layer id="1" name="features" type="Result" version="opset1">
<input><port id="0" precision="FP32"><dim>4</dim></port></input></layer>
</layers><edges><edge from-layer="0" from-port="0" to-layer="1" to-port="0"/></edges></net>
"""


def test_openvino_reads_no_other_format(copied_bundle):
    """A graph in its own format, which it would find in a note of an ONNX file."""
    content = noted(XML)
    (copied_bundle / "probe.onnx").write_bytes(content)
    assert shared_core().read_model(copied_bundle / "probe.onnx").get_parameters()
    check_graph(copied_bundle / "probe.onnx", [])
    bundle = Bundle.open(exchanged(copied_bundle, "global", content))
    with pytest.raises(EngineError, match="the global graph: it does not look like ONNX"):
        open_engine(bundle, "openvino", EngineOptions("cpu", 1))


HARMLESS = {  # notes, devices, and types that no tensor of ours has
    "OperatorSetIdProto", "StringStringEntryProto", "TensorAnnotation", "Segment", "Sequence",
    "Map", "Optional", "SparseTensor", "Opaque", "DeviceConfigurationProto",
    "NodeDeviceConfigurationProto",
}  # fmt: skip


def test_the_walk_knows_onnxs_own_field_numbers():
    """Every way from a model to a node, a tensor, a graph or a text is one that the walk goes."""
    messages = {
        "model": onnx.ModelProto, "graph": onnx.GraphProto, "node": onnx.NodeProto,
        "attribute": onnx.AttributeProto, "sparse tensor": onnx.SparseTensorProto,
        "tensor": onnx.TensorProto, "value": onnx.ValueInfoProto, "type": onnx.TypeProto,
        "tensor type": onnx.TypeProto.Tensor, "shape": onnx.TensorShapeProto,
        "dimension": onnx.TensorShapeProto.Dimension,
    }  # fmt: skip
    assert set(messages) == set(_PARTS)
    for part, message in messages.items():
        known = set()
        for field in message.DESCRIPTOR.fields:
            inner = field.message_type
            if inner is None:
                carries = field.type == field.TYPE_STRING
            else:
                carries = field.name == "external_data" or inner.name not in HARMLESS
                carries &= (part, inner.name) != ("attribute", "TypeProto")
            known |= {field.number} if carries else set()
        assert set(_PARTS[part]) == known, part


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a graph at all",
        b"\x3a\xff\xff\xff\xff\x0f",  # a graph of four gigabytes
        b"\x3a\x80",
        b"\xff" * 20,
        b"\x0b\x0c",  # a group
        b"\x3d\0",  # four bytes that are not there
        b"\x08\x01" * 1_000_001,
        graph().SerializeToString().replace(b"Add", b"A\xffd"),
    ],
    ids=[
        "empty",
        "text",
        "too long",
        "cut",
        "endless number",
        "group",
        "fixed",
        "many fields",
        "not UTF-8",
    ],
)
def test_what_is_no_graph(content, tmp_path):
    assert "is no ONNX graph" in refused(content, tmp_path)


@given(data=st.data())
def test_any_bytes_are_a_graph_or_refused(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("graphs") / "global.onnx"
    content = bytearray(graph("weights.bin").SerializeToString())
    for _ in range(data.draw(st.integers(0, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        check_graph(path, ["weights.bin"])
    except BundleError:
        return
    try:
        model = onnx.load_model_from_string(bytes(content))
    except Exception:  # what protobuf refuses no engine reads
        return
    found = {entry.value for weight in model.graph.initializer for entry in weight.external_data
             if entry.key == "location"}  # fmt: skip
    assert found <= {"weights.bin"}
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}


# --- the folder --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["glass.json", "global.onnx", "reference.png"])
def test_no_file_is_a_link_out_of_the_bundle(name, copied_bundle, tmp_path):
    outside = shutil.move(copied_bundle / name, tmp_path / "outside")
    (copied_bundle / name).symlink_to(outside)
    assert f"{name} is a link that leaves the folder" in refusal(copied_bundle)


def test_a_link_within_the_bundle_is_harmless(copied_bundle):
    shutil.move(copied_bundle / "global.onnx", copied_bundle / "kept.onnx")
    (copied_bundle / "global.onnx").symlink_to("kept.onnx")
    Bundle.open(copied_bundle)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
@pytest.mark.parametrize(
    ("name", "sentence"), [("glass.json", "holds no glass.json"), ("local.onnx", "is missing")]
)
def test_what_is_no_file_is_not_read(name, sentence, copied_bundle):
    (copied_bundle / name).unlink()
    os.mkfifo(copied_bundle / name)
    assert sentence in refusal(copied_bundle)


@pytest.mark.parametrize(("name", "size"), [("local.onnx", 2**31), ("backbone.bin", 2**34 + 1)])
def test_files_too_large_are_not_even_hashed(name, size, shared_bundle, tmp_path):
    bundle = Path(shutil.copytree(shared_bundle.path, tmp_path / "copied.glass"))
    os.truncate(bundle / name, size)  # takes no room
    assert f"{name} is larger than {size - 1} bytes" in refusal(bundle)


def test_hashes_come_before_parsers(copied_bundle):
    (copied_bundle / "global.onnx").write_bytes(b"")
    assert "global.onnx is damaged" in refusal(copied_bundle)


def test_a_graph_whose_hash_was_made_to_fit_is_still_checked(copied_bundle):
    path = copied_bundle / "global.onnx"
    path.write_bytes(graph("../../secret").SerializeToString())
    change(copied_bundle, lambda m: graph_of(m, "global").update(sha256=sha256_of(path)))
    assert "global.onnx keeps weights in '../../secret'" in refusal(copied_bundle)


@pytest.mark.parametrize("name", ["graph.xml", "graph.ort", "graph.tflite", ".onnx", "a.onnx\n"])
def test_engines_get_onnx_files_only(name, copied_bundle):
    change(copied_bundle, lambda m: graph_of(m, "global").update(file=name))
    assert "graph.file" in refusal(copied_bundle)


# --- the manifest ------------------------------------------------------------------------


def places_in(manifest: dict[str, Any], **places: object) -> None:
    """Let the crops lie elsewhere."""
    views_of(manifest, "local")["places"] = places


def called(manifest: dict[str, Any], name: str) -> None:
    """Give the first stream another name."""
    streams = manifest["streams"]
    manifest["streams"] = {name: streams.pop("global"), **streams}


def widened(manifest: dict[str, Any], width: int) -> None:
    """Let all graphs agree on so many features."""
    for stream in manifest["streams"].values():
        stream["graph"]["outputs"][0]["shape"][-1] = width
    for tensor in manifest["aggregator"]["inputs"]:
        tensor["shape"][-1] = width


@pytest.mark.parametrize(
    ("edit", "field"),
    [
        (lambda m: views_of(m, "local").update(size=10**6), ".views.size"),
        (lambda m: views_of(m, "local").update(size=-1), ".views.size"),
        (lambda m: views_of(m, "local")["places"].update(count=10**6), ".places.count"),
        (lambda m: views_of(m, "local")["places"].update(max_grid=10**6), ".places.max_grid"),
        (lambda m: views_of(m, "global")["resize"].update(side=10**6), ".resize.side"),
        (lambda m: places_in(m, kind="tiles", most=10**6), ".places.most"),
        (lambda m: places_in(m, kind="tiles", at_least=10**6), ".places.at_least"),
        (lambda m: places_in(m, kind="cover", most=10**6), ".places.most"),
        (lambda m: places_in(m, kind="cover", most=0), ".places.most"),
        (lambda m: places_in(m, kind="five", snap=10**6), ".places.snap"),
        (lambda m: places_in(m, kind="five", snap=0), ".places.snap"),
        (lambda m: called(m, "x" * 10**5), "in `$.streams`"),
        (lambda m: called(m, "../global"), "in `$.streams`"),
        (lambda m: called(m, "glo bal"), "in `$.streams`"),
        (lambda m: called(m, "global\n"), "in `$.streams`"),
        (lambda m: called(m, "\x1b[2J"), "in `$.streams`"),
        (lambda m: called(m, ""), "in `$.streams`"),
        (lambda m: called(m, "aggregator"), "in `$.streams`"),
        (
            lambda m: m["streams"].update({f"s{n}": m["streams"]["global"] for n in range(4)}),
            "$.streams",
        ),
        (lambda m: m["reference"].update(crops=17), "$.reference.crops"),
        (lambda m: m["detector"].update(title="a\x1b[2Jb"), "$.detector.title"),
        (lambda m: m["detector"].update(preset_source="x" * 201), "$.detector.preset_source"),
        (lambda m: m["backbone"].update(name="a\x1b[2Jb"), "$.backbone.name"),
        (lambda m: m.update(classes=["fake\n", "real"]), "$.classes"),
        (lambda m: m["reference"].update(source="\x9b31m"), "$.reference.source"),
        (lambda m: m["reference"].update(logits=[[0.0, 0.0]] * 17), "$.reference.logits"),
        (lambda m: m["reference"].update(file="../reference.png"), "$.reference.file"),
    ],
)
def test_numbers_and_texts_have_bounds(edit, field, copied_bundle):
    change(copied_bundle, edit)
    assert field in refusal(copied_bundle)


@pytest.mark.parametrize("width", [10**9, 10**30, 65_537, 0, -128, "wide", None, 1.5])
def test_features_take_no_more_memory_than_any_detectors(width, copied_bundle):
    """A width that all graphs agree on would be buffers of gigabytes."""
    change(copied_bundle, lambda m: widened(m, width))
    sentence = refusal(copied_bundle)
    assert "do not fit the other graphs" in sentence or "shape" in sentence


@pytest.mark.parametrize("size", [0, -1, 10**30, 2.0, "224", None])
def test_a_size_of_views_is_a_whole_number_within_bounds(size, copied_bundle):
    change(copied_bundle, lambda m: views_of(m, "global").update(size=size))
    assert "`$.streams[...].views.size`" in refusal(copied_bundle)


@pytest.mark.parametrize(
    "content",
    [b"[" * 500_000, b'{"a":' * 200_000, b"1" * 5000, b'"\\ud800"', b'{"schema": "\xff"}'],
    ids=["lists", "objects", "digits", "half a character", "not UTF-8"],
)
def test_json_that_parsers_stumble_over(content):
    with pytest.raises(BundleError, match="not valid JSON"):
        parse_manifest(content)


def test_a_manifest_too_large_to_be_one(copied_bundle):
    with open(copied_bundle / "glass.json", "ab") as file:
        file.write(b" " * (1 << 20))
    assert "larger than" in refusal(copied_bundle)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


@given(data=st.data())
def test_any_value_in_any_place_is_read_or_refused(data, vit_bundle):
    fields = json.loads((vit_bundle.path / "glass.json").read_bytes())
    place = fields
    while True:
        keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not (isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans())):
            break
        place = place[key]
    place[key] = data.draw(JSON)
    with suppress(BundleError):
        parse_manifest(json.dumps(fields).encode())


# --- a bundle by its digest --------------------------------------------------------------


def test_a_bundle_may_be_asked_for_by_its_digest(vit_bundle):
    assert Bundle.open(vit_bundle.path, vit_bundle.digest.upper()).digest == vit_bundle.digest
    with pytest.raises(BundleError, match=f"another one .* is {vit_bundle.digest}"):
        Bundle.open(vit_bundle.path, "0" * 64)


def test_the_command_takes_it_too(vit_bundle):
    command = ("glass-run", ROOT, "--self-test", "-b", vit_bundle.path, "--bundle-sha256")
    assert call(*command, vit_bundle.digest).returncode == 0
    done = call(*command, "0" * 64)
    assert done.returncode == 2
    assert "another one than was asked for" in done.stderr
