"""The machine and the versions that a measurement was taken with."""

from __future__ import annotations

import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from .cpus import available_cpus
from .cuda import gpu_present, open_cuda
from .cuda.base import describe
from .errors import EngineError

_LIBRARIES = ("glass-edge", "numpy", "opencv-python-headless", "pillow", "simplejpeg",
              "torch", "torchvision", "timm", "onnx", "onnxscript", "onnxruntime",
              "onnxruntime-gpu", "openvino", "nncf", "tensorrt", "tensorrt-rtx",
              "scikit-learn")  # fmt: skip
_VECTOR_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "asimd",
                 "i8mm")  # fmt: skip
_DRIVER = Path("/proc/driver/nvidia/version")


class Environment(msgspec.Struct, frozen=True):
    """The machine and the versions that a measurement was taken with.

    ``gpu`` names NVIDIA's GPU and its compute capability, ``driver`` its driver's version.
    """

    processor: str
    cpus: int
    vector_flags: tuple[str, ...]
    system: str
    python: str
    libraries: dict[str, str]
    gpu: str | None = None
    driver: str | None = None

    def to_markdown(self) -> str:
        """Return one line."""
        libraries = ", ".join(f"{name} {number}" for name, number in self.libraries.items())
        flags = " ".join(self.vector_flags) or "unknown"
        gpu = f"{self.gpu}, driver {self.driver or 'unknown'}, " if self.gpu else ""
        return (
            f"{self.processor} ({flags}), {self.cpus} CPUs available, {gpu}{self.system}, "
            f"Python {self.python}; {libraries}"
        )


def environment() -> Environment:
    """Describe this machine."""
    flags = cpu_flags()
    return Environment(
        processor=processor_name(),
        cpus=available_cpus(),
        vector_flags=tuple(flag for flag in _VECTOR_FLAGS if flag in flags),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        libraries=library_versions(),
        gpu=_gpu(),
        driver=driver_version(),
    )


def library_versions() -> dict[str, str]:
    """Return the version of each library that glass-edge may use and that is installed here."""
    return {name: found for name in _LIBRARIES if (found := _version(name))}


def _gpu() -> str | None:
    if not gpu_present():
        return None
    try:
        cuda = open_cuda()
    except EngineError:  # no package speaks to it
        return "NVIDIA GPU"
    name = describe(cuda)
    cuda.close()
    return name


def driver_version() -> str | None:
    """Return the version of NVIDIA's driver; nothing where it does not say, as on a Jetson."""
    try:
        text = _DRIVER.read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"\d+\.\d+(\.\d+)?", text)
    return found[0] if found else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu_lines() -> list[tuple[str, str]]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return []
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return [(key.strip(), value.strip()) for key, value in pairs]


def processor_name() -> str:
    """Return what the processor calls itself."""
    named = (value for key, value in _cpu_lines() if key == "model name")
    return next(named, platform.processor() or platform.machine())


def cpu_flags() -> set[str]:
    """Return what the processor says it can do, as Linux names it; nothing elsewhere."""
    listed = (value for key, value in _cpu_lines() if key in ("flags", "Features"))
    return set(next(listed, "").split())
