"""OpenVINO: the engine for low precision on x86, from the same files."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import LifoQueue
from threading import Lock
from typing import TYPE_CHECKING

from ..bundle.bundle import Bundle
from ..bundle.manifest import Precision
from ..bundle.streams import Role
from ..machine.cache import alone_with, go_on_without, recent_folder
from ..machine.errors import EngineError, OutputError
from .base import X86, Array, EngineOptions, Float32, Found, check_tensors
from .host import HostEngine
from .registry import AUTO, EngineRecord

if TYPE_CHECKING:
    import openvino as ov

NAME = "openvino"
_ELEMENT_TYPES = {"u8": "uint8", "f32": "float32"}
_BUNDLES_CACHED = 8  # one of ViT-B/16 in FP32 takes 0.7 GB

_making_the_core = Lock()
_cores: list[ov.Core] = []  # one at most, see shared_core


class OpenVinoEngine(HostEngine):
    """The graphs compiled for the CPU; the compiled code is kept in the user's cache."""

    name = NAME

    def __init__(self, bundle: Bundle, options: EngineOptions) -> None:
        """Compile every graph, or load it from the cache.

        Raises:
            EngineError: OpenVINO is not installed, the device is none of its, it refuses a
                graph, or a graph's inputs and outputs differ from the manifest's.
        """
        fixed = fixed_rows(bundle, options)
        super().__init__(bundle.manifest, options, fixed)
        core = shared_core()
        if options.device not in ("auto", "cpu"):
            raise EngineError(f"the openvino engine runs on the cpu, not on {options.device}.")
        version = core.get_versions("CPU")["CPU"].build_number
        self.description = f"openvino {version.partition('-')[0]} cpu"
        self.precision: str = _computed(core, bundle.manifest.precision)
        settings: dict[str, object] = {
            # The graph says what computes in BF16. Any other hint, and what OpenVINO chooses
            # without one, lowers what is to stay in FP32, the aggregator included.
            "INFERENCE_PRECISION_HINT": "f32",
            "NUM_STREAMS": options.lanes,
            "INFERENCE_NUM_THREADS": options.threads * options.lanes,
            "ENABLE_MMAP": False,  # writing to a mapped file would change the verdicts of a run
            "ENABLE_CPU_PINNING": False,  # the threads that decode share the CPUs
        }
        self._requests: dict[Role, LifoQueue[ov.InferRequest]] = {}
        with _cache(bundle, keep=options.keep) as cache:
            for role in bundle.manifest.roles:
                try:
                    model = _compiled(core, bundle, role, fixed.get(role), settings | cache)
                    requests = [model.create_infer_request() for _ in range(options.lanes)]
                except RuntimeError as error:
                    raise EngineError(f"OpenVINO refuses the {role} graph: {error}") from error
                self._requests[role] = LifoQueue()
                for request in requests:
                    self._requests[role].put(request)

    def compute(self, role: Role, inputs: Sequence[Array]) -> Sequence[Float32]:
        """Run one graph on one batch, see :meth:`.host.HostEngine.compute`."""
        request = self._requests[role].get()
        try:
            request.infer(list(inputs), share_inputs=True)
            # Copied, because the next run writes to the same memory.
            return [tensor.data.copy() for tensor in request.output_tensors]
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed in the {role} graph: {error}") from error
        finally:
            self._requests[role].put(request)


def _suits(device: str) -> bool:
    """OpenVINO has INT8 and BF16 kernels for x86; elsewhere ONNX Runtime is known better."""
    return device in (AUTO, "cpu") and platform.machine() in X86


RECORDS = (
    EngineRecord(
        name=NAME,
        module="openvino",
        extra="openvino",
        devices=("cpu",),
        open=OpenVinoEngine,
        rank=1,
        suits=_suits,
    ),
)


