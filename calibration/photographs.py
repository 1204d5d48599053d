"""The photographs of the package: what graphs are compared on where the user gives none."""

from __future__ import annotations

from importlib.resources import files

from ..runtime.images.decode import decode
from ..runtime.views.batch import Sampling, ViewBatch, Views
from ..runtime.views.spec import ViewSpec

_FOLDER = "pictures"
_SEED = 20_601


def reference_views(spec: ViewSpec, images: int | None = None) -> Views:
    """Make views of the package's photographs, or of the first ``images`` of them."""
    encoded = photographs()[:images]
    batch = ViewBatch(len(encoded), spec)
    for slot, photograph in enumerate(encoded):
        batch.fill(slot, decode(photograph), Sampling(spec, _SEED + slot, fixed=True))
    return batch.views


def photographs() -> list[bytes]:
    """Return the JPEG files of the photographs that come with the package."""
    folder = files(__package__) / _FOLDER
    items = sorted(folder.iterdir(), key=lambda item: item.name)
    return [item.read_bytes() for item in items if item.name.endswith(".jpg")]
