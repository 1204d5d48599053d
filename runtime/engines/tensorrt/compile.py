"""Building one plan. Runs as a program of its own, so that its memory goes back to the system.

It reads a :class:`Request` as one line of JSON from standard input and writes
:class:`Step` lines and at last a :class:`Result` or :class:`Refusal` to standard output.
It ends when its standard input is closed, so it does not outlive who asked for it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, TypeAlias

import msgspec

from ...machine.cuda import open_cuda
from ...machine.errors import EngineError
from .api import Library, LibraryName, Messages, find_library, is_memory, made
from .plan import BuildOptions, Built, PlanKey, Tensor

if TYPE_CHECKING:
    import tensorrt as trt

_CROP_AXIS = 1  # of the aggregator's local features
_CANCELLED = 3


class Request(msgspec.Struct, frozen=True):
    """Build ``graph`` as ``key`` says and write the plan to ``target``.

    ``timings`` is where the times of kernels are kept from build to build; ``None`` where the
    library takes no times.
    """

    graph: str
    key: PlanKey
    target: str
    timings: str | None


class Step(msgspec.Struct, frozen=True, tag="step"):
    """The builder is at ``step`` of ``steps`` of a phase that it names."""

    phase: str
    step: int
    steps: int


class Result(msgspec.Struct, frozen=True, tag="result"):
    """The plan is written."""

    built: Built


class Refusal(msgspec.Struct, frozen=True, tag="refusal"):
    """There is no plan, and why."""

    message: str


Message: TypeAlias = Step | Result | Refusal


def compile_graph(request: Request, report: Callable[[Step], None]) -> Built:
    """Parse a graph, build it, and write the plan.

    Raises:
        EngineError: the parser refuses the graph or the builder gives no plan.
        OSError: the plan cannot be written.
    """
    key = request.key
    name: LibraryName = "tensorrt-rtx" if key.library == "tensorrt-rtx" else "tensorrt"
    library, messages = find_library(name), Messages()
    started = time.monotonic()
    logger = messages.logger(library)
    builder = made(library.api.Builder, messages, logger)
    network = builder.create_network(_network_flags(library.api))
    parser = library.api.OnnxParser(network, logger)
    if not parser.parse_from_file(request.graph):
        raise EngineError(_refused(key, parser))
    config = builder.create_builder_config()
    inputs = _set_profile(library, builder, network, config, key)
    _configure(config, library, key.options)
    monitor = _monitor(library, report)
    config.progress_monitor = monitor
    timings = Path(request.timings) if request.timings else None
    if timings:
        reuse_timings(config, timings)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(_failed(key, messages.why("it gives no reason")))
    Path(request.target).write_bytes(plan)
    if timings:
        with suppress(OSError):  # the next build takes them again
            keep_timings(config, timings)
    return Built(
        seconds=round(time.monotonic() - started, 3),
        inputs=inputs,
        outputs=tuple(_tensor(network.get_output(index)) for index in range(network.num_outputs)),
        layers=_layer_types(network),
        warnings=tuple(dict.fromkeys(messages.warnings)),
    )


def reuse_timings(config: trt.IBuilderConfig, kept: Path) -> None:
    """Start from the times of kernels that earlier builds took on this GPU.

    What the library does not know as its own and this GPU's is passed over.
    """
    found = b""
    with suppress(OSError):
        found = kept.read_bytes()
    for content in (found, b""):
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):
            return


def keep_timings(config: trt.IBuilderConfig, kept: Path) -> None:
    """Write the times of kernels, old and new, for later builds."""
    partial = kept.with_suffix(f".{os.getpid()}.partial")
    partial.write_bytes(config.get_timing_cache().serialize())
    partial.replace(kept)


def _network_flags(api: object) -> int:
    """Ask for strong typing where it is still a choice; TensorRT 11 knows nothing else."""
    flags = getattr(api, "NetworkDefinitionCreationFlag", None)
    strongly_typed = getattr(flags, "STRONGLY_TYPED", None)
    return 0 if strongly_typed is None else 1 << int(strongly_typed)


def _set_profile(
    library: Library,
    builder: trt.Builder,
    network: trt.INetworkDefinition,
    config: trt.IBuilderConfig,
    key: PlanKey,
) -> tuple[Tensor, ...]:
    profile = builder.create_optimization_profile()
    tensors = []
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shapes = _shapes(_sizes(tensor.shape), key)
        least, best, most = (library.api.Dims(list(shape)) for shape in shapes)
        profile.set_shape(tensor.name, least, best, most)
        tensors.append(msgspec.structs.replace(_tensor(tensor), shapes=shapes))
    config.add_optimization_profile(profile)
    return tuple(tensors)


def _shapes(shape: tuple[int, ...], key: PlanKey) -> tuple[tuple[int, ...], ...]:
    """Fill in the open dimensions: the batch, and the crops of an image."""
    batches = key.options.batches
    crops = (1, key.crops // 2, key.crops)
    return tuple(
        tuple(
            size if axis == 0 else count if axis == _CROP_AXIS and extent < 0 else extent
            for axis, extent in enumerate(shape)
        )
        for size, count in zip((batches.least, batches.best, batches.most), crops, strict=True)
    )


def _configure(config: trt.IBuilderConfig, library: Library, options: BuildOptions) -> None:
    api = library.api
    # FP32 means FP32: TF32 keeps ten bits of a product's inputs.
    config.clear_flag(api.BuilderFlag.TF32)
    if workspace := workspace_for(library, options):
        config.set_memory_pool_limit(api.MemoryPoolType.WORKSPACE, workspace)
    if options.level is not None:
        config.builder_optimization_level = options.level
    if options.version_compatible:
        config.set_flag(api.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        level = api.HardwareCompatibilityLevel.AMPERE_PLUS
        config.hardware_compatibility_level = level


def workspace_for(library: Library, options: BuildOptions) -> int:
    """Return the bytes of GPU memory that a layer may use for scratch.

    If nobody asked for a number: three quarters of what is free now, or 0, which leaves it to the
    library, where that builds without a GPU.
    """
    if options.workspace or library.portable:
        return options.workspace
    cuda = open_cuda()
    with cuda.current():
        return cuda.free_memory() * 3 // 4


def _monitor(library: Library, report: Callable[[Step], None]) -> trt.IProgressMonitor:
    class Monitor(library.api.IProgressMonitor):  # type: ignore[misc, name-defined]
        """Called from several of the builder's threads."""

        def __init__(self) -> None:
            library.api.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str, num_steps: int) -> None:
            self._steps[phase_name] = num_steps
            report(Step(phase_name, 0, num_steps))

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            report(Step(phase_name, step + 1, self._steps.get(phase_name, step + 1)))
            return True

    return Monitor()


