"""Backbones by family. Each family is one module of this folder that lists itself as ``FAMILY``."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TypeAlias

from torch import Tensor, nn

from ...runtime.bundle.manifest import Normalisation
from .. import paper
from ..errors import CheckpointError

Weights: TypeAlias = Mapping[str, Tensor]
"""A backbone's state dict, without the prefix that tells the views apart."""
Rewrite: TypeAlias = Callable[[nn.Module], nn.Module | None]
"""Returns a module to trace instead of the one given; ``None`` if it does not know that one."""


@dataclass(frozen=True)
class Recipe:
    """A backbone that can be built, without its weights, and what must be known of it.

    Attributes:
        name: what summaries, manifests and errors call it.
        family: the name of its family.
        build: returns a module from normalised float32 views ``(B, 3, p, p)`` to features
            ``(B, D)``.
        crops: crops per image, unless the user says otherwise.
        fixed_batch: whether OpenVINO should compile its graphs for full batches only.
        quantise_residuals: whether INT8 may round the inputs of residual sums.
        crop_size: the side ``p`` of a view in pixels.
        normalisation: of the views, unless the user says otherwise.
    """

    name: str
    family: str
    build: Callable[[], nn.Module]
    crops: int
    fixed_batch: bool
    quantise_residuals: bool
    crop_size: int = paper.CROP_SIZE
    normalisation: Normalisation = paper.NORMALISATION


@dataclass(frozen=True)
class Family:
    """A kind of backbone: how it is told from others, described, and prepared for tracing.

    Attributes:
        name: what the manifest calls it.
        recipe: describes a backbone, given its name as ``--backbone`` takes it, its weights, and
            the crop size that the user asked for or ``None``. Raises CheckpointError if there is
            no such backbone, KeyError or ValueError if the weights are incomplete.
        keys: a backbone whose state dict has all of them is of this family.
        prefix: the names for ``--backbone`` that begin with it are of this family.
        rewrites: for modules of this family. They are offered the modules of every backbone.
    """

    name: str
    recipe: Callable[[str, Weights, int | None], Recipe]
    keys: tuple[str, ...] = ()
    prefix: str = ""
    rewrites: tuple[Rewrite, ...] = ()


@cache
def families() -> Mapping[str, Family]:
    """Return every family by its name."""
    package = __name__.rpartition(".")[0]
    modules = pkgutil.iter_modules(import_module(package).__path__, f"{package}.")
    found = (getattr(import_module(module.name), "FAMILY", None) for module in modules)
    return {family.name: family for family in found if family is not None}


def recipe_from_weights(weights: Weights, crop_size: int | None = None) -> Recipe:
    """Tell a backbone's family from its keys, and its size from their shapes.

    Args:
        weights: of one backbone.
        crop_size: the side of the views in pixels; ``None`` takes the backbone's own.

    Raises:
        CheckpointError: the keys are of no known family or incomplete, or the backbone does not
            take views of this size.
    """
    told = [each for each in families().values() if each.keys]
    family = next((each for each in told if all(key in weights for key in each.keys)), None)
    if family is None:
        shown = ", ".join(sorted(weights)[:3])
        raise CheckpointError(
            "the backbone cannot be told from its keys (known are "
            f"{', '.join(each.name for each in told)}; found {shown}, …): name it with --backbone "
            f"{_names()}."
        )
    try:
        return family.recipe(family.name, weights, crop_size)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(
            f"the backbone's keys are incomplete, so its size cannot be told: {what}."
        ) from None


def recipe_from_name(name: str, weights: Weights, crop_size: int | None = None) -> Recipe:
    """Describe the backbone that ``--backbone`` names; see :func:`recipe_from_weights`.

    Raises:
        CheckpointError: there is no such backbone, or it does not take views of this size.
    """
    for family in families().values():
        if family.prefix and name.startswith(family.prefix):
            return family.recipe(name, weights, crop_size)
    raise CheckpointError(f"there is no backbone {name!r}: give {_names()}.")


def _names() -> str:
    return " or ".join(f"{each.prefix}NAME" for each in families().values() if each.prefix)


def count_blocks(keys: Iterable[str], pattern: str) -> int:
    """Count numbered blocks: one more than the largest number that a pattern captures in keys.

    Raises:
        ValueError: no key matches.
    """
    numbers = [int(match[1]) for key in keys if (match := re.match(pattern, key))]
    if not numbers:
        raise ValueError(f"no key is like {pattern}")
    return 1 + max(numbers)
