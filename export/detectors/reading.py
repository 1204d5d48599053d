"""Opens the checkpoints of detectors, and tells their families."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import Tensor

from ..checkpoint import plain_state
from ..checkpoint_file import HOW_TO_SAVE, HUGGING_FACE, Placeholder, read_content
from ..errors import CheckpointError
from ..networks import COUNTERS, Content, Place, is_averaged, mappings, names_of
from ..options import GLASS
from ..tensors import StateDict
from .registry import Family, Preset, Source, families

_WRAPPERS = {"model", "state_dict", "model_state_dict", "net", "netC", "module"}
_PARALLEL = "module."
_CONFIG, _PREPROCESSOR = "config.json", "preprocessor_config.json"
_LARGEST_JSON = 4 << 20  # bytes; a thousand labels take 100 kB
_NEAREST = 3  # families of which an error says what they miss


def open_source(path: Path, backbone_weights: Path | None, architecture: str | None) -> Source:
    """Read what the user gave.

    Of several state dicts in a file it takes raw weights rather than an average (EMA), then one
    under a usual name (``model``, ``state_dict``, ``netC``, …), then the largest, then the first.

    Args:
        path: a checkpoint, an index of shards, or a folder as Hugging Face saves models. Of the
            latter, ``config.json`` and ``preprocessor_config.json`` are read, too.
        backbone_weights: the same, for tensors that a second file holds; or ``None``.
        architecture: what ``--backbone`` names, or ``None``.

    Raises:
        CheckpointError: something cannot be read, or holds no state dict.
    """
    state, place = _read(path)
    folder = path if path.is_dir() else path.parent
    config, preprocessor = (
        _json_object(folder / name) if _is_hugging_face(path) else {}
        for name in (_CONFIG, _PREPROCESSOR)
    )
    return Source(
        path=path,
        state=state,
        backbone=None if backbone_weights is None else _read(backbone_weights)[0],
        config=config,
        preprocessor=preprocessor,
        architecture=architecture,
        place=place,
    )


def recognise(source: Source, family: str | None) -> Family:
    """Return the family of a checkpoint: the one named, or the first that knows its keys.

    Families are tried in the order of how many keys tell them, those with the most first.

    Raises:
        CheckpointError: there is no family of this name, or none knows the keys.
    """
    if family is not None:
        return _named(family)
    tried = sorted(families().values(), key=lambda each: (-len(each.keys), each.name))
    for each in tried:
        if not _missing(each, source) and each.fits(source):
            return each
    raise CheckpointError(f"{source.path}: {_unknown(tried, source)}")


def choose_preset(family: Family, source: Source, name: str | None) -> Preset:
    """Return the preset of this name; without a name, the family's first.

    Raises:
        CheckpointError: the family has none of this name, or the checkpoint is not the family's.
    """
    try:
        presets = family.presets(source)
    except CheckpointError as error:
        raise CheckpointError(f"{source.path}: {error}") from None
    found = presets[0] if name is None else next((p for p in presets if p.name == name), None)
    if found is None:
        names = [preset.name for preset in presets]
        raise CheckpointError(
            f"{family.title} has no preset {name!r}{_did_you_mean(str(name), names)}: it has "
            f"{', '.join(names)}."
        )
    return found


# --- files ----------------------------------------------------------------------------------


def _read(path: Path) -> tuple[StateDict, str]:
    """Return the tensors of a file by plain keys, and the names that lead to them."""
    content = read_content(path)
    try:
        place, values = _chosen(content)
        return _unwrapped(values), ".".join(place)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _chosen(content: Any) -> tuple[Place, Mapping[str, Any]]:
    found = {place: values for place, each in mappings(content) if (values := _weights(each))}
    if found:
        return max(found.items(), key=_preference)
    if objects := Content(content).objects():
        raise CheckpointError(
            f"it holds objects ({', '.join(objects[:3])}) and no state dict, and objects are not "
            f"loaded, for safety: save only the state dict, with {HOW_TO_SAVE}."
        )
    raise CheckpointError(
        f"it holds no state dict (a mapping of names to tensors): save it with {HOW_TO_SAVE}."
    )


def _preference(found: tuple[Place, Mapping[str, Any]]) -> tuple[bool, bool, int]:
    place, values = found
    return not any(map(is_averaged, place)), set(place) <= _WRAPPERS, len(values)


def _weights(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping's tensors, and the objects among them; nothing if it has no tensors."""
    values = {
        key: value
        for key, value in mapping.items()
        if (isinstance(value, Tensor) and key not in COUNTERS)
        or (isinstance(value, Placeholder) and "." in key)
    }
    filled = any(isinstance(value, Tensor) and value.ndim > 0 for value in values.values())
    return values if filled else {}


def _unwrapped(values: Mapping[str, Any]) -> StateDict:
    named = {".".join(names_of(key)): value for key, value in values.items()}
    while all(key.startswith(_PARALLEL) for key in named):
        named = {key.removeprefix(_PARALLEL): value for key, value in named.items()}
    return plain_state(named)


def _is_hugging_face(path: Path) -> bool:
    return path.is_dir() or path.name in HUGGING_FACE or path.name.endswith(".index.json")


def _json_object(path: Path) -> Mapping[str, Any]:
    """Return what a JSON file says, or nothing if there is no such file."""
    if not path.is_file():
        return {}
    try:
        with open(path, "rb") as file:
            text = file.read(_LARGEST_JSON + 1)
        found = json.loads(text) if len(text) <= _LARGEST_JSON else None
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise CheckpointError(
            f"{path} is not what Hugging Face's libraries write there, a JSON object: download it "
            "again, or remove it."
        )
    return found


# --- families -------------------------------------------------------------------------------


def _named(name: str) -> Family:
    if (found := families().get(name)) is not None:
        return found
    names = sorted([GLASS, *families()])
    raise CheckpointError(
        f"there is no family {name!r}{_did_you_mean(name, names)}: the families are "
        f"{', '.join(names)}."
    )


def _did_you_mean(name: str, names: list[str]) -> str:
    near = get_close_matches(name, names, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _missing(family: Family, source: Source) -> list[str]:
    """Return a family's patterns that no key matches."""
    return [
        pattern
        for pattern in family.keys
        if not any(re.match(pattern, key) for key in source.state)
    ]


def _unknown(tried: list[Family], source: Source) -> str:
    missing = {each.title: _missing(each, source) for each in tried if each.keys}
    share = {each.title: len(missing[each.title]) / len(each.keys) for each in tried if each.keys}
    nearest = sorted(missing, key=lambda title: share[title])[:_NEAREST]
    clauses = "; ".join(_lack(title, missing[title]) for title in nearest)
    return (
        f"no family knows these keys ({min(source.state)}, … {len(source.state)} in all): "
        f"{clauses}; name one with --family ({', '.join(each.name for each in tried)}), or export "
        "it as a timm model with --backbone timm/NAME."
    )


def _lack(title: str, missing: list[str]) -> str:
    if not missing:
        return f"{title} has such keys for tensors of other shapes"
    keys = [_as_read(pattern) for pattern in missing]
    return f"{title} misses {', '.join(keys)}"


def _as_read(pattern: str) -> str:
    """Return a pattern of keys as people read it: without what is optional or a sign."""
    plain = re.sub(r"\([^()]*\)\?|[\\^$]", "", pattern)
    return plain.replace("|", " or ")
