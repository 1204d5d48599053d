"""PyTorch among the contenders: as the paper runs GLASS, and at its best."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ...export.loading import load_model
from ...export.model import Glass
from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.manifest import Normalisation, Precision, WhichWeights
from ...runtime.engines.base import Float32
from ...runtime.machine.errors import EngineError
from ..measuring.clock import StageClock
from .reference import LOADER_STAGES, Item, ReferenceViews, channel_tensors
from .work import Backbone, Judged, Loaded, Photos, Pixels, Setup

_Forward: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From normalised global views and crops to logits and attention."""
_Network = TypeVar("_Network", bound=Callable[..., Any])
_BATCHES = 4  # of a passage on a CPU, at least: views of the first are waited for
# What torch.compile must be told to be at its best: weights packed for the CPU's kernels,
# kernels launched together on a GPU.
_COMPILED: dict[str, dict[str, str | int | bool | Callable[..., Any]]] = {
    "cpu": {"freezing": True},
    "cuda": {"triton.cudagraphs": True},
}


@dataclass(frozen=True)
class PyTorchContender:
    """A checkpoint in PyTorch, on the GPU if there is one.

    Attributes:
        checkpoint, backbone: what to load, see :func:`~glass_edge.export.loading.load_model`.
        normalisation: of the views; done in the loaders.
        fake_index: position of the fake class among the logits.
        half: under autocast, in BF16 on a CPU and FP16 on a GPU.
        channels_last: weights and views in channels-last layout.
        compiled: by ``torch.compile``.
        crops_at_once: crops given to the local backbone at once; ``None``: all of a batch.
        weights: which of a checkpoint's weights to load.
    """

    checkpoint: Path
    backbone: str
    normalisation: Normalisation
    fake_index: int
    half: bool = False
    channels_last: bool = False
    compiled: bool = False
    crops_at_once: int | None = None
    weights: WhichWeights | None = None

    @classmethod
    def plain(cls, checkpoint: Path, backbone: str, bundle: Bundle) -> PyTorchContender:
        """Return PyTorch as the paper runs it, with what a bundle was made of."""
        made = bundle.manifest
        weights = made.checkpoint.weights
        return cls(checkpoint, backbone, made.normalisation, made.fake_index, weights=weights)

    @property
    def name(self) -> str:
        """PyTorch, its type, and what is done for its speed."""
        kind = f"{half_precision().upper()} autocast" if self.half else "FP32"
        options = [
            "channels-last" if self.channels_last else "",
            "torch.compile" if self.compiled else "",
        ]
        return ", ".join(["PyTorch " + kind, *filter(None, options)])

    @property
    def precision(self) -> Precision:
        """The type that it computes in."""
        return half_precision() if self.half else "fp32"

    def open(self, setup: Setup) -> Loaded:
        """Load the checkpoint, see :meth:`.work.Contender.open`."""
        return _LoadedModel(self, setup)

    def open_backbone(self, crops: Pixels, threads: int) -> Backbone:
        """Load the checkpoint and lay crops ready for its local backbone.

        On a CPU it gets normalised float tensors, made here and so outside the timing. On a GPU,
        where it would wait for four times the bytes, it gets pixels and normalises them there.
        """
        model = _load(self, threads, crops.shape[1]).local_model
        mean, std = channel_tensors(self.normalisation, torch_device())
        layout = torch.channels_last if self.channels_last else torch.contiguous_format

        def made(pixels: Tensor) -> Tensor:
            views = (pixels.movedim(-1, 1) / 255 - mean) / std
            return views.contiguous(memory_format=layout)

        def from_pixels(pixels: Tensor) -> Tensor:
            found: Tensor = model(made(pixels))
            return found

        pixels, on_gpu = torch.from_numpy(crops), torch_device() == "cuda"
        network = _compiled(from_pixels if on_gpu else model, self)
        ready = pixels.pin_memory() if on_gpu else made(pixels)

        @torch.inference_mode()
        def features(count: int) -> Float32:
            with _refusing(self.name), _autocast(self):
                taken = ready[:count].to(torch_device(), non_blocking=True)
                found: Float32 = network(taken).float().cpu().numpy()
                return found

        return Backbone(f"torch {torch.__version__}", self.precision, features)


def pytorch_contenders(plain: PyTorchContender) -> list[PyTorchContender]:
    """Return PyTorch as the paper runs it, which is ``plain``, and then at its best."""
    return [
        plain,
        replace(plain, half=True),
        replace(plain, half=True, channels_last=True),
        replace(plain, compiled=True),
        replace(plain, half=True, channels_last=True, compiled=True),
    ]


def torch_device() -> str:
    """Return where PyTorch runs: ``cuda`` if it finds a GPU, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def half_precision() -> Literal["fp16", "bf16"]:
    """Return the half precision of PyTorch's device: ``fp16`` on a GPU, else ``bf16``."""
    return "fp16" if torch_device() == "cuda" else "bf16"


