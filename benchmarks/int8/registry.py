"""Finds makers by their names, and loads only the libraries that these need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module

from .choices import Group, group_of
from .makers import Maker

_MODULES: Mapping[Group, str] = {
    "ours": ".ours",
    "nncf": ".with_nncf",
    "onnxruntime": ".with_onnxruntime",
    "ablation": ".ablation",
}


def makers_named(names: Sequence[str]) -> list[Maker]:
    """Return the makers of these names, in the order given.

    Raises:
        ModuleNotFoundError: a library is not installed.
    """
    groups = dict.fromkeys(map(group_of, names))
    found = {maker.name: maker for group in groups for maker in makers_of(group)}
    return [found[name] for name in names]


def makers_of(group: Group) -> Sequence[Maker]:
    """Return all makers of a group.

    Raises:
        ModuleNotFoundError: a library is not installed.
    """
    makers: Sequence[Maker] = import_module(_MODULES[group], __package__).MAKERS
    return makers
