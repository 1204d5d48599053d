"""The names of the makers, known before any library is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Literal, TypeAlias

import click

Group: TypeAlias = Literal["ours", "nncf", "onnxruntime", "ablation"]
GROUPS: Mapping[Group, Sequence[str]] = {
    "ours": ("glass-quantize", "glass-quantize-all"),
    "nncf": (
        *("nncf-performance", "nncf-mixed", "nncf-performance-accurate", "nncf-mixed-accurate"),
        "nncf-accuracy-control",
    ),
    "onnxruntime": ("onnxruntime-minmax", "onnxruntime-percentile"),
    "ablation": (
        *("nearest", "nearest-bias", "gptq", "gptq-bias", "channels-gptq-bias"),
        *("equalised-nearest-bias", "equalised-gptq-bias"),
    ),
}


def chosen(context: click.Context, option: click.Parameter, text: str) -> tuple[str, ...]:
    """Parse names of makers and groups, ``ours,nncf-mixed``; return each maker once, in our order.

    Raises:
        click.BadParameter: a name is unknown.
    """
    wanted = {name for word in text.split(",") for name in _named(word.strip())}
    return tuple(name for names in GROUPS.values() for name in names if name in wanted)


def group_of(maker: str) -> Group:
    """Return the group that a maker belongs to."""
    return next(group for group, names in GROUPS.items() if maker in names)


def _named(word: str) -> Iterator[str]:
    """Yield the maker of this name, or all of the group."""
    known = [*GROUPS, *(name for names in GROUPS.values() for name in names)]
    if word not in known:
        close = get_close_matches(word, known, n=1)
        hint = f"Did you mean {close[0]}?" if close else f"There are {', '.join(known)}."
        raise click.BadParameter(f"there is no maker {word!r}. {hint}")
    for group, names in GROUPS.items():
        yield from (name for name in names if word in (group, name))
