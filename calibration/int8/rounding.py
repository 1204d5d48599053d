"""Rounds a product's weights together, so that its outputs on real inputs change little.

Rounding each weight to its nearest step ignores the inputs. Where inputs are correlated, as
neighbouring pixels are, the errors of their weights add up or cancel. GPTQ rounds one weight after
the other, and corrects those not yet rounded for the error so far (E. Frantar et al., GPTQ:
Accurate Post-Training Quantization for Generative Pre-trained Transformers, 2022; after B. Hassibi
and D. G. Stork's optimal brain surgeon, 1993). The bias is corrected for the error's mean (M. Nagel
et al., Data-Free Quantization through Weight Equalization and Bias Correction, 2019), which leaves
the variance to be minimised.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ...runtime.engines.base import Float32
from .grid import SIGNED_STEPS, UNSIGNED_STEPS, Grid

Float64: TypeAlias = npt.NDArray[np.float64]
_DAMPING = 0.01  # of the mean variance, added to each, because few images do not vary in all ways
_EXACT = 2**24  # up to which every whole number is a float32
MOST_ROWS = (2**31 - 1) // UNSIGNED_STEPS**2  # whose products' sum is exact in int32
_BLOCK = 32  # columns whose errors correct the columns after them in one product


class Moments:
    """Moments of a product's inputs after they are rounded to INT8.

    Memory does not grow with the number of rows: four bytes for each two inputs. Sums are of whole
    steps and exact. Where nearly all rows are alike, as those of black or white areas are, a sum
    that is rounded would leave a covariance with negative eigenvalues.
    """

    def __init__(self, groups: int, inputs: int, grid: Grid) -> None:
        """Start with no rows; the grid is that of the inputs."""
        self._grid, self._scale = grid, grid.scale
        self._at_once = _EXACT // grid.most_steps**2  # rows whose products' sum is exact
        self._count = 0
        self._sum = np.zeros((groups, inputs), np.float64)
        self._lost = np.zeros((groups, inputs), np.float64)
        self._products = np.zeros((groups, inputs, inputs), np.int32)
        self._waiting: list[Float32] = []
        self._multiplying = threading.Lock()  # products that read the same input share its moments

    def add(self, rows: Float32) -> None:
        """Count rows ``(groups, rows, inputs)`` of inputs in full precision.

        Rows after the first ``MOST_ROWS`` are left out: they would tell nothing new.
        """
        rows = rows[:, : MOST_ROWS - self._count]
        steps = self._grid.steps(rows)
        self._count += rows.shape[1]
        ones = np.ones((1, rows.shape[1]), np.float32)  # sums as products, which are faster
        self._sum += (ones @ steps)[:, 0]
        self._lost += (ones @ (rows - steps * self._scale))[:, 0]
        self._waiting.append(steps)
        if sum(each.shape[1] for each in self._waiting) >= self._at_once:
            self._multiply()

    def _multiply(self) -> None:
        """Add the products of the waiting rows; many at once are faster than a few each time."""
        with self._multiplying:
            if not self._waiting:
                return
            steps = np.concatenate(self._waiting, axis=1)
            for start in range(0, steps.shape[1], self._at_once):
                rows = steps[:, start : start + self._at_once]
                self._products += (rows.transpose(0, 2, 1) @ rows).astype(np.int32)
            self._waiting.clear()

    def mean(self) -> Float64:
        """Return the mean of the rounded inputs, ``(groups, inputs)``."""
        mean: Float64 = self._sum * (np.float64(self._scale) / self._count)
        return mean

    def lost(self) -> Float64:
        """Return by how much rounding and clipping lower the mean, ``(groups, inputs)``."""
        lost: Float64 = self._lost / self._count
        return lost

    def second(self) -> Float64:
        """Return the mean product of each pair of inputs, ``(groups, inputs, inputs)``."""
        self._multiply()
        second: Float64 = self._products * (np.float64(self._scale) ** 2 / self._count)
        return second

    def covariance(self) -> Float64:
        """Return the inputs' covariance, ``(groups, inputs, inputs)``."""
        self._multiply()
        # Whole numbers below 2^53, so that nothing is rounded before the last step.
        differences = self._products * np.float64(self._count)
        differences -= self._sum[:, :, None] * self._sum[:, None, :]
        covariance: Float64 = differences * (np.float64(self._scale) / self._count) ** 2
        return covariance


@dataclass(frozen=True)
class Rounded:
    """Weights in whole steps ``(groups, outputs, inputs)``; a step's size for each output."""

    steps: Float64
    scales: Float64

    def values(self) -> Float64:
        """Return the weights that the steps stand for."""
        return self.steps * self.scales[:, :, None]


