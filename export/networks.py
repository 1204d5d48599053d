"""Finds GLASS networks in a checkpoint's content by their keys, whatever wraps them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

from torch import Tensor

from ..runtime.bundle.manifest import WhichWeights
from .checkpoint_file import Placeholder

GLOBAL, LOCAL, SHARED = "global_model", "local_model", "backbone"
_AGGREGATOR = ("attention", "classifier")
_VIEWS = (GLOBAL, LOCAL, SHARED)
_ROOTS = (*_VIEWS, *_AGGREGATOR)
# What compiled, sharded and checkpointing modules put between names.
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_PARALLEL = "module"  # of DataParallel, AveragedModel and others; a backbone may use the name, too
_AVERAGED = re.compile(
    r"(?<![a-z0-9])(ema|swa|shadow|averaged|(avg|average)_(model|state|weights))(?![a-z0-9])"
)
_DEEPEST = 4  # levels of mappings

COUNTERS = {"n_averaged", "steps"}
"""What averaged models keep beside the weights."""
Place: TypeAlias = tuple[str, ...]
"""The names that lead to a mapping, or the first names of its keys."""


@dataclass(frozen=True)
class Network:
    """A whole GLASS in a checkpoint.

    Attributes:
        place: the names that lead to its mapping.
        prefix: the first names of its keys there.
        weights: whether it is an average over the training's steps.
        values: tensors, and placeholders for objects, by plain keys.
    """

    place: Place
    prefix: Place
    weights: WhichWeights
    values: Mapping[str, Any]

    def __str__(self) -> str:
        return ".".join((*self.place, *self.prefix, "*"))


class Content:
    """What a checkpoint holds, see :func:`.checkpoint_file.read_content`."""

    def __init__(self, content: Any) -> None:
        self._content = content
        self._mappings = list(mappings(content))

    @cached_property
    def networks(self) -> list[Network]:
        """Every whole GLASS."""
        found = [each for place, mapping in self._mappings for each in _networks(place, mapping)]
        theirs = self._named_by_libraries()
        return [
            replace(each, weights=theirs.get(each.place[0], each.weights)) if each.place else each
            for each in found
        ]

    def _named_by_libraries(self) -> Mapping[str, WhichWeights]:
        """Return the kind of weights under names that mislead.

        Lightning's ``WeightAveraging`` and mmengine's ``EMAHook`` save the average under the name
        of the model's weights, and the model's weights under another name.
        """
        names = self._content.keys() if isinstance(self._content, Mapping) else set()
        lightning = {"current_model_state", "averaging_state"} <= names
        mmengine = {"ema_state_dict", "message_hub"} <= names
        if lightning or mmengine:
            return {"state_dict": "ema", "current_model_state": "raw", "ema_state_dict": "raw"}
        return {}

    def beside(self, network: Network) -> list[str]:
        """Return the keys of tensors in a network's mapping that belong to no network."""
        mapping = next(each for place, each in self._mappings if place == network.place)
        prefixes = [each.prefix for each in self.networks if each.place == network.place]
        return [
            key
            for key, value in mapping.items()
            if isinstance(value, Tensor)
            and value.ndim > 0
            and not any(names_of(key)[: len(prefix)] == prefix for prefix in prefixes)
        ]

    def average_without_keys(self) -> str | None:
        """Return where averaged weights are kept that cannot be matched to keys, or ``None``.

        They may be a list, an object, or tensors under other keys. Only for content without an
        averaged network.
        """
        places = {each.place for each in self.networks}
        for place, mapping in self._mappings:
            for key, value in mapping.items():
                names = names_of(key)
                before = _prefix(names, _ROOTS)
                averaged = any(map(is_averaged, names if before is None else before))
                beside = not isinstance(value, Tensor) or (place in places and value.ndim > 0)
                if averaged and beside and _holds_weights(value):
                    return ".".join((*place, key))
        return None

    def likeliest(self) -> Mapping[str, Tensor]:
        """Return the tensors of the largest mapping, by keys without what stands before a GLASS."""
        groups = (
            {key: value for key, value in mapping.items() if isinstance(value, Tensor)}
            for _, mapping in self._mappings
        )
        tensors: Mapping[str, Tensor] = max(groups, key=len, default={})
        prefixes = (_prefix(names_of(key), _ROOTS) for key in tensors)
        depth = len(next((prefix for prefix in prefixes if prefix is not None), ()))
        return {_plain_key(names_of(key)[depth:]): value for key, value in tensors.items()}

    def objects(self) -> list[str]:
        """Return the classes of objects that were not loaded, in order."""
        values = [self._content, *(each for _, m in self._mappings for each in m.values())]
        return sorted({each.stands_for for each in values if isinstance(each, Placeholder)})


