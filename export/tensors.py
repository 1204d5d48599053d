"""Tensors as checkpoints store them, and as a model needs them: dense, real, in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from .errors import CheckpointError

StateDict: TypeAlias = dict[str, Tensor]

# Far above any backbone's largest; a sparse tensor may claim any size.
_MOST_ELEMENTS = 1 << 30


def plain(key: str, tensor: Tensor) -> Tensor:
    """Return the values of a tensor in a dense one; floats of 8 bits become float32, exactly.

    A quantised tensor becomes the float32 values that its integers stand for.

    Args:
        key: its name, for errors.
        tensor: of any layout and type.

    Raises:
        CheckpointError: it holds no values, or none that weights can have.
    """
    if tensor.is_meta:
        raise CheckpointError(
            f"{key} is on the meta device, so that only its shape was saved: save the state dict "
            "of the model with its weights."
        )
    if tensor.is_complex():
        raise CheckpointError(
            f"{key} is complex, and no weight of these networks is: save the detector's own "
            "weights."
        )
    try:
        if tensor.is_quantized:
            return tensor.dequantize()
        if tensor.layout is not torch.strided:
            return _dense(key, tensor)
        eight_bits = tensor.is_floating_point() and tensor.dtype.itemsize == 1
        return tensor.to(torch.float32) if eight_bits else tensor
    except (RuntimeError, TypeError):  # also NotImplementedError, which is a RuntimeError
        raise CheckpointError(
            f"{key} is of type {tensor.dtype} and layout {tensor.layout}, which cannot be "
            "converted to float32: save it as float32."
        ) from None


def _dense(key: str, tensor: Tensor) -> Tensor:
    if tensor.numel() > _MOST_ELEMENTS:
        raise CheckpointError(
            f"{key} is sparse, and would have {tensor.numel()} elements if it were not: no weight "
            "is so large."
        )
    return tensor.to_dense()


def check_finite(state: Mapping[str, Tensor]) -> None:
    """Refuse weights of a training that failed.

    Raises:
        CheckpointError: a value is infinite or not a number.
    """
    for key, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{key} holds values that are not finite: the training failed.")


def equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two state dicts have the same keys and values."""
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def fit_problem(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    """Describe in one clause how ``found`` differs from ``expected``; ``None`` if it fits.

    Batch normalisation's step counters are not used in inference and may be missing.
    """
    counters = {key for key in expected if key.endswith("num_batches_tracked")}
    missing = expected.keys() - found.keys() - counters
    surplus = found.keys() - expected.keys()
    common = sorted(expected.keys() & found.keys())
    misshapen = [
        f"{key} (expected {tuple(expected[key].shape)}, found {tuple(found[key].shape)})"
        for key in common
        if expected[key].shape != found[key].shape
    ]
    integers = [
        f"{key} ({found[key].dtype}, whose scale is not known)"
        for key in common
        if expected[key].is_floating_point() and not found[key].is_floating_point()
    ]
    clauses = [
        _counted(len(missing), "missing", sorted(missing)),
        _counted(len(surplus), "unexpected", sorted(surplus)),
        _counted(len(misshapen), "of another shape", misshapen),
        _counted(len(integers), "not in floating point", integers),
    ]
    return "; ".join(clause for clause in clauses if clause) or None


def _counted(count: int, what: str, names: Iterable[str]) -> str:
    shown = list(names)[:3]
    more = ", …" if count > len(shown) else ""
    return f"{count} {what}: {', '.join(shown)}{more}" if count else ""
