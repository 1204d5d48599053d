"""Imports point one way, and the runtime needs no torch."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import EXAMPLES, PROGRAMS, ROOT, slow
from environments import (
    build_wheel,
    installed_environment,
    linked_environment,
    oldest_environment,
)

from glass_edge import Bundle, Detector

MAY_IMPORT = {
    "runtime": set(),
    "calibration": {"runtime"},
    "export": {"runtime", "calibration"},
    "benchmarks": {"runtime", "calibration", "export"},
}
ROOMS = (
    *("machine", "finding", "storage", "containers", "images", "claims", "isolation", "views"),
    *("bundle", "engines", "results", "pages", "streaming", "judging", "report", "serving"),
    *("shards", "commands"),
)
"""Of the runtime; each may import those before it, and itself."""
CALIBRATION: dict[str, set[str]] = {
    "judging": set(),
    "int8": {"judging"},
    "floats": {"judging", "int8"},
    "making": {"judging", "int8", "floats"},
    "steadiness": {"judging"},
    "commands": {"judging", "int8", "floats", "making", "steadiness"},
}
"""The rooms of calibration, and which others each may import; all import what lies beside them."""
MOST_MODULES = 12  # in a room
PUBLIC_COMMANDS = {"cli", "commands", "summary"}
"""What a module or folder of the other packages is called that may import the command lines'."""
TORCH = {"torch", "torchvision", "timm", "onnxscript", "safetensors"}
RUNTIME_LIBRARIES = {
    *("numpy", "cv2", "PIL", "simplejpeg", "pillow_heif", "msgspec", "click", "rich"),
    *("onnxruntime", "openvino", "tensorrt", "cuda", "pycuda", "filelock", "c2pa", "jinja2"),
    *("starlette", "anyio", "uvicorn", "h11", "python_multipart", "prometheus_client"),
    *("pyarrow", "fsspec", "ray", "threadpoolctl"),
}


