"""Logits of the user's own model: the only proof that the rebuilt network is the same.

The parity gate compares graphs with a PyTorch model that the export builds from the checkpoint's
keys. The keys say nothing about strides, dilation, attention heads, activation functions and the
normalisation of views. The training's code can write some views and their logits to a file.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..runtime.bundle.bundle import Bundle, sha256_of
from ..runtime.bundle.manifest import OwnModel
from ..runtime.engines.base import EngineOptions, Float32
from ..runtime.engines.onnxruntime import OnnxRuntimeEngine
from ..runtime.machine.cpus import available_cpus
from ..runtime.machine.errors import InputError
from ..runtime.views.batch import Pixels, Views
from ..runtime.views.sizes import MOST_VIEWS
from ..runtime.views.spec import ViewSpec
from .errors import ParityError
from .parity import TOLERANCE, largest_difference

MOST_INPUTS = 64
_SEVERAL = 5  # dimensions of the views of a stream that has several of each image
_LARGEST = 1 << 30  # bytes of one array
# What damaged archives raise, and array headers that claim more than there is.
_UNREADABLE = (
    *(OSError, ValueError, EOFError, MemoryError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error),
)
_NAMES = {"global": "overviews", "local": "crops"}
"""What the arrays of these streams are called; others are called as their streams are."""


@dataclass(frozen=True)
class OwnLogits:
    """The views of ``n`` images, and the logits that the user's model gives for them.

    Attributes:
        path: the file that held them.
        views: of every stream, RGB from 0 to 255.
        logits: float32 ``(n, 2)``.
    """

    path: Path
    views: Views
    logits: Float32


def read_own_logits(path: Path, spec: ViewSpec) -> OwnLogits:
    """Read what ``numpy.savez`` wrote: the views of each stream, and ``logits``.

    Args:
        path: an ``.npz`` file. Views are ``overviews`` for the stream ``global``, ``crops`` for
            ``local``, and for others what their streams are called: ``(n, p, p, 3)`` of the
            stream's type, or ``(n, k, p, p, 3)`` if an image has several, RGB from 0 to 255 before
            any normalisation; ``logits`` ``(n, 2)`` in floating point.
        spec: how the detector's views are made.

    Raises:
        InputError: the file cannot be read, an array is missing, or does not fit.
    """
    names = {stream: _NAMES.get(stream, stream) for stream in spec.streams}
    try:
        arrays = {name: _array(path, name, [*names.values()]) for name in names.values()}
        logits = _array(path, "logits", [*names.values()])
    except _UNREADABLE as error:
        raise InputError(f"{path} cannot be read as an .npz file: {error}.") from None
    views = {stream: arrays[name] for stream, name in names.items()}
    _check_shapes(path, views, logits, spec)
    for stream, name in names.items():
        _check_pixels(path, name, views[stream], spec.streams[stream].dtype)
    _check_logits(path, logits)
    return OwnLogits(path, views, logits.astype(np.float32))


def measure_own_model(bundle: Bundle, own: OwnLogits) -> OwnModel:
    """Judge the views with a bundle's FP32 graphs; return the figures if the logits agree.

    Raises:
        ParityError: a logit differs by more than the parity gate allows.
    """
    engine = OnnxRuntimeEngine(bundle, EngineOptions("cpu", available_cpus(), keep=False))
    found = engine.judge(own.views).logits
    error = largest_difference(found, own.logits)
    if not error <= TOLERANCE:  # written so that NaN fails
        raise ParityError(
            f"the graphs do not give the logits of {own.path}: they differ by {error:.2g} as a "
            f"share of the largest logit or of 1, and {TOLERANCE:g} is allowed. So your model is "
            f"not {bundle.manifest.backbone.name} as it is rebuilt here: compare strides, "
            "dilation, attention heads and activation functions, which a checkpoint does not "
            f"hold, and the normalisation ({bundle.manifest.normalisation}). Nothing was written."
        )
    return OwnModel(own.path.name, sha256_of(own.path), len(own.logits), error)


def _array(path: Path, name: str, views: list[str]) -> npt.NDArray[Any]:
    """Read one array. Nothing is unpickled, and no more is unpacked than the array may take."""
    if not path.is_file():
        raise InputError(f"there is no file {path}.")
    with zipfile.ZipFile(path) as archive:
        member = f"{name}.npy"
        if member not in archive.namelist():
            raise InputError(
                f"{path} holds no array {name}: numpy.savez must write "
                f"{', '.join(views)} and logits."
            )
        if archive.getinfo(member).file_size > _LARGEST:
            raise InputError(
                f"the array {name} of {path} is larger than {_LARGEST >> 30} GiB: a few inputs "
                "are enough."
            )
        with archive.open(member) as file:
            array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _check_shapes(path: Path, views: Views, logits: Pixels, spec: ViewSpec) -> None:
    inputs = len(logits) if logits.ndim else 0
    counts = [view.shape[1] for view in views.values() if view.ndim == _SEVERAL]
    for stream, own in spec.streams.items():
        count = (counts[0] if counts else 0,) if own.several else ()
        expected = (inputs, *count, own.size, own.size, 3)
        if views[stream].shape != expected:
            shape = "(n, k, p, p, 3)" if own.several else "(n, p, p, 3)"
            raise _misshapen(path, _NAMES.get(stream, stream), views[stream].shape, shape, own.size)
    if logits.shape != (inputs, 2):
        raise _misshapen(path, "logits", logits.shape, "(n, 2)", spec.crop_size)
    if not (1 <= inputs <= MOST_INPUTS and all(1 <= each <= MOST_VIEWS for each in counts)):
        raise InputError(
            f"{path} holds {inputs} inputs of {counts[0] if counts else 1} crops: 1 to "
            f"{MOST_INPUTS} inputs and at least one crop, at most {MOST_VIEWS}, can be compared."
        )


def _misshapen(path: Path, name: str, found: tuple[int, ...], needed: str, side: int) -> InputError:
    return InputError(
        f"the array {name} of {path} has the shape {found}: {needed} is needed, with the same n in "
        f"all arrays and p = {side}, the bundle's crop size."
    )


def _check_pixels(path: Path, name: str, pixels: Pixels, dtype: str) -> None:
    if pixels.dtype != dtype:
        raise InputError(f"the {name} of {path} are {pixels.dtype}: {dtype} is needed.")
    if not np.isfinite(pixels).all():
        raise InputError(f"{path} holds values that are not finite.")
    if pixels.min() < 0 or not 1 < pixels.max() <= 255:
        raise InputError(
            f"the {name} of {path} lie between {pixels.min():g} and {pixels.max():g}: give pixels "
            "from 0 to 255, as they are before scaling and normalisation."
        )


def _check_logits(path: Path, logits: Pixels) -> None:
    if logits.dtype.kind != "f":
        raise InputError(f"the logits of {path} are {logits.dtype}: floating point is needed.")
    if not np.isfinite(logits).all():
        raise InputError(f"{path} holds values that are not finite.")
