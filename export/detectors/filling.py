"""Networks of detectors take their weights, or say what of them is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from torch import nn

from ..errors import CheckpointError, first_line
from ..tensors import StateDict, check_finite, fit_problem

Network = TypeVar("Network", bound=nn.Module)


@contextmanager
def sizes_of(what: str) -> Iterator[None]:
    """Say that weights are incomplete where their shapes cannot tell a network's sizes.

    Args:
        what: the network, for example ``CLIP tower``.

    Raises:
        CheckpointError: instead of the errors of reading a state dict that is not whole.
    """
    try:
        yield
    except (KeyError, IndexError, ValueError, AssertionError, ZeroDivisionError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else first_line(error)
        raise CheckpointError(f"this is no whole {what}: {reason}.") from None


def filled(network: Network, state: StateDict, what: str) -> Network:
    """Return the network with these weights, in float32 and eval mode.

    Args:
        network: of the right sizes.
        state: by its keys.
        what: it is, for errors.

    Raises:
        CheckpointError: tensors are missing, surplus, of another shape, or not finite.
    """
    if problem := fit_problem(network.state_dict(), state):
        raise CheckpointError(f"this is no whole {what} ({problem}).")
    check_finite(state)
    network.load_state_dict(state, strict=False)  # counters of batch normalisation may be missing
    return network.float().eval().requires_grad_(False)
