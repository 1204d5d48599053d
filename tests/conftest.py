"""What tests share: programs, real photographs, and bundles made by the real export.

Several workers run the tests (pytest-xdist), each on a CPU of its own. What takes long to make
is made once, by the worker that needs it first, in a folder that all of them read.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from filelock import FileLock
from glass_edge.calibration.images import split_images
from glass_edge.calibration.int8.fitting import FittedWeight, fit_weights
from glass_edge.calibration.int8.grid import Grid
from glass_edge.calibration.int8.layers import Layer, find_layers, form_of
from glass_edge.calibration.int8.observe import CalibrationViews, calibration_views
from glass_edge.calibration.int8.products import find_products
from glass_edge.calibration.int8.quantise import quantise
from glass_edge.calibration.int8.ranges import activations_of, collect_ranges
from glass_edge.calibration.int8.signs import never_negative
from glass_edge.calibration.making.variants import VariantOptions, make_variant
from glass_edge.calibration.options import CalibrationOptions
from glass_edge.export import graphs
from glass_edge.export.exporter import ExportOptions, export_bundle
from glass_edge.export.graphs import export_graph
from glass_edge.runtime.bundle.manifest import MANIFEST_NAME, Precision, Rest
from glass_edge.runtime.bundle.stopping import Stopping
from glass_edge.runtime.bundle.streams import Role, TensorSpec
from glass_edge.runtime.machine.progress import silent
from hypothesis import settings
from networks import SMALL, TIMM_NAME, random_glass
from PIL import AvifImagePlugin, Image
from torch import nn
from xdist.scheduler import LoadScopeScheduling

from glass_edge import Bundle

ROOT = Path(__file__).parent.parent
DATA = Path(__file__).parent / "data"
EXAMPLES = ROOT / "examples" / "images"
PROGRAMS = Path(sys.executable).parent
FAMILIES = tuple(SMALL)
PLAIN = (bool, int, float, str, tuple)
MOST_INPUTS = 1_000  # of layers that tests round
JUDGEMENTS = 24  # enough to run the gate; the evidence is in docs/precision.md

# How long an example takes depends on what else the machine does.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")


# Shells start what runs in the background with SIGINT ignored, and every program that a test
# starts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# --- workers --------------------------------------------------------------------------------


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give a worker one CPU before it loads a library that would take a thread for each.

    Engines whose threads wait for each other spin, and so burn what the other worker could use.
    """
    if hasattr(os, "sched_setaffinity"):
        cpus = sorted(os.sched_getaffinity(0))
        own = cpus[int(node.gateway.id.removeprefix("gw")) % len(cpus)]
        pin = f"import os; os.sched_setaffinity(0, [{own}])"
        node.gateway.remote_exec(pin).waitclose()
        node.workerinput["cpus"] = cpus


# Tests that measure memory and time run one after the other, not beside each other.
MEASURING = ("test_long_runs.py", "test_memory.py", "test_workers.py")


class ByModule(LoadScopeScheduling):
    """Gives a worker whole modules, whose tests share what their fixtures made."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return "measuring" if module.endswith(MEASURING) else module


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByModule:
    config.option.loadscopereorder = False  # by the number of tests, which says nothing of time
    return ByModule(config, log)


@pytest.fixture(scope="module")
def every_cpu(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let tests of what happens side by side have the CPUs of all workers."""
    cpus = getattr(request.config, "workerinput", {}).get("cpus")
    if cpus is None:
        yield
        return
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    yield
    os.sched_setaffinity(0, own)


def slow_but(quick: Collection[Any], values: Sequence[Any]) -> list[Any]:
    """Parameters of which only the ``quick`` ones are not slow."""
    return [value if value in quick else slow(*_parts(value)) for value in values]


