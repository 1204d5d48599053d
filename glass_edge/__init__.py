"""Bundle and images in, verdicts out.

>>> from glass_edge import Detector
>>> with Detector("gl_vit.glass").stream(["photo.jpg"]) as records:
...     for record in records:
...         print(record.path, record.verdict, record.score)

Everything here is imported when it is first used: ``import glass_edge`` alone loads neither NumPy
nor OpenCV, and nothing here ever loads torch. It does silence the telemetry of libraries that may
be loaded later, see :mod:`.runtime.machine.quiet`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .runtime.machine.quiet import silence_libraries

if TYPE_CHECKING:
    from .runtime.bundle.bundle import Bundle
    from .runtime.judging.detector import Detector
    from .runtime.judging.options import DetectorOptions
    from .runtime.machine.errors import (
        BundleError,
        EngineError,
        GlassError,
        ImageError,
        InputError,
        OutputError,
        UnreadableError,
    )
    from .runtime.results.records import Crop, Failure, Record, Verdict

__all__ = [
    "Bundle",
    "BundleError",
    "Crop",
    "Detector",
    "DetectorOptions",
    "EngineError",
    "Failure",
    "GlassError",
    "ImageError",
    "InputError",
    "OutputError",
    "Record",
    "UnreadableError",
    "Verdict",
    "__version__",
]

_ERRORS = (
    *("BundleError", "EngineError", "GlassError", "ImageError", "InputError", "OutputError"),
    "UnreadableError",
)
_MODULES = {
    "Bundle": "bundle.bundle",
    "Detector": "judging.detector",
    "DetectorOptions": "judging.options",
    **dict.fromkeys(_ERRORS, "machine.errors"),
    **dict.fromkeys(("Crop", "Failure", "Record", "Verdict"), "results.records"),
}
__version__: str

silence_libraries()


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("glass-edge")
    elif name in _MODULES:
        value = getattr(import_module(f"{__name__}.runtime.{_MODULES[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
