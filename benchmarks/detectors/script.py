"""The script that users of a one-view detector run: Pillow, torchvision, a DataLoader, PyTorch.

Its transforms are those of the preset, as the detectors' own code writes them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from ...export.loaded import Loaded, load_detector
from ...export.options import ExportOptions
from ...runtime.machine.errors import InputError
from ...runtime.views.places import Centre
from ...runtime.views.spec import FLOAT, Resize, StreamViews
from .judged import Judged

_RULES = {
    "pillow-bilinear": v2.InterpolationMode.BILINEAR,
    "pillow-bicubic": v2.InterpolationMode.BICUBIC,
}


@dataclass(frozen=True)
class Script:
    """A script to run.

    Attributes:
        checkpoint: of the detector.
        options: what the user said of it.
        batch_size: images in a batch.
        threads: of PyTorch.
        workers: processes that read, decode and transform.
        half: whether products are computed in BF16, under autocast.
    """

    checkpoint: Path
    options: ExportOptions
    batch_size: int
    threads: int
    workers: int
    half: bool = False

    @property
    def name(self) -> str:
        """What the report calls it."""
        return f"PyTorch script, {'BF16 autocast' if self.half else 'FP32'}"


class ScriptRunner:
    """A script that has loaded its network; lives in a process of its own."""

    def __init__(self, script: Script) -> None:
        """Load the network.

        Raises:
            CheckpointError: it cannot be loaded.
            InputError: it is no detector of one view.
        """
        torch.set_num_threads(script.threads)
        self._script = script
        loaded = load_detector(script.checkpoint, script.options, tell=lambda _: None)
        self._transform = transform_of(loaded)
        (self._network,) = loaded.detector.streams.values()
        self._fake = loaded.classes.names.index(loaded.classes.fake)

    @torch.inference_mode()
    def judge(self, paths: Sequence[str]) -> Judged:
        """Judge images, from their files to P(fake)."""
        script, scores = self._script, []
        started = time.perf_counter()
        loader = DataLoader(
            _Images(paths, self._transform), script.batch_size, num_workers=script.workers
        )
        for batch in loader:
            with torch.autocast("cpu", torch.bfloat16, enabled=script.half):
                logits: Tensor = self._network(batch)
            scores += torch.softmax(logits.float(), dim=1)[:, self._fake].tolist()
        seconds = time.perf_counter() - started
        return Judged(seconds, tuple(scores), "bf16" if script.half else "fp32")


class _Images(Dataset[Tensor]):
    def __init__(self, paths: Sequence[str], transform: v2.Compose) -> None:
        self._paths, self._transform = paths, transform

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Tensor:
        pixels: Tensor = self._transform(Image.open(self._paths[index]).convert("RGB"))
        return pixels


def transform_of(loaded: Loaded) -> v2.Compose:
    """Return torchvision's transforms for a preset of one view.

    Raises:
        InputError: there are several views, or torchvision has no such transform.
    """
    views = [*loaded.preset.views.values()]
    if len(views) != 1 or views[0].several:
        raise InputError(
            f"{loaded.entry.title} looks at several views of an image, and what is compared here "
            "is a detector of one: glass-bench run compares a GLASS."
        )
    (view,) = views
    normalisation = loaded.preset.normalisation
    steps = [
        *_resizing(view.resize),
        *_cutting(view),
        v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(normalisation.mean, normalisation.std),
    ]
    return v2.Compose(steps)


def _resizing(resize: Resize | None) -> list[v2.Transform]:
    if resize is None:
        return []
    if resize.rule == FLOAT:
        raise InputError("this detector's views are resized in float, and Pillow does not do that.")
    size = [resize.side] if resize.fit == "short-side" else [resize.side, resize.side]
    return [v2.Resize(size, interpolation=_RULES[resize.rule])]


def _cutting(view: StreamViews) -> list[v2.Transform]:
    if view.places is None:
        return []
    if view.places != Centre():
        raise InputError("torchvision has no transform for the places of this detector's views.")
    return [v2.CenterCrop(view.size)]