def _parts(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def slow(*values: Any) -> Any:
    """One parameter for ``make test-slow``."""
    return pytest.param(*values, marks=pytest.mark.slow)


class Shared:
    """A folder in which everything is made once, by the worker that needs it first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self, name: str, make: Callable[[Path], object]) -> Path:
        """Return the file or folder of this name; ``make`` makes it where there is none."""
        place = self.folder / name
        with FileLock(f"{place}.lock"):
            if not place.exists():
                with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
                    make(Path(scratch, name))
                    Path(scratch, name).rename(place)
        return place


@pytest.fixture(scope="session")
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shared:
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if hasattr(request.config, "workerinput") else own) / "shared"
    folder.mkdir(exist_ok=True)
    return Shared(folder)


@pytest.fixture(scope="session", autouse=True)
def own_settings(shared: Shared) -> Iterator[None]:
    """Keep what tests build out of the user's cache, and the user's bundle out of tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLASS_CACHE", str(shared.folder / "cache"))
        patch.delenv("GLASS_BUNDLE", raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def graphs_exported_once(shared: Shared) -> Iterator[None]:
    """Let exports in this process share what PyTorch's exporter makes of equal modules.

    It takes most of an export's time, and gives the same each time.
    """

    def exported(
        module: nn.Module, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], role: Role
    ) -> onnx.ModelProto:
        def make(place: Path) -> None:
            onnx.save(export_graph(module, inputs, outputs, role), place)

        digest = hashlib.sha256(repr([role, *inputs, *outputs]).encode())
        for name, part in module.named_modules():
            settings = [pair for pair in vars(part).items() if isinstance(pair[1], PLAIN)]
            digest.update(repr([name, type(part), sorted(settings)]).encode())
        for name, tensor in module.state_dict().items():
            digest.update(name.encode() + tensor.numpy().tobytes())
        return onnx.load(shared.make(f"{role}-{digest.hexdigest()}", make))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "export_graph", exported)
        yield


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Let nobody run the test where root would, who may read and write everything."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield
    if root:
        os.seteuid(0)


# --- programs -------------------------------------------------------------------------------

Done = subprocess.CompletedProcess[str]


def launch(program: str, place: Path, *arguments: object, **options: Any) -> Done:
    """Run one of our programs to its end in a folder, as a user does: in a process of its own."""
    command = [PROGRAMS / program, *map(str, arguments)]
    usual: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 600}
    return subprocess.run(command, cwd=place, **usual | options)


def call(program: str, place: Path, *arguments: object, **options: Any) -> Done:
    """Run one of our programs to its end in a folder and in this process: nothing is imported anew.

    Not for what only a process has: signals, pipes, limits, which libraries it loads.
    """
    (script,) = entry_points(group="console_scripts", name=program)
    texts = [str(argument) for argument in arguments]
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.chdir(place)
        patch.setattr(sys, "argv", [program, *texts])
        # A program settles these for its process.
        patch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
        patch.setattr(AvifImagePlugin, "DEFAULT_MAX_THREADS", AvifImagePlugin.DEFAULT_MAX_THREADS)
        result = CliRunner().invoke(
            script.load(), texts, catch_exceptions=False, prog_name=program, **options
        )
    return Done([program, *texts], result.exit_code, result.stdout, result.stderr)


def refusal(done: Done) -> str:
    """Return the sentence with which a program refused wrong usage."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return " ".join(done.stderr.split())


# --- bundles --------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def checkpoints(shared: Shared) -> dict[str, Path]:
    """A checkpoint of each family with random weights, as the reference saves them."""

    def make(folder: Path) -> None:
        folder.mkdir()
        for family in FAMILIES:
            torch.save(random_glass(family).state_dict(), folder / f"gl_{family}.pt")

    folder = shared.make("checkpoints", make)
    return {family: folder / f"gl_{family}.pt" for family in FAMILIES}


@pytest.fixture(scope="session")
def export_family(checkpoints: dict[str, Path], shared: Shared) -> Callable[[str], Bundle]:
    """Export a small GLASS of a family, once in a run."""

    def export(family: str) -> Bundle:
        backbone = f"timm/{TIMM_NAME}" if family == "timm" else "auto"

        def make(place: Path) -> None:
            export_bundle(checkpoints[family], place, ExportOptions(backbone=backbone))

        return Bundle.open(shared.make(f"{family}.glass", make))

    return export


@pytest.fixture(scope="session")
def vit_bundle(export_family: Callable[[str], Bundle]) -> Bundle:
    return export_family("vit")


STEPS = (1, 2, 4, 8)  # of stopping rules
NEVER = (1e6,) * len(STEPS)  # no margin is as large


def with_rule(bundle: Bundle, folder: Path, taus: tuple[float, ...], **changes) -> Bundle:
    """Copy a bundle and give it a stopping rule."""
    shutil.copytree(bundle.path, folder)
    rule = Stopping(
        steps=STEPS,
        taus=taus,
        size_power=0.0,
        threshold=0.5,
        risk=0.01,
        confidence=0.95,
        bound=0.009,
        settled_crops=64,
        images=400,
        unlike=0,
        mean_crops=1.5,
        data="0" * 64,
    )
    rule = msgspec.structs.replace(rule, **changes)
    manifest = msgspec.structs.replace(bundle.manifest, stopping=rule)
    (folder / MANIFEST_NAME).write_bytes(manifest.encode())
    return Bundle.open(folder)


@pytest.fixture(scope="session")
def fake_second_bundle(checkpoints: dict[str, Path], shared: Shared) -> Bundle:
    """A bundle whose classes have other names, and whose second logit means fake."""
    options = ExportOptions(classes=("photograph", "generated"), fake_class="generated")

    def make(place: Path) -> None:
        export_bundle(checkpoints["vit"], place, options)

    return Bundle.open(shared.make("fake-second.glass", make))


@pytest.fixture(scope="session")
def shared_bundle(shared: Shared) -> Bundle:
    """A bundle of which both backbones have the same weights, stored once."""

    def make(place: Path) -> None:
        checkpoint = place.parent / "gl_resnet.pt"
        torch.save(random_glass("resnet", shared=True).state_dict(), checkpoint)
        export_bundle(checkpoint, place, ExportOptions())

    return Bundle.open(shared.make("shared.glass", make))


@pytest.fixture
def copied_bundle(vit_bundle: Bundle, tmp_path: Path) -> Path:
    """A bundle that a test may damage."""
    return Path(shutil.copytree(vit_bundle.path, tmp_path / "copied.glass"))


@pytest.fixture(scope="session")
def calibration_images(shared: Shared) -> Path:
    """A folder of real photographs and machine-made ones, small so that tests are quick."""

    def make(folder: Path) -> None:
        folder.mkdir()
        for path in sorted(EXAMPLES.rglob("*.jpg")):
            with Image.open(path) as image:
                image.thumbnail((900, 900))
                image.save(folder / f"{path.parent.name}-{path.name}", quality=92)

    return shared.make("calibration", make)


@pytest.fixture(scope="session")
def make_precision(
    export_family: Callable[[str], Bundle], calibration_images: Path, shared: Shared
) -> Callable[..., Bundle]:
    """Make a family's small bundle in another precision, once in a run."""

    def make(family: str, precision: Precision, rest: Rest = "fp32") -> Bundle:
        if precision == "fp32":
            return export_family(family)

        def make_it(place: Path) -> None:
            place.mkdir()
            images = split_images(calibration_images, 8)
            calibration = CalibrationOptions(rest=rest)
            options = VariantOptions(precision, images, calibration, JUDGEMENTS, accept_loss=True)
            make_variant(export_family(family), place, options)

        return Bundle.open(shared.make(f"{family}.{precision}.{rest}.glass", make_it))

    return make


