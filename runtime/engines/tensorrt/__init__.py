"""TensorRT: graphs compiled for one NVIDIA GPU, kept on disk, checked, and run.

``api`` finds the library; ``plan`` holds what describes a built graph; ``compile`` builds one
(in a child process that ``build`` starts and watches); ``store`` keeps plans on disk;
``check`` compares a plan with ONNX Runtime; ``executable`` launches one; ``device`` runs them all
on a GPU; ``engine`` is what the runtime sees.
"""

from __future__ import annotations

from functools import partial

from ...bundle.bundle import Bundle
from ..base import Engine, EngineOptions
from ..registry import EngineRecord
from .api import LIBRARY_NAMES, LibraryName


def _open(name: LibraryName, bundle: Bundle, options: EngineOptions) -> Engine:
    from .engine import TensorRtEngine

    return TensorRtEngine(bundle, name, options)


RECORDS = tuple(
    EngineRecord(
        name=name,
        module=name.replace("-", "_"),
        extra=name,
        devices=("cuda",),
        open=partial(_open, name),
    )
    for name in LIBRARY_NAMES
)
