"""Reads checkpoints as users have them. Nothing in the file is executed."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .errors import CheckpointError

StateDict: TypeAlias = dict[str, Tensor]

# Under which keys training loops store the state dict, beside epochs and optimizers.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_VIEW_PREFIXES = ("global_model", "local_model", "backbone")


def read_checkpoint(path: Path) -> StateDict:
    """Read a ``.safetensors`` or ``torch.save`` file to a state dict of plain keys.

    Prefixes that compiled and parallel models leave on keys are removed, and tensors that
    safetensors stored once for several names are restored to each of them.

    Raises:
        CheckpointError: the file cannot be read, or holds no state dict.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}.")
    if path.suffix == ".safetensors":
        state = _read_safetensors(path)
    else:
        state = _as_state_dict(_read_torch(path), path)
    return {_plain_key(key): tensor for key, tensor in state.items()}


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is not a checkpoint of plain tensors, and nothing else is loaded, for safety: "
            f"save model.state_dict() with torch.save ({_first_line(error)})."
        ) from None
    except Exception as error:  # the unpickler raises many types on damaged files
        raise CheckpointError(
            f"{path} is not a checkpoint that torch.load can read: {_first_line(error)}."
        ) from None


def _read_safetensors(path: Path) -> StateDict:
    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a safetensors file: {_first_line(error)}.") from None
    # safetensors.torch.save_model lists {removed name: kept name} for shared tensors.
    restored = {name: state[kept] for name, kept in metadata.items() if kept in state}
    return state | restored


def _as_state_dict(content: Any, path: Path) -> StateDict:
    for _ in range(2):  # the content itself, or what one wrapper holds
        if isinstance(content, Mapping):
            if content and all(isinstance(value, Tensor) for value in content.values()):
                return {str(key): value for key, value in content.items()}
            content = next((content[key] for key in _WRAPPERS if key in content), None)
    raise CheckpointError(
        f"{path} holds no state dict (a mapping of names to tensors): save model.state_dict()."
    )


def _plain_key(key: str) -> str:
    """Drop ``_orig_mod`` anywhere, and ``module`` first or right after a view's prefix."""
    parts: list[str] = []
    for part in key.split("."):
        wrapped = part == "module" and (not parts or parts[-1] in _VIEW_PREFIXES)
        if part != "_orig_mod" and not wrapped:
            parts.append(part)
    return ".".join(parts)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def fit_problem(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    """Describe in one clause how ``found`` differs from ``expected``; ``None`` if it fits.

    Batch normalisation's step counters are not used in inference and may be missing.
    """
    counters = {key for key in expected if key.endswith("num_batches_tracked")}
    missing = expected.keys() - found.keys() - counters
    surplus = found.keys() - expected.keys()
    misshapen = [
        f"{key} (expected {tuple(expected[key].shape)}, found {tuple(found[key].shape)})"
        for key in sorted(expected.keys() & found.keys())
        if expected[key].shape != found[key].shape
    ]
    clauses = [
        _counted(len(missing), "missing", sorted(missing)),
        _counted(len(surplus), "unexpected", sorted(surplus)),
        _counted(len(misshapen), "of another shape", misshapen),
    ]
    return "; ".join(clause for clause in clauses if clause) or None


def _counted(count: int, what: str, names: Iterable[str]) -> str:
    shown = list(names)[:3]
    more = ", …" if count > len(shown) else ""
    return f"{count} {what}: {', '.join(shown)}{more}" if count else ""