def round_together(weights: Float64, moments: Float64) -> Rounded:
    """Round weights to INT8 so that the outputs' squared error is small.

    Args:
        weights: ``(groups, outputs, inputs)``.
        moments: second moments or covariance of the inputs, ``(groups, inputs, inputs)``.

    Returns:
        For each output GPTQ's rounding, or the nearest where that errs less or where no inputs
        can have these moments, because an eigenvalue is negative.
    """
    nearest = round_to_nearest(weights)
    scales = nearest.scales
    try:
        steps = _gptq(weights, moments, scales)
    except np.linalg.LinAlgError:
        return nearest
    worse = output_error(weights - steps * scales[:, :, None], moments) > output_error(
        weights - nearest.values(), moments
    )
    return Rounded(np.where(worse[:, :, None], nearest.steps, steps), scales)


def round_to_nearest(weights: Float64) -> Rounded:
    """Round each weight ``(groups, outputs, inputs)`` alone; an output's largest is 127 steps."""
    largest = np.abs(weights).max(axis=2)
    # Rounded to float32 first, because the graph stores that. Zeros may have any scale.
    scales = np.where(largest > 0, largest / SIGNED_STEPS, 1.0).astype(np.float32)
    wide = scales.astype(np.float64)
    return Rounded(_steps(weights, wide[:, :, None]), wide)


def output_error(errors: Float64, moments: Float64) -> Float64:
    """Return the mean squared error of each output, ``(groups, outputs)``.

    Args:
        errors: of the weights, ``(groups, outputs, inputs)``.
        moments: of the inputs, ``(groups, inputs, inputs)``.
    """
    squares: Float64 = ((errors @ moments) * errors).sum(axis=2)
    return squares


def _steps(weights: Float64, scales: Float64) -> Float64:
    steps: Float64 = np.clip(np.rint(weights / scales), -SIGNED_STEPS, SIGNED_STEPS)
    return steps


def _gptq(weights: Float64, moments: Float64, scales: Float64) -> Float64:
    """Return steps; inputs of the largest moment come first, while most weights can adapt."""
    order = np.argsort(-np.einsum("gii->gi", moments), axis=1)
    ordered = np.take_along_axis(weights, order[:, None, :], axis=2)
    across = np.take_along_axis(moments, order[:, :, None], axis=1)
    follow = _follow(np.take_along_axis(across, order[:, None, :], axis=2))
    steps, errors = np.empty_like(ordered), np.empty_like(ordered)
    for start in range(0, ordered.shape[2], _BLOCK):
        block = slice(start, start + _BLOCK)
        taken = errors[:, :, :start] @ follow[:, :start, block]
        steps[:, :, block], errors[:, :, block] = _round_block(
            ordered[:, :, block], taken, follow[:, block, block], scales
        )
    return np.take_along_axis(steps, np.argsort(order, axis=1)[:, None, :], axis=2)


def _round_block(
    weights: Float64, taken: Float64, follow: Float64, scales: Float64
) -> tuple[Float64, Float64]:
    """Round columns in turn, each corrected for earlier errors; return steps and errors."""
    aims = weights + taken
    steps, errors = np.empty_like(aims), np.empty_like(aims)
    for i in range(aims.shape[2]):
        steps[:, :, i] = _steps(aims[:, :, i], scales)
        errors[:, :, i] = weights[:, :, i] - steps[:, :, i] * scales
        aims[:, :, i + 1 :] += errors[:, :, i, None] * follow[:, None, i, i + 1 :]
    return steps, errors


def _follow(moments: Float64) -> Float64:
    """Return how much of weight ``i``'s error corrects each weight ``j > i``, as ``[i, j]``.

    The damped moments are ``(U + 1) D (U + 1)'`` with ``U`` strictly upper triangular and ``D``
    diagonal, so the squared error is a sum over the columns of ``e (U + 1)``, and rounding makes
    one after the other small. No inverse is needed (J. Chee et al., QuIP: 2-Bit Quantization of
    Large Language Models With Guarantees, 2023, who show that this equals GPTQ).
    """
    damping = _DAMPING * np.einsum("gii->g", moments) / moments.shape[1]
    # Without any variance there is nothing to correct; any positive number will do.
    damping = np.where(damping > 0, damping, 1.0)
    damped = moments.copy()
    np.einsum("gii->gi", damped)[...] += damping[:, None]
    # NumPy's factor is lower triangular; reversing both axes before and after makes it upper.
    factor = np.linalg.cholesky(damped[:, ::-1, ::-1])[:, ::-1, ::-1]
    follow: Float64 = factor / np.einsum("gii->gi", factor)[:, None, :]
    return follow
