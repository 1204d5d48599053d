"""Bundle and images in, verdicts out. Needs NumPy, OpenCV and one engine; never torch."""

from .bundle import Bundle
from .detector import Detector, DetectorOptions
from .errors import (
    BundleError,
    EngineError,
    GlassError,
    ImageError,
    InputError,
    OutputError,
)
from .records import Crop, Failure, Record, Verdict

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
    "Verdict",
]