class _LoadedModel:
    def __init__(self, contender: PyTorchContender, setup: Setup) -> None:
        self._contender, self._setup, self._device = contender, setup, torch_device()
        self._forward = _forward(_load(contender, setup.threads, setup.views.crop_size), contender)
        self._loaders: dict[Photos, DataLoader[Item]] = {}

    def judge(self, photos: Photos) -> Judged:
        """Judge images in batches, views coming from a loader's processes."""
        with _refusing(self._contender.name):
            loader = self._loader(photos)
            scores: list[float] = []
            loading = torch.zeros(len(LOADER_STAGES))
            started, clock = time.perf_counter(), StageClock()
            for overviews, crops, seconds in loader:
                clock.done("wait")
                scores += self._scores(overviews, crops).tolist()
                loading += seconds.sum(0)
                clock.done("infer")
            taken = time.perf_counter() - started
        return Judged(
            engine=f"torch {torch.__version__} {self._device}",
            precision=self._contender.precision,
            scores=tuple(scores),
            placements=tuple(photo.placements for photo in photos),
            seconds=taken,
            stages=dict(zip(LOADER_STAGES, loading.tolist(), strict=True)) | clock.seconds,
        )

    def batch(self, photos: Photos) -> Callable[[], object]:
        """Return the call that judges all images, see :meth:`.work.Loaded.batch`."""
        dataset = self._dataset(photos)
        items = [dataset[index] for index in range(len(photos))]
        overviews = self._ready(torch.stack([overview for overview, _, _ in items]))
        crops = self._ready(torch.stack([crops for _, crops, _ in items]))

        def call() -> Tensor:
            with _refusing(self._contender.name):
                return self._scores(overviews, crops)

        return call

    def _dataset(self, photos: Photos) -> ReferenceViews:
        side = self._setup.views.crop_size
        return ReferenceViews(photos, side, self._contender.normalisation)

    def _loader(self, photos: Photos) -> DataLoader[Item]:
        """Return a loader of these images; its processes live on between passages."""
        if photos not in self._loaders:
            self._loaders[photos] = DataLoader(
                self._dataset(photos),
                batch_size=self._batch_size(len(photos)),
                num_workers=self._setup.workers,
                persistent_workers=True,
                pin_memory=self._device == "cuda",
            )
        return self._loaders[photos]

    def _batch_size(self, images: int) -> int:
        """Return how many images to take at once.

        On a CPU, where larger batches gain next to nothing, few enough that most views are made
        while others are judged.
        """
        most = self._setup.batch_size
        return most if self._device == "cuda" else min(most, max(1, images // _BATCHES))

    def _ready(self, views: Tensor) -> Tensor:
        """Return views as a loader would leave them at best: for a GPU, in pinned memory."""
        return views.pin_memory() if self._device == "cuda" else self._laid_out(views)

    def _laid_out(self, views: Tensor) -> Tensor:
        """Return views ``(B, 3, p, p)`` or ``(B, n, 3, p, p)`` in the contender's layout."""
        if not self._contender.channels_last:
            return views
        flat = views.flatten(0, -4).contiguous(memory_format=torch.channels_last)
        return flat.reshape(views.shape)

    @torch.inference_mode()
    def _scores(self, overviews: Tensor, crops: Tensor) -> Tensor:
        """Return P(fake) of each image."""
        overviews = self._laid_out(overviews.to(self._device, non_blocking=True))
        crops = self._laid_out(crops.to(self._device, non_blocking=True))
        with _autocast(self._contender):
            logits, _ = self._forward(overviews, crops)
        return torch.softmax(logits.float(), 1)[:, self._contender.fake_index].cpu()


def _load(contender: PyTorchContender, threads: int, crop_size: int) -> Glass:
    """Load the checkpoint as the contender wants its weights, for views of this size."""
    torch.set_num_threads(threads)
    checkpoint, backbone = contender.checkpoint, contender.backbone
    model = load_model(checkpoint, backbone, crop_size, contender.weights).model
    model = model.to(torch_device())
    if contender.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if contender.half:
        _keep_cast_weights(model, contender)
    return model


def _autocast(contender: PyTorchContender) -> torch.autocast:
    half = torch.float16 if half_precision() == "fp16" else torch.bfloat16
    return torch.autocast(torch_device(), dtype=half, enabled=contender.half)


def _keep_cast_weights(model: Glass, contender: PyTorchContender) -> None:
    """Let autocast cast weights only once in the life of the process.

    It keeps what it has cast until its outermost block is left, which here none is, and only
    of weights that want gradients. A compiled model has them cast when it is compiled.
    """
    torch.autocast_increment_nesting()
    model.requires_grad_(not contender.compiled)


def _compiled(network: _Network, contender: PyTorchContender) -> _Network:
    """Return what ``torch.compile`` makes of a network, or the network, as the contender says."""
    if not contender.compiled:
        return network
    compiled = torch.compile(network, dynamic=False, options=_COMPILED[torch_device()])
    return cast("_Network", compiled)


def _forward(model: Glass, contender: PyTorchContender) -> _Forward:
    if contender.compiled:
        return _compiled(model, contender)
    at_once = contender.crops_at_once
    if at_once is None:
        return model

    def in_parts(overviews: Tensor, crops: Tensor) -> tuple[Tensor, Tensor]:
        parts = torch.split(crops.flatten(0, 1), at_once)
        features = torch.cat([model.local_model(part) for part in parts])
        local_features = features.reshape(*crops.shape[:2], -1)
        logits, attention = model.aggregator()(model.global_model(overviews), local_features)
        return logits, attention

    return in_parts


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    """Turn what PyTorch, its compiler and its loaders raise into a refusal."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        raise EngineError(f"{name} fails here: {reason}") from error
