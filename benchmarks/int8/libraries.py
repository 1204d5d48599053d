"""Lets a library quantise both backbones, in silence."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout

from onnx import ModelProto

from ...calibration.errors import CalibrationError
from ...calibration.making.variants import Made
from ...runtime.bundle.streams import Role
from ...runtime.machine.errors import GlassError
from .makers import Given


def quantised_by(
    library: str, given: Given, quantise: Callable[[Role, ModelProto], ModelProto]
) -> Made:
    """Let a library quantise one backbone after the other.

    Args:
        library: its name, for progress and errors.
        given: what to quantise.
        quantise: takes a backbone's FP32 graph and may change it.

    Raises:
        CalibrationError: the library fails.
    """
    graphs = {}
    for role in given.bundle.manifest.streams:
        with given.progress(f"{library}, {role} graph"), in_silence():
            try:
                graphs[role] = quantise(role, given.model(role))
            except GlassError:
                raise
            except Exception as error:  # libraries' exceptions have no common base but Exception
                kind = type(error).__name__
                raise CalibrationError(
                    f"{library} fails on the {role} graph: {kind}: {error}"
                ) from error
    return Made(graphs, {}, rest="fp32")


@contextmanager
def in_silence() -> Iterator[None]:
    """Keep a library from drawing on standard output, from logging and from warning.

    Our own progress goes to standard error.
    """
    before = logging.root.manager.disable
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(before)