@dataclass(frozen=True)
class Int8Parts:
    """What INT8 makes a small backbone of."""

    model: onnx.ModelProto
    layers: list[Layer]
    grids: Mapping[str, Grid]
    fitted: Mapping[str, FittedWeight]

    def quantised(self, layers: Iterable[Layer] | None = None) -> onnx.ModelProto:
        """Return the graph with these layers in INT8, or with all."""
        chosen = self.layers if layers is None else layers
        return quantise(self.model, chosen, self.grids, self.fitted)


@pytest.fixture(scope="session")
def int8_parts(
    export_family: Callable[[str], Bundle], calibration_images: Path
) -> Callable[[str, Role], Int8Parts]:
    """Find, measure and round the layers of a family's backbone in the form for CPUs.

    But for the widest of a ResNet, whose rounding takes seconds each.
    """

    sets = split_images(calibration_images, 8)

    @cache
    def views_of(family: str) -> CalibrationViews:
        return calibration_views(export_family(family), sets, silent)

    @cache
    def make(family: str, role: Role) -> Int8Parts:
        bundle, views = export_family(family), views_of(family)
        model = onnx.load(bundle.graph_path(role))
        found = find_layers(model.graph, bundle.manifest.backbone, form_of("fp32"))
        wide = {
            product.node
            for product in find_products(model.graph, found)
            if product.matrices().shape[2] > MOST_INPUTS
        }
        layers = [layer for layer in found if layer.node not in wide]
        activations = activations_of(layers, never_negative(model.graph))
        grids = collect_ranges(bundle, role, model, activations, views, sets).grids
        products = find_products(model.graph, layers)
        return Int8Parts(model, layers, grids, fit_weights(model, role, products, grids, views))

    return make


# --- photographs ----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def photograph() -> Image.Image:
    """A real photograph of 15.9 million pixels."""
    with Image.open(EXAMPLES / "real" / "dandelions.jpg") as image:
        return image.convert("RGB")


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """A file of an image, as Pillow writes it."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def photographs(photograph: Image.Image, shared: Shared) -> list[Path]:
    """Real photographs of 200 to 12 million pixels, JPEG and PNG, of many shapes."""
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

    def make(folder: Path) -> None:
        folder.mkdir()
        for name, size in sizes.items():
            resized = photograph.resize(size, Image.Resampling.LANCZOS)
            resized.save(folder / name, quality=92)

    folder = shared.make("photographs", make)
    return [folder / name for name in sizes]


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
