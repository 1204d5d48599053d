"""Which TensorRT is here, and what of its API is used.

``tensorrt`` 10.3 to 11 and ``tensorrt_rtx`` have the same builder, parser and runtime. Where
they differ, the code asks what the module at hand has.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from ...machine.errors import EngineError

if TYPE_CHECKING:
    import tensorrt as trt

_Made = TypeVar("_Made")
LibraryName = Literal["tensorrt", "tensorrt-rtx"]
LIBRARY_NAMES: tuple[LibraryName, ...] = ("tensorrt", "tensorrt-rtx")
_OLDEST: dict[LibraryName, tuple[int, int]] = {"tensorrt": (10, 3), "tensorrt-rtx": (1, 3)}


class Api(Protocol):
    """The names that both libraries have and that are used here."""

    @property
    def ILogger(self) -> type[trt.ILogger]: ...  # noqa: N802
    @property
    def IProgressMonitor(self) -> type[trt.IProgressMonitor]: ...  # noqa: N802
    @property
    def Dims(self) -> type[trt.Dims]: ...  # noqa: N802
    @property
    def Builder(self) -> type[trt.Builder]: ...  # noqa: N802
    @property
    def OnnxParser(self) -> type[trt.OnnxParser]: ...  # noqa: N802
    @property
    def Runtime(self) -> type[trt.Runtime]: ...  # noqa: N802
    @property
    def BuilderFlag(self) -> type[trt.BuilderFlag]: ...  # noqa: N802
    @property
    def MemoryPoolType(self) -> type[trt.MemoryPoolType]: ...  # noqa: N802
    @property
    def HardwareCompatibilityLevel(self) -> type[trt.HardwareCompatibilityLevel]: ...  # noqa: N802
    @property
    def ExecutionContextAllocationStrategy(  # noqa: N802
        self,
    ) -> type[trt.ExecutionContextAllocationStrategy]: ...


if TYPE_CHECKING:
    _THE_STUBS_HAVE_THEM: Api = trt


@dataclass(frozen=True)
class Library:
    """An installed TensorRT.

    Attributes:
        name: ``tensorrt`` or ``tensorrt-rtx``.
        version: as the library gives it.
        api: its module.
    """

    name: LibraryName
    version: str
    api: Api

    @property
    def portable(self) -> bool:
        """Whether a plan runs on many GPUs and can be built without one."""
        return self.name == "tensorrt-rtx"


def find_library(name: LibraryName | None = None) -> Library:
    """Import the named library, or the one that is installed (``tensorrt`` before RTX).

    Raises:
        EngineError: it is not installed, cannot be loaded, or is too old.
    """
    broken = []
    for candidate in (name,) if name else LIBRARY_NAMES:
        try:
            api = _imported(candidate)
        except (ImportError, OSError, RuntimeError) as error:
            broken.append(f"{candidate} cannot be loaded: {error}")
        else:
            if api is not None:
                return _checked(candidate, api)
    if broken:
        raise EngineError(
            f"{'; '.join(broken)}. Install it from NVIDIA's index or with JetPack, so that it fits "
            "the CUDA at hand, or take one of NVIDIA's containers."
        )
    raise EngineError(
        f"{name or 'TensorRT'} is not installed: on a Jetson it is part of JetPack, on a server "
        "of NVIDIA's TensorRT containers; on x86 and Windows PCs pip install "
        "'glass-edge[tensorrt-rtx]' brings TensorRT-RTX."
    )


def _imported(name: LibraryName) -> Api | None:
    """Import a library; ``None`` if it is not installed.

    Raises:
        ImportError: something it needs is missing, or the package is only an installer.
    """
    module = name.replace("-", "_")
    try:
        api = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name == module:
            return None
        raise
    if hasattr(api, "__version__"):
        return api
    if getattr(api, "__file__", None) is None:  # a folder of type stubs
        return None
    raise ImportError("the package is only an installer, without the library")


def _checked(name: LibraryName, api: Api) -> Library:
    version, oldest = str(getattr(api, "__version__", "")), _OLDEST[name]
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < oldest:
        raise EngineError(
            f"{name} {version} is too old: {oldest[0]}.{oldest[1]} or newer is needed "
            "(JetPack 6 has 10.3)."
        )
    return Library(name, version, api)


@dataclass
class Messages:
    """What the library said in its log at warning level or above."""

    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def logger(self, library: Library) -> trt.ILogger:
        """Return a logger of the library's kind that writes here."""
        messages = self

        class Logger(library.api.ILogger):  # type: ignore[misc, name-defined]
            def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
                if severity.name in ("ERROR", "INTERNAL_ERROR"):
                    messages.errors.append(msg)
                elif severity.name == "WARNING":
                    messages.warnings.append(msg)

        return Logger()

    def why(self, otherwise: str) -> str:
        """Return the first error that was logged: later ones follow from it."""
        return self.errors[0] if self.errors else otherwise


def made(
    constructor: Callable[[trt.ILogger], _Made], messages: Messages, logger: trt.ILogger
) -> _Made:
    """Make a builder or a runtime, the library's first touch of the driver.

    Raises:
        EngineError: it cannot be made.
    """
    try:
        return constructor(logger)
    except TypeError as error:  # how pybind11 says that the constructor returned nothing
        raise EngineError(
            f"TensorRT cannot start: {messages.why(str(error))}. It needs the GPU that will run: "
            "check that nvidia-smi shows one and that the driver is new enough for this TensorRT."
        ) from None


def is_memory(reason: str) -> bool:
    """Whether the library says that memory ran out."""
    lowered = reason.lower()
    return "out of memory" in lowered or "outofmemory" in lowered
