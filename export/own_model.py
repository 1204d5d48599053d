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
from ..runtime.views.batch import Crops, Overviews
from ..runtime.views.spec import MOST_CROPS
from .errors import ParityError
from .parity import TOLERANCE, largest_difference

MOST_INPUTS = 64
_LARGEST = 1 << 30  # bytes of one array
# What damaged archives raise, and array headers that claim more than there is.
_UNREADABLE = (
    *(OSError, ValueError, EOFError, MemoryError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error),
)
_SHAPES = {"overviews": "(n, p, p, 3)", "crops": "(n, k, p, p, 3)", "logits": "(n, 2)"}


@dataclass(frozen=True)
class OwnLogits:
    """The views of ``n`` images, and the logits that the user's model gives for them.

    Attributes:
        path: the file that held them.
        overviews: float32 ``(n, p, p, 3)``, RGB from 0 to 255.
        crops: uint8 ``(n, k, p, p, 3)``, RGB.
        logits: float32 ``(n, 2)``.
    """

    path: Path
    overviews: Overviews
    crops: Crops
    logits: Float32


def read_own_logits(path: Path, crop_size: int) -> OwnLogits:
    """Read what ``numpy.savez`` wrote: ``overviews``, ``crops`` and ``logits``.

    Args:
        path: an ``.npz`` file: ``overviews`` float32 ``(n, p, p, 3)`` and ``crops`` uint8
            ``(n, k, p, p, 3)``, RGB from 0 to 255 before any normalisation; ``logits`` ``(n, 2)``
            in floating point.
        crop_size: the side ``p`` of the views in pixels.

    Raises:
        InputError: the file cannot be read, an array is missing, or does not fit.
    """
    try:
        arrays = {name: _array(path, name) for name in _SHAPES}
    except _UNREADABLE as error:
        raise InputError(f"{path} cannot be read as an .npz file: {error}.") from None
    overviews, crops, logits = arrays.values()
    _check_shapes(path, arrays, crop_size)
    _check_types(path, overviews, crops, logits)
    return OwnLogits(path, overviews, crops, logits.astype(np.float32))


def measure_own_model(bundle: Bundle, own: OwnLogits) -> OwnModel:
    """Judge the views with a bundle's FP32 graphs; return the figures if the logits agree.

    Raises:
        ParityError: a logit differs by more than the parity gate allows.
    """
    engine = OnnxRuntimeEngine(bundle, EngineOptions("cpu", available_cpus(), keep=False))
    found = engine.judge(own.overviews, own.crops).logits
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


def _array(path: Path, name: str) -> npt.NDArray[Any]:
    """Read one array. Nothing is unpickled, and no more is unpacked than the array may take."""
    if not path.is_file():
        raise InputError(f"there is no file {path}.")
    with zipfile.ZipFile(path) as archive:
        member = f"{name}.npy"
        if member not in archive.namelist():
            raise InputError(
                f"{path} holds no array {name}: numpy.savez must write overviews, crops and logits."
            )
        if archive.getinfo(member).file_size > _LARGEST:
            raise InputError(
                f"the array {name} of {path} is larger than {_LARGEST >> 30} GiB: a few inputs "
                "are enough."
            )
        with archive.open(member) as file:
            array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _check_shapes(path: Path, arrays: dict[str, npt.NDArray[Any]], side: int) -> None:
    overviews, crops, _ = arrays.values()
    inputs = len(overviews) if overviews.ndim else 0
    count = crops.shape[1] if crops.ndim == 5 else 0
    expected = {
        "overviews": (inputs, side, side, 3),
        "crops": (inputs, count, side, side, 3),
        "logits": (inputs, 2),
    }
    for name, array in arrays.items():
        if array.shape != expected[name]:
            raise InputError(
                f"the array {name} of {path} has the shape {array.shape}: {_SHAPES[name]} is "
                f"needed, with the same n in all arrays and p = {side}, the bundle's crop size."
            )
    if not (1 <= inputs <= MOST_INPUTS and 1 <= count <= MOST_CROPS):
        raise InputError(
            f"{path} holds {inputs} inputs of {count} crops: 1 to {MOST_INPUTS} inputs and at "
            f"least one crop, at most {MOST_CROPS}, can be compared."
        )


def _check_types(path: Path, overviews: Any, crops: Any, logits: Any) -> None:
    if (overviews.dtype, crops.dtype, logits.dtype.kind) != (np.float32, np.uint8, "f"):
        raise InputError(
            f"the arrays of {path} are {overviews.dtype} overviews, {crops.dtype} crops and "
            f"{logits.dtype} logits: float32, uint8 and floating point are needed."
        )
    if not (np.isfinite(overviews).all() and np.isfinite(logits).all()):
        raise InputError(f"{path} holds values that are not finite.")
    if overviews.min() < 0 or not 1 < overviews.max() <= 255:
        raise InputError(
            f"the overviews of {path} lie between {overviews.min():g} and {overviews.max():g}: "
            "give pixels from 0 to 255, as they are before scaling and normalisation."
        )
