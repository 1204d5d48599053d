"""What can go wrong while a graph is made smaller."""

from __future__ import annotations

from ..runtime.machine.errors import GlassError


class CalibrationError(GlassError):
    """The calibration images cannot serve, or a graph cannot be quantised."""


class AccuracyError(GlassError):
    """The verdicts of a low-precision bundle differ too much from FP32's."""

    exit_code = 1
