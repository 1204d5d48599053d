"""Damaged bundles whose hashes were made to fit: opened and self-tested, or refused.

An input is the name of a file in the bundle, a zero byte, and the file's content.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import onnx
from onnx import AttributeProto, ModelProto

from glass_edge import Detector, DetectorOptions

from .mutate import mutated

TARGETS = {
    "onnxruntime": "fuzz.bundles:with_onnxruntime",
    "openvino": "fuzz.bundles:with_openvino",
}
SECONDS = 60.0
MEMORY = 16 << 30  # bytes of address space; engines reserve far more than they use
BUNDLE_VARIABLE = "FUZZ_BUNDLE"  # where the child finds the bundle that inputs are a part of
_MANIFEST = "glass.json"
_ABSURD = (-(2**63), -(2**31), -1, 0, 1, 2, 3, 224, 65_537, 2**31 - 1, 2**40, 2**63 - 1)
_OPERATORS = sorted({schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain})


def damaged(bundle: Path, count: int, seed: int) -> Iterator[bytes]:
    """Yield the bundle as it is, then ``count`` inputs: graphs, and in turn the manifest."""
    files = {path.name: path.read_bytes() for path in sorted(bundle.glob("*.onnx"))}
    models = {name: onnx.load_model_from_string(content) for name, content in files.items()}
    manifest = (bundle / _MANIFEST).read_bytes()
    yield as_input(_MANIFEST, manifest)
    for index in range(count):
        chance = random.Random(f"{seed} {index}")
        name = chance.choice(sorted(files))
        if index % 10 == 0:
            yield as_input(_MANIFEST, mutated([manifest], f"{seed} {index}"))
        elif index % 10 < 4:
            yield as_input(name, mutated([files[name]], f"{seed} {index}"))
        else:
            yield as_input(name, _rewritten(models[name], chance))


def with_onnxruntime(content: bytes) -> str:
    """Open a bundle of which one file is the input."""
    return _open(content, "onnxruntime")


def with_openvino(content: bytes) -> str:
    """Open a bundle of which one file is the input."""
    return _open(content, "openvino")


def as_input(name: str, content: bytes) -> bytes:
    """Return the input that puts ``content`` in the place of the bundle's file ``name``."""
    return name.encode() + b"\0" + content


def _open(content: bytes, engine: str) -> str:
    name, _, damaged_file = content.partition(b"\0")
    source = Path(os.environ[BUNDLE_VARIABLE])
    with tempfile.TemporaryDirectory(dir=source.parent) as scratch:
        os.environ["GLASS_CACHE"] = f"{scratch}/cache"
        bundle = Path(scratch) / "damaged.glass"
        shutil.copytree(source, bundle, copy_function=os.link)
        _replace(bundle, name.decode(), damaged_file)
        return Detector(bundle, DetectorOptions(engine=engine, threads=1)).engine


def _replace(bundle: Path, name: str, content: bytes) -> None:
    """Put the content in a file's place, not into it: it is a link to the bundle's own."""
    replaced = {name: content}
    if name != _MANIFEST:
        manifest = json.loads((bundle / _MANIFEST).read_bytes())
        graphs = [stream["graph"] for stream in manifest["streams"].values()]
        for entry in (*graphs, manifest["aggregator"]):
            if entry["file"] == name:
                entry["sha256"] = hashlib.sha256(content).hexdigest()
        replaced[_MANIFEST] = json.dumps(manifest).encode()
    for changed, new in replaced.items():
        (bundle / changed).unlink()
        (bundle / changed).write_bytes(new)


# --- damage that protobuf still reads ----------------------------------------------------


def _rewritten(model: ModelProto, chance: random.Random) -> bytes:
    copy = ModelProto.FromString(model.SerializeToString())
    for _ in range(chance.choice((1, 1, 2, 4))):
        chance.choice(_WAYS)(copy, chance)
    return copy.SerializeToString()


def _operator(model: ModelProto, chance: random.Random) -> None:
    chance.choice(model.graph.node).op_type = chance.choice(_OPERATORS)


def _wires(model: ModelProto, chance: random.Random) -> None:
    names = [name for node in model.graph.node for name in (*node.input, *node.output)]
    node = chance.choice(model.graph.node)
    side = chance.choice([side for side in (node.input, node.output) if side])
    side[chance.randrange(len(side))] = chance.choice([*names, "", "nowhere"])


def _attribute(model: ModelProto, chance: random.Random) -> None:
    attributes = [attribute for node in model.graph.node for attribute in node.attribute]
    if not attributes:
        return
    attribute = chance.choice(attributes)
    if attribute.type == AttributeProto.INTS and attribute.ints:
        attribute.ints[chance.randrange(len(attribute.ints))] = chance.choice(_ABSURD)
    attribute.i, attribute.f = chance.choice(_ABSURD), chance.choice((0.0, -1.0, float("nan")))
    if chance.random() < 0.2:
        attribute.type = chance.randrange(15)


def _weight(model: ModelProto, chance: random.Random) -> None:
    tensor = chance.choice(model.graph.initializer)
    if tensor.dims and chance.random() < 0.6:
        tensor.dims[chance.randrange(len(tensor.dims))] = chance.choice(_ABSURD)
    elif chance.random() < 0.5:
        tensor.data_type = chance.randrange(27)
    else:
        tensor.raw_data = tensor.raw_data[: chance.randrange(len(tensor.raw_data) + 1)]


def _constant(model: ModelProto, chance: random.Random) -> None:
    """Change a small tensor: sizes, axes and indices that other operators take."""
    small = [tensor for tensor in model.graph.initializer if 0 < len(tensor.raw_data) <= 64]
    if small:
        tensor = chance.choice(small)
        count = len(tensor.raw_data) // 8
        values = b"".join(
            chance.choice(_ABSURD).to_bytes(8, "little", signed=True) for _ in range(count)
        )
        tensor.raw_data = values + tensor.raw_data[8 * count :]


def _shape(model: ModelProto, chance: random.Random) -> None:
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    dimensions = chance.choice(values).type.tensor_type.shape.dim
    if dimensions:
        chance.choice(dimensions).dim_value = chance.choice(_ABSURD)


def _order(model: ModelProto, chance: random.Random) -> None:
    nodes = model.graph.node
    index = chance.randrange(len(nodes))
    if chance.random() < 0.5:
        del nodes[index]
    else:
        nodes.append(nodes[index])


_WAYS: Sequence[Callable[[ModelProto, random.Random], None]] = (
    *(_operator, _operator, _wires, _attribute, _attribute),
    *(_weight, _weight, _constant, _shape, _order),
)
