"""Reads what a checkpoint file holds. Nothing in the file is executed."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..runtime.bundle.bundle import sha256_of
from . import file_kinds
from .errors import CheckpointError, first_line

HUGGING_FACE = ("model.safetensors", "pytorch_model.bin")
"""What Hugging Face's libraries call the weights in a model's folder."""

_INDEX = "*.index.json"
_LARGEST_INDEX = 64 << 20  # bytes
_NAMESPACE, _SETTINGS = "argparse.Namespace", "yacs.config.CfgNode"
_MOST_CLASSES = 64  # each lengthens the unpickler's look-ups
HOW_TO_SAVE = "torch.save(model.state_dict(), 'gl.pt')"
_StandIn: TypeAlias = Callable[..., Any] | tuple[Callable[..., Any], str]
_BLOCKED = re.compile(r"GLOBAL ([\w.]{1,100})|<class '([\w.]{1,100})'>")


class Placeholder:
    """Takes the place of an object whose class is neither a tensor nor a plain container.

    Beside the weights, checkpoints hold hyper-parameters, paths and numbers of many classes. None
    of these classes is imported or called.
    """

    stands_for = ""

    def __new__(cls, *_: object, **__: object) -> Placeholder:
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def read_content(path: Path) -> Any:
    """Return what a checkpoint holds: tensors in containers, and placeholders for the rest.

    The first bytes decide how it is read, not the name.

    Args:
        path: a file of ``torch.save`` or safetensors; or an index of shards; or a folder that
            holds one of them under the name that Hugging Face's libraries give it.

    Raises:
        CheckpointError: it cannot be read.
    """
    path = _weights_in(path) if path.is_dir() else path
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}.")
    try:
        if problem := file_kinds.foreign(path):
            raise CheckpointError(f"{path} {problem}")
        kind = file_kinds.kind(path)
        if kind == file_kinds.JSON:
            return _read_shards(path)
        return _read_one(path, kind)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from None


def checkpoint_digest(path: Path) -> str:
    """Return the SHA-256 of a checkpoint's bytes in hexadecimal.

    For shards it is the SHA-256 of the lines that ``sha256sum`` prints for the index and every
    shard, in the order of their names.

    Raises:
        CheckpointError: an index is not valid.
        OSError: a file cannot be read.
    """
    path = _weights_in(path) if path.is_dir() else path
    if file_kinds.kind(path) != file_kinds.JSON:
        return sha256_of(path)
    shards = {path.parent / name for name in _weight_map(path).values()}
    lines = [f"{sha256_of(each)}  {each.name}\n" for each in sorted({path, *shards})]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _weights_in(folder: Path) -> Path:
    whole = [folder / name for name in HUGGING_FACE if (folder / name).is_file()]
    found = whole[:1] or sorted(folder.glob(_INDEX))
    if len(found) == 1:
        return found[0]
    what = "several indices" if found else "no index"
    raise CheckpointError(
        f"{folder} is a folder, not a checkpoint, and holds {what} of shards (*.index.json) and "
        f"no {' or '.join(HUGGING_FACE)}: name the checkpoint's file."
    )


def _read_one(path: Path, kind: str) -> Any:
    return _read_safetensors(path) if kind == file_kinds.SAFETENSORS else _read_torch(path)


# --- safetensors ----------------------------------------------------------------------------


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (SafetensorError, AttributeError, ValueError) as error:  # types unknown to torch, too
        raise CheckpointError(
            f"{path} is damaged, or a safetensors file of a kind that is not read: "
            f"{first_line(error)}."
        ) from None
    # safetensors.torch.save_model lists {removed name: kept name} for shared tensors.
    restored = {name: state[kept] for name, kept in metadata.items() if kept in state}
    return state | restored


def _read_shards(index: Path) -> dict[str, Any]:
    """Read the tensors that an index lists from the shards beside it."""
    names = _weight_map(index)
    state: dict[str, Any] = {}
    for shard in sorted(set(names.values())):
        path = index.parent / shard
        if not path.is_file():
            raise CheckpointError(f"{index} lists the shard {shard}, which is not beside it.")
        held = _read_one(path, file_kinds.kind(path))
        listed = [key for key, name in names.items() if name == shard]
        if missing := [key for key in listed if key not in held]:
            raise CheckpointError(f"{path} does not hold {missing[0]}, which {index} looks for.")
        state |= {key: held[key] for key in listed}
    return state


def _weight_map(index: Path) -> dict[str, str]:
    """Return the shard of each tensor.

    Raises:
        CheckpointError: the file is no index, or names a file outside its folder.
    """
    if index.stat().st_size > _LARGEST_INDEX:
        raise CheckpointError(f"{index} is JSON, but too large for an index of shards.")
    try:
        found = json.loads(index.read_bytes())
    except (ValueError, RecursionError):
        found = None
    names = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(names, dict) or not names:
        raise CheckpointError(
            f"{index} is neither a checkpoint nor an index of shards, which has a weight_map."
        )
    for name in names.values():
        plain = isinstance(name, str) and name not in ("", ".", "..")
        if not plain or not set(name).isdisjoint("/\\:\0"):
            raise CheckpointError(f"{index} lists {name!r}, which is not a file beside it.")
    return names


# --- torch.save -----------------------------------------------------------------------------


def _read_torch(path: Path) -> Any:
    stand_ins = [_placeholder(name) for name in _unknown_classes(path)]
    try:
        with (
            warnings.catch_warnings(),
            torch.serialization.safe_globals(stand_ins),
            open(path, "rb") as file,  # by path, torch.load would believe the name's suffix
        ):
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refusal(path, str(error))) from None
    except Exception as error:  # the unpickler raises many types on damaged files
        raise CheckpointError(
            f"{path} is damaged, or not a checkpoint that torch.load can read: {first_line(error)}."
        ) from None


def _unknown_classes(path: Path) -> list[str]:
    """Return what torch would refuse to load, as ``module.name``.

    Raises:
        CheckpointError: the file is a ZIP archive of something else.
    """
    try:
        if not zipfile.is_zipfile(path):
            return [_NAMESPACE, _SETTINGS]  # PyTorch before 1.6: torch cannot list the others
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # of many types, on damaged files; torch.load says what is wrong
        return []
    if any(name.endswith("/constants.pkl") for name in names):
        raise CheckpointError(
            f"{path} is a TorchScript program: save the state dict of the module that it was made "
            f"of: {HOW_TO_SAVE}."
        )
    if not any(name.endswith("data.pkl") for name in names):
        raise CheckpointError(
            f"{path} is a ZIP archive without a PyTorch checkpoint's data: unpack it and give the "
            "checkpoint in it."
        )
    try:
        found = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    except Exception:  # as above
        return []
    if len(found) > _MOST_CLASSES:
        raise CheckpointError(
            f"{path} holds objects of {len(found)} classes beside tensors: save only the state "
            f"dict: {HOW_TO_SAVE}."
        )
    return sorted(found)


def _placeholder(name: str) -> _StandIn:
    """Return what stands in for a class, as ``safe_globals`` takes it.

    It is a new placeholder class; of yacs' settings, which are a dictionary and have copies in
    other libraries, it is the only kind of dictionary that torch fills.
    """
    module, _, short = name.rpartition(".")
    if short == _SETTINGS.rpartition(".")[2]:
        return OrderedDict, name
    named = {"__module__": module, "__qualname__": short, "stands_for": name}
    return type("Placeholder", (Placeholder,), named), name


def _refusal(path: Path, message: str) -> str:
    """Return our own sentence, because torch's message advises to load such files unsafely."""
    if _holds_objects(path):
        found = _BLOCKED.search(message)
        what = f" of class {found[1] or found[2]}" if found else ""
        return (
            f"{path} holds objects{what} that are neither tensors nor plain containers, and "
            f"nothing else is loaded, for safety: save only the state dict, with {HOW_TO_SAVE}."
        )
    return (
        f"{path} is damaged, or not a checkpoint: a checkpoint is a state dict saved with "
        f"{HOW_TO_SAVE}, or a safetensors file."
    )


def _holds_objects(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
