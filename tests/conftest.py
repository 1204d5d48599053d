"""Fixtures: real photographs, and bundles made by the real export."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
import torch
from _pytest.mark import ParameterSet
from filelock import FileLock
from glass_edge.calibration.images import split_images
from glass_edge.calibration.options import CalibrationOptions
from glass_edge.export.exporter import ExportOptions, export_bundle
from glass_edge.export.variants import VariantOptions, make_variant
from glass_edge.runtime.bundle.manifest import Precision, Rest
from hypothesis import settings
from networks import SMALL, TIMM_NAME, random_glass
from PIL import Image

from glass_edge import Bundle

ROOT = Path(__file__).parent.parent
DATA = Path(__file__).parent / "data"
EXAMPLES = ROOT / "examples" / "images"
FAMILIES = tuple(SMALL)


def slow(*values: object) -> ParameterSet:
    """Mark a test's parameter as one for ``make test-slow``."""
    return pytest.param(*values, marks=pytest.mark.slow)


ONE_FAMILY = [name if name == "vit" else slow(name) for name in FAMILIES]
"""For properties that one family shows; the others show them in ``make test-slow``."""
JUDGEMENTS = 24  # enough to run the gate; the evidence is in docs/precision.md

MadeOnce: TypeAlias = Callable[[str, Callable[[Path], object]], Path]
"""Returns the path of that name, made by the function the first time."""

# How long an example takes depends on what else the machine does.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")


def pytest_configure(config: pytest.Config) -> None:
    """Give each worker of pytest-xdist a CPU of its own, so that engines do not fight for them."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker and hasattr(os, "sched_setaffinity"):
        cpus = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cpus[int(worker.removeprefix("gw")) % len(cpus)]})


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep what tests build out of the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLASS_CACHE", str(folder))
        yield folder


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Let nobody run the test where root would, who may read and write everything."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield
    if root:
        os.seteuid(0)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> MadeOnce:
    """Make what many tests use once for all workers of a run."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "made-once"
    folder.mkdir(exist_ok=True)

    def made(name: str, make: Callable[[Path], object]) -> Path:
        with FileLock(folder / f"{name}.lock"):
            if not (folder / name).exists():
                (folder / "unfinished").mkdir(exist_ok=True)
                make(folder / "unfinished" / name)
                (folder / "unfinished" / name).rename(folder / name)
        return folder / name

    return made


@pytest.fixture(scope="session")
def checkpoints(made_once: MadeOnce) -> dict[str, Path]:
    """A checkpoint of each family with random weights, as the reference saves them."""
    return {
        family: made_once(
            f"gl_{family}.pt",
            lambda path, family=family: torch.save(random_glass(family).state_dict(), path),
        )
        for family in FAMILIES
    }


@pytest.fixture(scope="session")
def export_family(checkpoints: dict[str, Path], made_once: MadeOnce) -> Callable[[str], Bundle]:
    """Export a small GLASS of a family, once per run."""

    @functools.cache
    def export(family: str) -> Bundle:
        backbone = f"timm/{TIMM_NAME}" if family == "timm" else "auto"
        options = ExportOptions(backbone=backbone)
        return Bundle.open(
            made_once(
                f"{family}.glass", lambda path: export_bundle(checkpoints[family], path, options)
            )
        )

    return export


@pytest.fixture(scope="session")
def vit_bundle(export_family: Callable[[str], Bundle]) -> Bundle:
    return export_family("vit")


@pytest.fixture(scope="session")
def shared_bundle(made_once: MadeOnce) -> Bundle:
    """A bundle of which both backbones have the same weights, stored once."""
    checkpoint = made_once(
        "gl_shared.pt",
        lambda path: torch.save(random_glass("resnet", shared=True).state_dict(), path),
    )
    return Bundle.open(
        made_once("shared.glass", lambda path: export_bundle(checkpoint, path, ExportOptions()))
    )


@pytest.fixture(scope="session")
def demo_bundle(made_once: MadeOnce) -> Path:
    """The demo, exported as the README does."""
    options = ExportOptions(backbone="timm/tf_efficientnet_lite0", crops=4)
    checkpoint = ROOT / "examples" / "demo.safetensors"
    return made_once("demo.glass", lambda path: export_bundle(checkpoint, path, options))


@pytest.fixture
def copied_bundle(vit_bundle: Bundle, tmp_path: Path) -> Path:
    """A bundle that a test may damage."""
    return Path(shutil.copytree(vit_bundle.path, tmp_path / "copied.glass"))


@pytest.fixture(scope="session")
def calibration_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of real photographs and machine-made ones, small so that tests are quick."""
    folder = tmp_path_factory.mktemp("calibration")
    for path in sorted(EXAMPLES.rglob("*.jpg")):
        with Image.open(path) as image:
            image.thumbnail((900, 900))
            image.save(folder / f"{path.parent.name}-{path.name}", quality=92)
    return folder


@pytest.fixture(scope="session")
def make_precision(
    export_family: Callable[[str], Bundle], calibration_images: Path, made_once: MadeOnce
) -> Callable[..., Bundle]:
    """Make a family's small bundle in another precision, once per run."""

    @functools.cache
    def make(family: str, precision: Precision, rest: Rest = "fp32") -> Bundle:
        if precision == "fp32":
            return export_family(family)

        def write(path: Path) -> None:
            path.mkdir()
            images = split_images(calibration_images, 8)
            calibration = CalibrationOptions(rest=rest)
            options = VariantOptions(precision, images, calibration, JUDGEMENTS, accept_loss=True)
            make_variant(export_family(family), path, options)

        return Bundle.open(made_once(f"{family}.{precision}.{rest}.glass", write))

    return make


@pytest.fixture(scope="session")
def photograph() -> Image.Image:
    """A real photograph of 15.9 million pixels."""
    with Image.open(EXAMPLES / "real" / "dandelions.jpg") as image:
        return image.convert("RGB")


@pytest.fixture(scope="session")
def photographs(photograph: Image.Image, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Real photographs of 200 to 12 million pixels, JPEG and PNG, of many shapes."""
    folder = tmp_path_factory.mktemp("photographs")
    sizes = {
        "tiny.png": (20, 10),
        "narrow.png": (100, 900),
        "small.jpg": (223, 225),
        "exact.png": (224, 224),
        "wide.jpg": (1500, 300),
        "medium.jpg": (1280, 853),
        "large.png": (2000, 1500),
        "twelve-megapixels.jpg": (4000, 3000),
    }
    paths = []
    for name, size in sizes.items():
        path = folder / name
        photograph.resize(size, Image.Resampling.LANCZOS).save(path, quality=92)
        paths.append(path)
    return paths


def golden_picture(height: int, width: int, seed: int, sha256: str) -> np.ndarray:
    """Make the picture of a golden case, and check that it is the one."""
    y, x, c = (
        np.arange(height, dtype=np.float64)[:, None, None],
        np.arange(width, dtype=np.float64)[None, :, None],
        np.arange(3, dtype=np.float64)[None, None, :],
    )
    p = 127.5 + 60 * np.sin(x * (0.013 + 0.004 * c) + 0.007 * y)
    p = p + 30 * np.sin(0.9 * x + y * (1.1 + 0.2 * c))
    p = p + np.random.default_rng(seed).integers(-30, 31, size=(height, width, 3))
    picture = np.clip(np.rint(p), 0, 255).astype(np.uint8)
    assert hashlib.sha256(picture.tobytes()).hexdigest() == sha256
    return picture