def shared_core() -> ov.Core:
    """Return the process's one OpenVINO, which lives as long as the process.

    A Core gives the thread that makes it a signal stack, and unmaps that stack when it is
    destroyed. If the lives of two overlap, destroying the second restores the first's stack, which
    is unmapped: the next signal that Python handles kills the process (seen with 2026.4).

    Raises:
        EngineError: OpenVINO is not installed.
    """
    try:
        import openvino
    except ImportError:
        raise EngineError(
            "OpenVINO is not installed: pip install 'glass-edge[openvino]'."
        ) from None
    with _making_the_core:
        if not _cores:
            # The binding builds its table of types on first use; two threads that ask for it at
            # once deadlock (seen with 2026.4).
            openvino.Type.f32.to_dtype()
            _cores.append(openvino.Core())
    return _cores[0]


def fixed_rows(bundle: Bundle, options: EngineOptions) -> dict[Role, int]:
    """Return the number of rows that a graph is compiled for, where only full batches pay.

    A ConvNeXt changes its layout twice in each block. OpenVINO does this for free if the batch is
    fixed, and copies if it is open: a fifth of an INT8 graph's time (2026.4). The price: the graph
    is read at each start, and a partial batch takes the time of a full one.
    """
    if options.images is None or not bundle.manifest.backbone.fixed_batch:
        return {}
    views = bundle.manifest.views
    return {
        name: options.batch_size if name == views.several else options.images
        for name in views.streams
    }


@contextmanager
def _cache(bundle: Bundle, *, keep: bool) -> Iterator[dict[str, object]]:
    """Give the setting with which compiled code is kept in the user's cache, if it shall be.

    One engine at a time: of processes that fill or empty a cache at once, some fail, because files
    vanish between two of OpenVINO's steps (1 of 80 that started on an empty cache, with 2026.4).
    """
    settings: dict[str, object] = {}
    with ExitStack() as stack:
        if keep:
            try:
                stack.enter_context(alone_with(NAME))
                folder = recent_folder(NAME, bundle.graphs_digest, _BUNDLES_CACHED)
                settings["CACHE_DIR"] = str(folder)
            except OutputError as missing:
                go_on_without(missing)
        yield settings


def _compiled(
    core: ov.Core, bundle: Bundle, role: Role, rows: int | None, settings: dict[str, object]
) -> ov.CompiledModel:
    """Compile a graph for batches of any size, or of so many rows."""
    path, entry = bundle.graph_path(role), bundle.manifest.graph(role)
    _check_format(role, path)
    if rows is None:
        compiled = core.compile_model(path, "CPU", settings)
        check_tensors(role, entry, _found(compiled.inputs), _found(compiled.outputs))
        return compiled
    model = core.read_model(path, config={"ENABLE_MMAP": False})
    check_tensors(role, entry, _found(model.inputs), _found(model.outputs))
    shape = model.input().partial_shape
    shape[0] = rows
    model.reshape(shape)
    return core.compile_model(model, "CPU", settings)


def _computed(core: ov.Core, precision: Precision) -> Precision:
    """Return what a bundle's products are computed in on this CPU.

    With this hint OpenVINO computes FP16 graphs in FP32. Told to use FP16, where the CPU has it,
    it would compute FP32's nodes in that, too, and those kept for their range would overflow.
    """
    capable = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "fp32" if precision == "fp16" or (precision == "bf16" and not capable) else precision


def _check_format(role: Role, graph: Path) -> None:
    """Refuse a file that OpenVINO would read as another format: it goes by content, not by name.

    Raises:
        EngineError: a file that is a graph by protobuf's rules has an XML graph in it, for one.
    """
    from openvino.frontend import FrontEndManager

    try:
        reader = FrontEndManager().load_by_model(str(graph))
    except Exception as error:  # its exceptions have no common base but Exception
        raise EngineError(f"OpenVINO refuses the {role} graph: {error}") from error
    if reader is None or reader.get_name() != "onnx":
        raise EngineError(f"OpenVINO refuses the {role} graph: it does not look like ONNX.")


def _found(ports: Sequence[ov.ConstOutput]) -> list[Found]:
    return [
        (
            port.any_name,
            _ELEMENT_TYPES.get(port.element_type.get_type_name()),
            [None if size.is_dynamic else size.get_length() for size in port.partial_shape],
        )
        for port in ports
    ]
