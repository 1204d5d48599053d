"""Reads the weights of a GLASS from a checkpoint: averaged or raw, as plain tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..runtime.bundle.manifest import WhichWeights
from .checkpoint_file import HOW_TO_SAVE, Placeholder, read_content
from .errors import CheckpointError
from .networks import Content, Network, has_names_of_a_glass
from .tensors import StateDict, equal, plain

_LONGEST_NOTE = 200  # characters, see the manifest's Text
_OTHER: Mapping[WhichWeights, WhichWeights] = {"ema": "raw", "raw": "ema"}


@dataclass(frozen=True)
class Checkpoint:
    """The weights of a GLASS, under plain keys and in dense tensors.

    Attributes:
        state: the state dict.
        weights: ``ema`` for an average over the training's steps, ``raw`` for its last weights.
        both: whether the file also holds the others.
        notes: what the user should know about them.
    """

    state: StateDict
    weights: WhichWeights
    both: bool = False
    notes: tuple[str, ...] = ()


def read_checkpoint(path: Path, weights: WhichWeights | None = None) -> Checkpoint:
    """Read the GLASS of a checkpoint.

    Args:
        path: what :func:`.checkpoint_file.read_content` reads.
        weights: which to take; ``None`` takes averaged ones (EMA) where there are any.

    Raises:
        CheckpointError: the file cannot be read; it holds no state dict, several networks, or
            other weights than those asked for.
    """
    content = Content(read_content(path))
    try:
        return _chosen(content, weights)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _chosen(content: Content, weights: WhichWeights | None) -> Checkpoint:
    averaged = [each for each in content.networks if each.weights == "ema"]
    raw = [each for each in content.networks if each.weights == "raw"]
    without_keys = None if averaged else content.average_without_keys()
    if without_keys is not None and weights != "raw":
        raise CheckpointError(
            f"it keeps averaged weights (EMA) in {without_keys}, and which is which cannot be "
            "told: save the state dict of the averaged model, or take the raw weights with "
            "--weights raw."
        )
    taken = weights or ("ema" if averaged else "raw")
    if taken == "ema" and not averaged:
        raise CheckpointError("it holds no averaged weights (EMA): leave --weights ema out.")
    if taken == "raw" and averaged and not raw:
        raise CheckpointError("it holds only averaged weights (EMA): leave --weights raw out.")
    if not content.networks:
        return Checkpoint(_likeliest(content), "raw")
    network = _only_one(averaged if taken == "ema" else raw)
    state = plain_state(network.values)
    if taken == "ema" and raw:
        # Many averages are of parameters only, and used with the model's buffers.
        state = plain_state(_only_one(raw).values) | state
    notes = tuple(map(_display, _notes(content, network, without_keys)))
    return Checkpoint(state, taken, bool(averaged and raw), notes)


def _only_one(networks: list[Network]) -> Network:
    """Return the first network, if all of them are equal.

    Raises:
        CheckpointError: they differ.
    """
    first, *others = networks
    state = plain_state(first.values) if others else {}
    if all(equal(state, plain_state(other.values)) for other in others):
        return first
    raise CheckpointError(
        f"it holds several networks ({', '.join(map(str, networks))}): save the state dict of the "
        "one to export."
    )


def plain_state(values: Mapping[str, Any]) -> StateDict:
    """Return tensors in dense ones, see :func:`.tensors.plain`.

    Raises:
        CheckpointError: one cannot be, or is an object.
    """
    for key, value in values.items():
        if isinstance(value, Placeholder):
            raise CheckpointError(
                f"{key} is an object of class {value.stands_for}, not a tensor: save plain tensors."
            )
    return {key: plain(key, value) for key, value in values.items()}


def _likeliest(content: Content) -> StateDict:
    """Return the tensors that are most like a GLASS, so that an error can say what is wrong.

    Raises:
        CheckpointError: there are none.
    """
    tensors, objects = content.likeliest(), content.objects()
    if objects and not has_names_of_a_glass([*tensors]):
        raise CheckpointError(
            f"it holds objects ({', '.join(objects[:3])}) and no state dict of a GLASS, and "
            f"objects are not loaded, for safety: save only the state dict, with {HOW_TO_SAVE}."
        )
    if not tensors:
        raise CheckpointError(
            f"it holds no state dict (a mapping of names to tensors): save it with {HOW_TO_SAVE}."
        )
    return plain_state(tensors)


def _notes(content: Content, network: Network, without_keys: str | None) -> Iterator[str]:
    if beside := content.beside(network):
        yield f"{len(beside)} tensors outside the GLASS were left out ({beside[0]} is the first)."
    values = network.values.values()
    if quantised := sum(isinstance(value, Tensor) and value.is_quantized for value in values):
        yield f"{quantised} quantised tensors became the float32 values that they stand for."
    if without_keys is not None:
        yield f"averaged weights (EMA) in {without_keys} were left out."


def _display(note: str) -> str:
    """Return text fit for a manifest: printable and short, whatever keys it quotes."""
    return "".join(sign if sign.isprintable() else "?" for sign in note)[:_LONGEST_NOTE]
