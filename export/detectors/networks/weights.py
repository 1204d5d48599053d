"""Puts checked weights into the modules of detectors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from torch import nn

from ...errors import CheckpointError, first_line
from ...tensors import StateDict, check_finite, fit_problem

_Module = TypeVar("_Module", bound=nn.Module)
_SHAPE_ERRORS = (
    *(KeyError, IndexError, ValueError, TypeError, AssertionError, ZeroDivisionError),
    RuntimeError,  # of PyTorch's modules and products
)
_WHOLE = "give the checkpoint of the whole network, as its authors save it"


def filled(model: _Module, state: StateDict, what: str) -> _Module:
    """Return the model with these weights, in eval mode and float32.

    Args:
        model: of the right sizes.
        state: all of its weights, of any floating-point type, and nothing else.
        what: the model's name, for errors.

    Raises:
        CheckpointError: weights are missing, surplus, of another shape or not finite.
    """
    if problem := fit_problem(model.state_dict(), state):
        raise CheckpointError(f"these are not the weights of {what} ({problem}): {_WHOLE}.")
    check_finite(state)
    model.load_state_dict(state, strict=False)
    return model.float().eval().requires_grad_(False)


@contextmanager
def sizes_of(what: str) -> Iterator[None]:
    """Say that weights do not fit where keys or shapes are not a network's.

    Args:
        what: the network's name, for errors.

    Raises:
        CheckpointError: instead of the errors of reading a state dict that is not whole.
    """
    try:
        yield
    except _SHAPE_ERRORS as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else first_line(error)
        raise CheckpointError(
            f"these are not the weights of {what} ({reason}): {_WHOLE}."
        ) from None
