"""The global view is torchvision's float antialiased resize."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import reference
from conftest import DATA, golden_picture
from glass_edge.runtime.views.resample import resample
from hypothesis import given, settings
from hypothesis import strategies as st

TOLERANCE = 0.02  # grey levels


def expected(rgb: np.ndarray) -> np.ndarray:
    return reference.overview(rgb).mul(255).permute(1, 2, 0).numpy()


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("case", range(5))
def test_golden_views(case):
    golden = np.load(DATA / "views.npz")
    height, width, _, _, seed = golden[f"case{case}_meta"].tolist()
    picture = golden_picture(height, width, seed, str(golden[f"case{case}_picture_sha256"]))
    assert np.abs(resample(picture, 224) - golden[f"case{case}_global"]).max() <= TOLERANCE


@settings(max_examples=60)
@given(st.integers(1, 1200), st.integers(1, 1200))
def test_any_size(height, width):
    rgb = noise(height, width)
    view = resample(rgb, 224)
    assert view.shape == (224, 224, 3)
    assert view.dtype == np.float32
    assert np.abs(view - expected(rgb)).max() <= TOLERANCE


@pytest.mark.parametrize(
    ("height", "width"),
    [(1, 1), (1, 20000), (20000, 1), (3, 5000), (224, 224), (223, 225), (3000, 4000)],
)
def test_extreme_sizes(height, width):
    rgb = noise(height, width)
    assert np.abs(resample(rgb, 224) - expected(rgb)).max() <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(20000, 20000), (12000, 20000), (20000, 700)])
def test_sizes_up_to_20000(height, width):
    """The reference needs several times the pixels as floats, so it resizes channel by channel."""
    rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    view = resample(rgb, 224)
    for channel in range(3):
        alone = expected(rgb[..., channel : channel + 1])
        assert np.abs(view[..., channel] - alone[..., 0]).max() <= TOLERANCE


def test_a_view_of_the_own_size_is_the_picture():
    rgb = noise(224, 224)
    assert np.array_equal(resample(rgb, 224), rgb.astype(np.float32))


def test_values_are_not_rounded():
    view = resample(noise(1000, 1000), 224)
    assert np.mean(view == np.rint(view)) < 0.01


@pytest.mark.parametrize("rule", [cv2.INTER_LINEAR, cv2.INTER_AREA])
def test_what_opencv_offers_is_not_exact(rule):
    """The reason why this module exists; if it fails, it may go."""
    rgb = noise(3000, 4000)
    resized = cv2.resize(rgb, (224, 224), interpolation=rule).astype(np.float32)
    assert np.abs(resized - expected(rgb)).max() > 1.0
