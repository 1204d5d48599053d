"""Writes graphs to a bundle's folder; two of them may share a file of weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto
from onnx.external_data_helper import set_external_data

from ...runtime.bundle.streams import Role
from ..errors import GraphError

SHARED_WEIGHTS = "backbone.bin"
_SMALLEST_SHARED = 1024  # bytes; smaller constants stay inside each graph
_ALIGNMENT = 4096  # bytes; lets engines map the file into memory


def share_weights(graphs: Iterable[ModelProto], folder: Path) -> Path:
    """Move the graphs' weights to one file beside them, each distinct tensor stored once.

    Graphs of one backbone then differ only before the backbone: all other nodes, and the bytes of
    their weights, are the same. Returns the path of ``backbone.bin``.
    """
    path = folder / SHARED_WEIGHTS
    offsets: dict[bytes, int] = {}
    with open(path, "wb") as file:
        for graph in graphs:
            for tensor in graph.graph.initializer:
                content = tensor.raw_data
                if len(content) < _SMALLEST_SHARED:
                    continue
                key = hashlib.sha256(content).digest()
                if key not in offsets:
                    file.write(b"\0" * (-file.tell() % _ALIGNMENT))
                    offsets[key] = file.tell()
                    file.write(content)
                _point_outside(tensor, offsets[key], len(content))
    return path


def _point_outside(tensor: TensorProto, offset: int, length: int) -> None:
    set_external_data(tensor, SHARED_WEIGHTS, offset=offset, length=length)
    tensor.ClearField("raw_data")


def save_graph(folder: Path, role: Role, graph: ModelProto) -> Path:
    """Write a graph into a bundle's folder and check it; return its path.

    Raises:
        GraphError: it is not valid ONNX.
    """
    path = folder / f"{role}.onnx"
    try:
        onnx.save(graph, path)
        onnx.checker.check_model(str(path), full_check=True)
    except (ValueError, onnx.checker.ValidationError) as error:
        raise GraphError(f"the {role} graph cannot be saved as valid ONNX: {error}") from error
    return path
