"""Tells the kind of a file from its first bytes, because names are often wrong."""

from __future__ import annotations

import struct
from pathlib import Path

SAFETENSORS = "safetensors"
TORCH = "torch"
JSON = "json"

_HEAD = 512  # bytes
_COMPRESSED = "is compressed by {0}: decompress it first."
_WEB_PAGE = (
    "is a web page, not a checkpoint: a site sends one in place of a file where you must log in, "
    "or where the file is not there. Download it again."
)
_LFS = (
    "is a Git LFS pointer, which stands for a checkpoint that was not downloaded: run git lfs pull."
)
_ONNX = (
    "is an ONNX graph, and an export starts from the PyTorch weights that it was made of: give "
    "their checkpoint."
)
_SKLEARN = (
    "is a pickle of scikit-learn, and loading one may run anything: where scikit-learn is, load it "
    "and save its arrays with safetensors.numpy.save_file({'coef_': model.coef_, 'intercept_': "
    "model.intercept_}, 'head.safetensors')."
)
_FOREIGN = {
    b"version https://git-lfs": _LFS,
    b"\x1f\x8b": _COMPRESSED.format("gzip"),
    b"BZh": _COMPRESSED.format("bzip2"),
    b"\xfd7zXZ": _COMPRESSED.format("xz"),
    b"\x28\xb5\x2f\xfd": _COMPRESSED.format("zstd"),
    b"7z\xbc\xaf": _COMPRESSED.format("7z"),
    b"\x89HDF": "is an HDF5 file, as Keras writes them: only PyTorch checkpoints are read.",
    b"\x93NUMPY": "is a NumPy array: save the model's state_dict() with torch.save.",
    b"GGUF": "is a GGUF file: only PyTorch checkpoints are read.",
}


def foreign(path: Path) -> str | None:
    """Return the end of a sentence on what a file is, if it is certainly no checkpoint.

    Raises:
        OSError: the file cannot be read.
    """
    head = _head(path)
    if _is_safetensors(head, path.stat().st_size):
        return None  # its length, which comes first, may look like anything
    if not head:
        return "is empty, not a checkpoint: copy or download it again."
    if head.lstrip().startswith(b"<"):
        return _WEB_PAGE
    if _is_onnx(head):
        return _ONNX
    if head.startswith(b"\x80") and b"sklearn." in head:
        return _SKLEARN
    return next((text for first, text in _FOREIGN.items() if head.startswith(first)), None)


def kind(path: Path) -> str:
    """Return ``safetensors``, ``json``, or ``torch`` for whatever only torch can tell.

    Raises:
        OSError: the file cannot be read.
    """
    head = _head(path)
    if _is_safetensors(head, path.stat().st_size):
        return SAFETENSORS
    return JSON if head.lstrip().startswith(b"{") else TORCH


def _head(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(_HEAD)


def _is_safetensors(head: bytes, size: int) -> bool:
    """Whether it begins with a header's length, which fits into the file, and the header."""
    if len(head) < 9 or head[8:9] != b"{":
        return False
    (header,) = struct.unpack("<Q", head[:8])
    return 8 + int(header) <= size


def _is_onnx(head: bytes) -> bool:
    """Whether it begins as exporters write a ModelProto: ``ir_version``, then another field."""
    return len(head) > 2 and head[0] == 0x08 and 1 <= head[1] <= 30 and head[2] in b"\x12\x3a\x42"
