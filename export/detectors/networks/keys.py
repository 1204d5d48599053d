"""State dicts by other keys: what one library calls a tensor, and what another does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias

import torch

from ...tensors import StateDict

Renames: TypeAlias = Sequence[tuple[str, str]]
"""Regular expressions of keys' beginnings, and what stands there instead."""


def without_prefix(state: StateDict, prefix: str, unused: tuple[str, ...] = ()) -> StateDict:
    """Return the tensors whose keys begin so, without that prefix.

    Args:
        state: of any model.
        prefix: for example ``visual.``; empty for all keys.
        unused: beginnings, after the prefix, of keys to leave out.
    """
    return {
        key.removeprefix(prefix): tensor
        for key, tensor in state.items()
        if key.startswith(prefix) and not key.removeprefix(prefix).startswith(unused)
    }


def renamed(state: StateDict, renames: Renames) -> StateDict:
    """Return the tensors by other keys. The first expression that matches a key counts.

    Keys that none matches stay as they are, so that ``fit_problem`` reports them.
    """
    return {_renamed(key, renames): tensor for key, tensor in state.items()}


def _renamed(key: str, renames: Renames) -> str:
    for pattern, name in renames:
        match = re.match(pattern, key)
        if match:
            return match.expand(name) + key[match.end() :]
    return key


def joined(state: StateDict, parts: tuple[str, str, str], whole: str) -> StateDict:
    """Return the tensors with queries, keys and values stacked in one.

    Args:
        state: with keys such as ``blocks.0.attn.q.weight``.
        parts: what the three are called in keys, for example ``attn.q``.
        whole: what the one is called, for example ``attn.qkv``.
    """
    result = dict(state)
    for first in [key for key in state if f".{parts[0]}." in key]:
        three = [first.replace(f".{parts[0]}.", f".{part}.") for part in parts]
        if all(key in state for key in three):
            result[first.replace(f".{parts[0]}.", f".{whole}.")] = torch.cat(
                [result.pop(key) for key in three]
            )
    return result
