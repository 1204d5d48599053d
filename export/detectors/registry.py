"""Detectors by family. Each family is one module of this folder that lists itself as ``FAMILY``.

A module that holds several families lists them as ``FAMILIES``.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from ...runtime.bundle.manifest import Normalisation
from ...runtime.views.spec import StreamViews
from ..tensors import StateDict


@dataclass(frozen=True)
class Preset:
    """How a family's images become views, as its authors evaluate it.

    Attributes:
        name: by which ``--preset`` chooses it, for example ``centre-224``.
        source: where that is written, for example ``JeongsooP/Community-Forensics@5ec815f:
            dataloader.py``.
        views: of each stream, by its name.
        normalisation: of all views; the graphs contain it. Mean 0 and deviation 1 leave values
            between 0 and 1.
        normalises: whether the network does it itself, so that the user's values have no meaning.
    """

    name: str
    source: str
    views: Mapping[str, StreamViews]
    normalisation: Normalisation
    normalises: bool = False


@dataclass(frozen=True)
class Classes:
    """What the two logits mean, in their order.

    Attributes:
        names: two different names.
        fake: which of them means AI-generated.
        source: who says so, for example a file of the authors' code, or ``config.json``.
    """

    names: tuple[str, str]
    fake: str
    source: str


@dataclass(frozen=True)
class Source:
    """What the user gave.

    Attributes:
        path: the checkpoint, a file or a folder.
        state: its tensors by plain keys, without wrappers and their prefixes.
        backbone: the tensors of ``--backbone-weights``, if they were given.
        config: what ``config.json`` beside the weights says; empty if there is none.
        preprocessor: likewise ``preprocessor_config.json``.
        architecture: what ``--backbone`` names (``timm/NAME``, ``torchvision/NAME``), or ``None``.
        place: the names that lead to the tensors in the file, for example ``model``; empty if
            nothing wraps them.
        classes: the names of the classes in the order of the logits, if the user said so.
        fake_class: which of them means AI-generated, if the user said so.
    """

    path: Path
    state: StateDict
    backbone: StateDict | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    preprocessor: Mapping[str, Any] = field(default_factory=dict)
    architecture: str | None = None
    place: str = ""
    classes: tuple[str, str] | None = None
    fake_class: str | None = None


@dataclass(frozen=True)
class Detector:
    """A detector that was loaded, in eval mode and float32.

    Attributes:
        name: what summaries and manifests call it, for example ``Community Forensics,
            vit_small_patch16_384``.
        streams: by name, in the order of the preset's views: modules from normalised views
            ``(B, 3, p, p)`` to features ``(B, D)``; or, if there is no aggregator, of the only
            stream to logits ``(B, 2)``. Of a stream by which another is guided, to features and
            score maps.
        aggregator: from the features of all streams, in that order, ``(B, D)`` or, where an image
            has several views, ``(B, n, D)`` with any ``n >= 1``, to logits ``(B, 2)``, or to these
            and the views' attention ``(B, n)``.
        classes: what the logits mean.
        fixed_batch: whether OpenVINO should compile its graphs for full batches only.
        quantise_residuals: whether INT8 may round the inputs of residual sums.
        shares_weights: whether one set of weights serves several streams.
    """

    name: str
    streams: Mapping[str, nn.Module]
    aggregator: nn.Module | None
    classes: Classes
    fixed_batch: bool = False
    quantise_residuals: bool = True
    shares_weights: bool = False


@dataclass(frozen=True)
class Family:
    """A kind of detector: how its checkpoints are told from others, and loaded.

    Attributes:
        name: by which ``--family`` chooses it, for example ``community-forensics``.
        title: what people call it.
        keys: regular expressions; a state dict in which each matches a key from its beginning may
            be of this family.
        licence: of its authors' code and weights, as the table of docs/detectors.md says it.
        presets: the ways to make its views, the one to use unless the user chooses first. Raises
            CheckpointError if the checkpoint is none of this family's.
        load: builds the detector. Raises CheckpointError if the checkpoint does not fit.
        fits: a closer look at a checkpoint that has the keys.
    """

    name: str
    title: str
    keys: tuple[str, ...]
    licence: str
    presets: Callable[[Source], tuple[Preset, ...]]
    load: Callable[[Source, Preset], Detector]
    fits: Callable[[Source], bool] = lambda source: True


@cache
def families() -> Mapping[str, Family]:
    """Return every family by its name."""
    package = __name__.rpartition(".")[0]
    modules = pkgutil.iter_modules(import_module(package).__path__, f"{package}.")
    found: list[Family] = []
    for module in modules:
        loaded = import_module(module.name)
        found += getattr(loaded, "FAMILIES", ())
        if (one := getattr(loaded, "FAMILY", None)) is not None:
            found.append(one)
    return {family.name: family for family in found}