def _tensor(tensor: trt.ITensor) -> Tensor:
    return Tensor(tensor.name, tensor.dtype.name, _sizes(tensor.shape))


def _sizes(dims: trt.Dims) -> tuple[int, ...]:
    return tuple(dims[axis] for axis in range(len(dims)))


def _layer_types(network: trt.INetworkDefinition) -> dict[str, int]:
    layers = (network.get_layer(index) for index in range(network.num_layers))
    counted = Counter(layer.get_output(0).dtype.name for layer in layers if layer.num_outputs)
    return dict(counted.most_common())


def _refused(key: PlanKey, parser: trt.OnnxParser) -> str:
    first = parser.get_error(0) if parser.num_errors else None
    why = (
        f"{first.desc()} ({first.node_operator()}, node {first.node_name()})"
        if first
        else "it gives no reason"
    )
    return (
        f"{key.library} {key.version} cannot read the {key.role} graph: {why}. Export the bundle "
        "again with the newest glass-edge, or run it with --engine onnxruntime."
    )


def _failed(key: PlanKey, reason: str) -> str:
    if is_memory(reason):
        advice = "Use a smaller --max-batch or --workspace, and close what else uses the memory"
    elif "workspace" in reason.lower():
        advice = "Give it a larger --workspace, or use a smaller --max-batch"
    elif "nvinfer_lean" in reason:
        advice = "Leave --version-compatible out, or install the library's lean runtime"
    else:
        advice = "Run with --engine onnxruntime, and report this"
    return f"{key.library} cannot build the {key.role} graph: {reason}. {advice}."


def _unwritten(request: Request, error: OSError) -> str:
    return (
        f"the plan of the {request.key.role} graph cannot be written to "
        f"{Path(request.target).parent}: {error.strerror or error}. Make room there, or choose "
        "another place with --engine-dir."
    )


def _end_with_parent(stdin: TextIO) -> None:
    def wait() -> None:
        stdin.read()
        os._exit(_CANCELLED)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Serve one request."""
    encoder, lock = msgspec.json.Encoder(), threading.Lock()

    def send(message: Message) -> None:
        with lock:
            sys.stdout.write(encoder.encode(message).decode() + "\n")
            sys.stdout.flush()

    request = msgspec.json.decode(sys.stdin.readline(), type=Request)
    _end_with_parent(sys.stdin)
    try:
        send(Result(compile_graph(request, send)))
    except EngineError as error:
        send(Refusal(str(error)))
    except OSError as error:
        send(Refusal(_unwritten(request, error)))