def has_views_of_a_glass(keys: Sequence[str]) -> bool:
    """Whether any key begins as the networks of a GLASS's views do."""
    roots = {key.split(".")[0] for key in keys}
    return bool(roots & {GLOBAL, LOCAL}) or {SHARED, *_AGGREGATOR} <= roots


def has_names_of_a_glass(keys: Sequence[str]) -> bool:
    """Whether any key begins as one of a GLASS does."""
    return any(key.split(".")[0] in _ROOTS for key in keys)


def mappings(content: Any) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    """Yield the content if it is a mapping, and the mappings in it, each once, by their place."""
    seen: set[int] = set()
    waiting: list[tuple[Place, Any]] = [((), content)]
    while waiting:
        place, value = waiting.pop(0)
        if not isinstance(value, Mapping) or id(value) in seen:
            continue
        seen.add(id(value))
        named = {key: each for key, each in value.items() if isinstance(key, str)}
        yield place, named
        if len(place) < _DEEPEST:
            waiting += [((*place, key), each) for key, each in named.items()]


def _networks(place: Place, mapping: Mapping[str, Any]) -> Iterator[Network]:
    """Yield each whole GLASS of a mapping, with everything that is under its prefix."""
    parts = {key: names_of(key) for key in mapping}
    members: dict[Place, dict[str, Any]] = {prefix: {} for prefix in _prefixes_of_wholes(parts)}
    for key, names in parts.items():
        under = [prefix for prefix in members if names[: len(prefix)] == prefix]
        if under:
            prefix = max(under, key=len)
            plain_key = _plain_key(names[len(prefix) :])
            if _is_part(plain_key, mapping[key]):
                members[prefix][plain_key] = mapping[key]
    for prefix, values in members.items():
        averaged = any(map(is_averaged, (*place, *prefix))) or _counts_averages(prefix, mapping)
        yield Network(place, prefix, "ema" if averaged else "raw", values)


def _is_part(key: str, value: Any) -> bool:
    """Whether a value under a network's prefix is one of its tensors, or stands for one."""
    if isinstance(value, Placeholder):
        return has_names_of_a_glass([key])
    return isinstance(value, Tensor) and key not in COUNTERS


def _prefixes_of_wholes(parts: Mapping[str, Place]) -> list[Place]:
    """Return the prefixes under which both views and the aggregator have keys, in order."""
    under: dict[Place, set[str]] = {}
    for names in parts.values():
        if (prefix := _prefix(names, _VIEWS)) is not None:
            under.setdefault(prefix, set()).add(names[len(prefix)])
    for names in parts.values():
        for depth in range(len(names)):
            if names[:depth] in under and names[depth] in _AGGREGATOR:
                under[names[:depth]].add(names[depth])
    return [
        prefix
        for prefix, roots in sorted(under.items())
        if roots.issuperset(_AGGREGATOR) and (SHARED in roots or {GLOBAL, LOCAL} <= roots)
    ]


def names_of(key: str) -> Place:
    """Return the names of a key, without what compiled and sharded modules put between them."""
    return tuple(part for part in key.split(".") if part not in _WRAPPERS)


def _prefix(names: Place, roots: Sequence[str]) -> Place | None:
    """Return the names before the first root; ``None`` if there is none."""
    first = next((at for at, name in enumerate(names) if name in roots), None)
    return None if first is None else names[:first]


def _plain_key(names: Place) -> str:
    """Join names to a key, without what parallel modules insert first or right after a root."""
    kept: list[str] = []
    for name in names:
        after_root = len(kept) == 1 and kept[0] in _ROOTS
        if name != _PARALLEL or (kept and not after_root):
            kept.append(name)
    return ".".join(kept)


def is_averaged(name: str) -> bool:
    """Whether a name says that what it stands for is an average over the training's steps."""
    return _AVERAGED.search(name.lower()) is not None


def _counts_averages(prefix: Place, mapping: Mapping[str, Any]) -> bool:
    """Whether an ``AveragedModel`` of PyTorch wraps the network."""
    return prefix[-1:] == (_PARALLEL,) and ".".join((*prefix[:-1], "n_averaged")) in mapping


def _holds_weights(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(isinstance(each, Tensor | Placeholder | list) for each in value.values())
    if isinstance(value, list | tuple):
        return any(isinstance(each, Tensor) for each in value)
    return isinstance(value, Tensor | Placeholder)