def imports(path: Path, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield every module that a file imports, also inside functions, as absolute parts."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = tuple(node.module.split(".")) if node.module else ()
            yield (*package[: len(package) - node.level + 1], *parts) if node.level else parts


def modules(folder: str) -> Iterator[tuple[Path, tuple[str, ...]]]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        yield path, ("glass_edge", *path.relative_to(ROOT).parent.parts)


@pytest.mark.parametrize("folder", list(MAY_IMPORT))
def test_imports_point_one_way(folder):
    for path, package in modules(folder):
        for parts in imports(path, package):
            if parts[0] == "glass_edge" and len(parts) > 1:
                assert parts[1] in MAY_IMPORT[folder] | {folder}, path


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_those_before_them(room):
    allowed = ROOMS[: ROOMS.index(room) + 1]
    for path, package in modules(f"runtime/{room}"):
        for parts in imports(path, package):
            if parts[:2] == ("glass_edge", "runtime"):
                assert parts[2] in allowed, f"{path} imports {'.'.join(parts)}"


def test_the_runtime_is_its_rooms_and_none_is_crowded():
    assert [path.name for path in (ROOT / "runtime").glob("*.py")] == ["__init__.py"]
    for room in ROOMS:
        assert len(list((ROOT / "runtime" / room).glob("[!_]*.py"))) <= MOST_MODULES, room


@pytest.mark.parametrize("room", CALIBRATION)
def test_rooms_of_calibration_import_one_way(room):
    for path, package in modules(f"calibration/{room}"):
        for parts in imports(path, package):
            if parts[:2] == ("glass_edge", "calibration") and parts[2] in CALIBRATION:
                assert parts[2] in CALIBRATION[room] | {room}, f"{path} imports {'.'.join(parts)}"


def test_what_lies_beside_the_rooms_of_calibration_imports_none_of_them():
    beside = set((ROOT / "calibration").glob("*.py"))
    for path, package in modules("calibration"):
        if path in beside:
            for parts in imports(path, package):
                if parts[:2] == ("glass_edge", "calibration"):
                    assert parts[2] not in CALIBRATION, path


def test_calibration_imports_no_torch():
    """Not even inside functions."""
    for path, package in modules("calibration"):
        for parts in imports(path, package):
            assert parts[0] not in TORCH, path


def test_only_commands_know_a_console():
    """Libraries never draw: they are given something to call. Benchmarks are no library."""
    for folder in ("runtime", "calibration", "export"):
        for path, package in modules(folder):
            if PUBLIC_COMMANDS & {path.stem, *path.relative_to(ROOT).parts}:
                continue
            for parts in imports(path, package):
                assert parts[:3] != ("glass_edge", "runtime", "commands"), path
                assert parts[0] not in ("click", "rich"), path


def test_importing_the_package_loads_nothing_heavy():
    heavy = "'numpy', 'cv2', 'torch', 'onnxruntime', 'openvino', 'msgspec'"
    code = f"import sys, glass_edge; print([m for m in ({heavy}) if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_public_names_are_there():
    import glass_edge

    assert all(getattr(glass_edge, name) is not None for name in glass_edge.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Detectr'"):
        glass_edge.Detectr  # noqa: B018


def test_the_runtime_imports_only_what_it_may():
    for path, package in modules("runtime"):
        for parts in imports(path, package):
            known = parts[0] in sys.stdlib_module_names or parts[0] == "glass_edge"
            assert known or parts[0] in RUNTIME_LIBRARIES, f"{path}: {'.'.join(parts)}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def torch_free(tmp_path_factory, wheel) -> Path:
    """The programs of an environment with glass-edge[cpu] and nothing else."""
    return linked_environment(tmp_path_factory.mktemp("torch-free") / "venv", wheel, ["cpu"])


@pytest.fixture(scope="module")
def installed(tmp_path_factory, wheel) -> Path:
    """The programs of an environment in which pip installed glass-edge[cpu]."""
    return installed_environment(tmp_path_factory.mktemp("installed") / "venv", wheel, "cpu")


@pytest.mark.parametrize(
    "environment", ["torch_free", pytest.param("installed", marks=pytest.mark.registry)]
)
def test_the_runtime_judges_without_torch(environment, vit_bundle, photographs, request):
    programs = request.getfixturevalue(environment)
    missing = subprocess.run([programs / "python", "-c", "import torch"], capture_output=True)
    assert b"ModuleNotFoundError" in missing.stderr
    check_same(programs, "onnxruntime", vit_bundle, photographs[:6], 1e-5)


@pytest.fixture(scope="module")
def quantizing(tmp_path_factory, wheel) -> Path:
    """The programs of an environment with glass-edge[quantize,openvino] and nothing else."""
    folder = tmp_path_factory.mktemp("quantizing") / "venv"
    return linked_environment(folder, wheel, ["quantize", "openvino"])


EVERY_MODULE = """
import importlib, pkgutil, sys
from glass_edge import calibration
prefix = calibration.__name__ + "."
found = [each.name for each in pkgutil.walk_packages(calibration.__path__, prefix)]
for name in found:
    importlib.import_module(name)
print(len(found), [name for name in ("torch", "torchvision", "timm") if name in sys.modules])
"""


class TestWithoutTorch:
    """In an environment of the extra ``quantize``, where there is none."""

    def test_every_module_of_calibration_is_imported(self, quantizing, tmp_path):
        done = subprocess.run(
            [quantizing / "python", "-c", EVERY_MODULE],
            cwd=tmp_path, capture_output=True, text=True, check=True,
        )  # fmt: skip
        expected = [path for path, _ in modules("calibration")]
        assert done.stdout == f"{len(expected) - 1} []\n"  # but for the package itself

    @pytest.mark.parametrize("precision", [slow("fp16"), slow("bf16"), "int8"])
    def test_a_bundle_is_quantised(self, precision, quantizing, vit_bundle, photographs, tmp_path):
        missing = subprocess.run([quantizing / "python", "-c", "import torch"], capture_output=True)
        assert b"ModuleNotFoundError" in missing.stderr
        made = tmp_path / "made.glass"
        options = ["--precision", precision, "--calibrate", EXAMPLES, "--judgements", "2"]
        if precision == "int8":
            options += ["--int8-budget", "0"]
        command = [quantizing / "glass-quantize", vit_bundle.path, "-o", made, "--accept-loss"]
        subprocess.run([*command, *options], check=True)
        scores = [
            [verdict.score for verdict in Detector(bundle).detect(photographs[4:6])]
            for bundle in (made, vit_bundle)
        ]
        assert scores[0] == pytest.approx(scores[1], abs=0.03)


def check_same(programs, engine, bundle, photographs, tolerance):
    """Judge with the programs of another environment and with ours, and compare the records."""
    results = []
    for each in (programs, PROGRAMS):
        command = [each / "glass-run", *photographs, "--bundle", bundle.path, "--engine", engine]
        done = subprocess.run([*command, "-o", "-"], capture_output=True, text=True, check=True)
        results.append([json.loads(line) for line in done.stdout.splitlines()])
    for one, other in zip(*results, strict=True):
        assert one["crops"][0]["top"] == other["crops"][0]["top"]
        assert one["logits"] == pytest.approx(other["logits"], abs=tolerance)


@pytest.fixture(scope="module")
def oldest(tmp_path_factory, wheel) -> Path:
    """The programs of an environment of the oldest libraries that pyproject.toml allows."""
    if sys.version_info >= (3, 13):
        pytest.skip("the oldest libraries have no wheels for this Python")
    extras = ("cpu", "openvino", "heic", "eval", "calibrate", "quantize", "report", "provenance")
    return oldest_environment(tmp_path_factory.mktemp("oldest") / "venv", wheel, extras)


@pytest.fixture(scope="module")
def oldest_exporting(tmp_path_factory, wheel) -> Path:
    """The same with PyTorch, which is gigabytes."""
    folder = tmp_path_factory.mktemp("oldest-exporting") / "venv"
    return oldest_environment(folder, wheel, ("cpu", "openvino", "export"))


@pytest.mark.registry
class TestTheOldestLibraries:
    @pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
    def test_judge_as_the_newest(self, engine, oldest, vit_bundle, photographs):
        check_same(oldest, engine, vit_bundle, photographs, 1e-4)

    def test_decode_heic_in_a_process_of_its_own(self, oldest, vit_bundle, photograph, tmp_path):
        from pillow_heif import from_pillow

        from_pillow(photograph.resize((300, 200))).save(tmp_path / "phone.heic")
        command = [oldest / "glass-run", tmp_path / "phone.heic", "--bundle", vit_bundle.path]
        done = subprocess.run([*command, "--isolate", "-o", "-"], capture_output=True, check=True)
        assert json.loads(done.stdout)["width"] == 300

    def test_write_a_page_and_read_claims(self, oldest, vit_bundle, photographs, tmp_path):
        command = [oldest / "glass-run", photographs[5], "--bundle", vit_bundle.path]
        options = ["--report", tmp_path / "page.html", "--provenance", "-o", "-"]
        done = subprocess.run([*command, *options], capture_output=True, check=True)
        assert json.loads(done.stdout)["provenance"]["c2pa"]["state"] == "none"
        assert "Content-Security-Policy" in (tmp_path / "page.html").read_text()

    def test_evaluate_and_plot(self, oldest, vit_bundle, tmp_path):
        command = [oldest / "glass-eval", EXAMPLES, "--bundle", vit_bundle.path, "--crops", "2"]
        subprocess.run([*command, "-o", tmp_path / "plot.png"], check=True)
        assert (tmp_path / "plot.png").is_file()

    def test_calibrate_and_plot(self, oldest, vit_bundle, tmp_path):
        made = tmp_path / "made.glass"
        command = [oldest / "glass-calibrate", EXAMPLES, "-b", vit_bundle.path, "-o", made]
        subprocess.run([*command, "--risk", "0.3", "--report", tmp_path / "r.png"], check=True)
        assert Bundle.open(made).manifest.stopping.risk == 0.3
        assert (tmp_path / "r.png").is_file()

    @pytest.mark.parametrize("precision", ["int8", "bf16"])
    def test_quantise(self, precision, oldest, vit_bundle, tmp_path):
        made = tmp_path / "made.glass"
        command = [oldest / "glass-quantize", vit_bundle.path, "--calibrate", EXAMPLES, "-o", made]
        options = ("--precision", precision, "--judgements", "24", "--accept-loss")
        subprocess.run([*command, *options], check=True)
        assert Bundle.open(made).manifest.precision == precision

    @pytest.mark.slow
    def test_export_what_judges_the_same(
        self, oldest_exporting, checkpoints, make_precision, photographs, tmp_path
    ):
        """In BF16, which is made from an FP32 bundle and asks most of ONNX Runtime."""
        made = tmp_path / "oldest.glass"
        command = [oldest_exporting / "glass-export", checkpoints["vit"], "--output", made]
        subprocess.run([*command, "--precision", "bf16", "--accept-loss"], check=True)
        scores = [
            [verdict.score for verdict in Detector(bundle).detect(photographs)]
            for bundle in (made, make_precision("vit", "bf16"))
        ]
        assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_heic_says_what_it_lacks(torch_free, vit_bundle, photograph, tmp_path):
    from pillow_heif import from_pillow

    from_pillow(photograph.resize((300, 200))).save(tmp_path / "phone.heic")
    for programs, status in ((torch_free, "error"), (PROGRAMS, "ok")):
        command = [programs / "glass-run", tmp_path / "phone.heic", "--bundle", vit_bundle.path]
        done = subprocess.run([*command, "-o", "-"], capture_output=True, text=True, check=True)
        record = json.loads(done.stdout)
        assert record["status"] == status
        if status == "error":
            assert "pip install 'glass-edge[heic]'" in record["error"]["message"]
        else:
            assert (record["width"], record["height"]) == (300, 200)


def test_a_report_says_what_it_lacks_before_the_run(torch_free, vit_bundle, photographs, tmp_path):
    command = [torch_free / "glass-run", photographs[5], "--bundle", vit_bundle.path]
    done = subprocess.run(
        [*command, "--report", tmp_path / "page.html"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "pip install 'glass-edge[report]'" in done.stderr
    assert done.stdout == ""


def test_claims_are_read_as_far_as_libraries_go(torch_free, vit_bundle, photographs, tmp_path):
    signed = tmp_path / "marked.jpg"  # a segment that only looks like credentials
    content = photographs[5].read_bytes()
    signed.write_bytes(content[:2] + b"\xff\xeb\x00\x12JP\0\1\0\0\0\1jumdc2pa" + content[2:])
    command = [torch_free / "glass-run", signed, "--bundle", vit_bundle.path, "-o", "-"]
    done = subprocess.run([*command, "--provenance"], capture_output=True, text=True, check=True)
    credentials = json.loads(done.stdout)["provenance"]["c2pa"]
    assert credentials["state"] == "unread"
    assert "pip install 'glass-edge[provenance]'" in credentials["codes"][0]


def test_the_wheel_holds_the_page(wheel):
    with zipfile.ZipFile(wheel) as files:
        held = {Path(name).name for name in files.namelist() if "/pages/files/" in name}
    assert held == {path.name for path in (ROOT / "runtime" / "pages" / "files").iterdir()}


def test_the_export_says_what_it_lacks_without_torch(torch_free):
    done = subprocess.run([torch_free / "glass-export", "gl.pt"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "pip install 'glass-edge[export]'" in done.stderr
