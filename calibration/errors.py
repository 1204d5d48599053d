"""Errors of calibration and quantisation."""

from __future__ import annotations

from ..runtime.machine.errors import GlassError


class CalibrationError(GlassError):
    """The calibration images are unreadable or show too little, or a graph cannot be quantised."""


class AccuracyError(GlassError):
    """The verdicts of a low-precision bundle differ too much from FP32's."""

    exit_code = 1


class GraphError(GlassError):
    """A backbone cannot be turned into a graph that every engine accepts."""

    exit_code = 1
