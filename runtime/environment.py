"""The machine and the versions that a measurement was taken with."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from .cpus import available_cpus

_LIBRARIES = ("glass-edge", "numpy", "opencv-python-headless", "pillow", "simplejpeg",
              "torch", "torchvision", "onnx", "onnxruntime", "openvino",
              "scikit-learn")  # fmt: skip
_VECTOR_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "asimd",
                 "i8mm")  # fmt: skip


class Environment(msgspec.Struct, frozen=True):
    """The machine and the versions that a measurement was taken with."""

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
        return (
            f"{self.processor} ({flags}), {self.cpus} CPUs available, {self.system}, "
            f"Python {self.python}; {libraries}"
        )


def environment() -> Environment:
    """Describe this machine."""
    flags = _cpu_flags()
    return Environment(
        processor=_processor(),
        cpus=available_cpus(),
        vector_flags=tuple(flag for flag in _VECTOR_FLAGS if flag in flags),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        libraries={name: found for name in _LIBRARIES if (found := _version(name))},
    )


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


def _processor() -> str:
    named = (value for key, value in _cpu_lines() if key == "model name")
    return next(named, platform.processor() or os.uname().machine)


def _cpu_flags() -> set[str]:
    listed = (value for key, value in _cpu_lines() if key in ("flags", "Features"))
    return set(next(listed, "").split())
