"""Engines by name. Each is one module of this folder that says what it is in ``RECORDS``."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Final

from ..bundle.bundle import Bundle
from ..bundle.manifest import Precision
from ..machine.cuda import gpu_present
from ..machine.errors import EngineError
from .base import Engine, EngineOptions

AUTO: Final = "auto"
DEVICE_NAMES = ("cpu", "cuda")


@dataclass(frozen=True)
class EngineRecord:
    """What is known of an engine before it is loaded.

    Attributes:
        name: by which users choose it.
        module: what is imported when it is loaded.
        extra: the extra of glass-edge that installs it.
        devices: where it runs: ``cpu``, ``cuda``.
        open: loads a bundle's graphs. Raises EngineError if it cannot run the bundle as asked.
        rank: the order in which ``auto`` considers engines, the lowest first; ``None`` for one
            that is only taken by name.
        suits: whether ``auto`` takes it on this machine for such a device (``auto``, ``cpu`` …).
        int8_advice: why INT8 may be no faster than FP32 on an x86 CPU, as a sentence.
        cpu_lacks: for each precision that it cannot compute on a CPU, a sentence that says so.
    """

    name: str
    module: str
    extra: str
    devices: tuple[str, ...]
    open: Callable[[Bundle, EngineOptions], Engine]
    rank: int | None = None
    suits: Callable[[str], bool] = lambda device: True
    int8_advice: str | None = None
    cpu_lacks: Mapping[Precision, str] = field(default_factory=dict)

    @property
    def installed(self) -> bool:
        """Whether its module can be found; not whether it can be loaded."""
        return find_spec(self.module) is not None


@cache
def engines() -> Mapping[str, EngineRecord]:
    """Return the record of every engine by its name."""
    package = __name__.rpartition(".")[0]
    modules = pkgutil.iter_modules(import_module(package).__path__, f"{package}.")
    found = (getattr(import_module(module.name), "RECORDS", ()) for module in modules)
    return {record.name: record for records in found for record in records}


def engine_names() -> tuple[str, ...]:
    """Return the engines' names in alphabetical order."""
    return tuple(sorted(engines()))


def runnable_engines() -> list[str]:
    """Return the names of the engines that are installed and have their device here."""
    gpu = gpu_present()
    return [
        name
        for name in engine_names()
        if engines()[name].installed and (gpu or "cpu" in engines()[name].devices)
    ]


def open_engine(bundle: Bundle, name: str, options: EngineOptions) -> Engine:
    """Load a bundle's graphs into the named engine; ``auto`` takes the best installed.

    Raises:
        BundleError: the bundle's files changed since it was opened.
        EngineError: unknown name or device, or the engine cannot run the bundle as asked.
    """
    if name not in (AUTO, *engine_names()):
        raise EngineError(
            f"there is no engine {name!r}: choose {AUTO} or {', '.join(engine_names())}."
        )
    if options.device not in (AUTO, *DEVICE_NAMES):
        raise EngineError(
            f"there is no device {options.device!r}: choose {AUTO} or {', '.join(DEVICE_NAMES)}."
        )
    record = _chosen(options.device) if name == AUTO else engines()[name]
    engine = record.open(bundle, options)
    bundle.check_unchanged()  # engines open files by their names
    return engine


def check_cpu_computes(precision: Precision) -> None:
    """Refuse a precision that the engine chosen on this machine's CPU cannot compute.

    Raises:
        EngineError: it cannot.
    """
    lacking = _chosen("cpu").cpu_lacks.get(precision)
    if lacking is not None:
        raise EngineError(lacking)


def _chosen(device: str) -> EngineRecord:
    """Return the first engine that is there and suits; the last one says if it is not there."""
    ranked = sorted(
        (record.rank, record.name) for record in engines().values() if record.rank is not None
    )
    considered = [engines()[name] for _, name in ranked]
    fitting = (each for each in considered if each.installed and each.suits(device))
    return next(fitting, considered[-1])
