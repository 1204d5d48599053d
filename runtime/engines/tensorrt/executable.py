"""One plan loaded and launched, through a CUDA graph where that can be."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from ...machine.cuda import Cuda
from ...machine.errors import EngineError
from .api import Library, Messages, is_memory, made
from .store import StoredPlan

if TYPE_CHECKING:
    import tensorrt as trt

_log = logging.getLogger("glass_edge")
Shape: TypeAlias = tuple[int, ...]
_UNSUPPORTED_GPU = "does not support this compute capability"  # TensorRT-RTX 1.7
_SEVERAL = 3  # dimensions of features of several views; the second is their number


class Executable:
    """One plan, launched for fixed shapes at fixed addresses.

    For each of them there is one execution context, and, where the library does not keep CUDA
    graphs itself, one captured graph. All contexts share their scratch memory, since they run
    one after the other.
    """

    def __init__(self, library: Library, cuda: Cuda, plan: StoredPlan) -> None:
        """Load the plan.

        Raises:
            EngineError: the library refuses it, or there is not enough memory.
        """
        self._library, self._cuda, self._key = library, cuda, plan.record.key
        self._messages = Messages()
        logger = self._messages.logger(library)
        self._runtime = made(library.api.Runtime, self._messages, logger)
        # Version-compatible plans embed host code: allowed, since the store verified the hash.
        self._runtime.engine_host_code_allowed = self._key.options.version_compatible
        self._engine = self._loaded(plan)
        self._scratch_size = int(self._engine.device_memory_size_v2)
        self._scratch = cuda.allocate(self._scratch_size)
        self._captures = not library.portable
        self._launchers: dict[tuple[object, ...], Callable[[int], None]] = {}
        self._contexts: list[trt.IExecutionContext] = []  # graphs need theirs

    def launch(
        self, shapes: Mapping[str, Shape], addresses: Mapping[str, int], stream: int
    ) -> None:
        """Put the plan's work on a stream.

        Raises:
            EngineError: the library refuses the shapes, or the GPU's memory is full.
        """
        key = (*shapes.items(), *addresses.items(), stream)
        launcher = self._launchers.get(key)
        if launcher is None:
            launcher = self._launchers[key] = self._prepare(shapes, addresses, stream)
        launcher(stream)

    def _prepare(
        self, shapes: Mapping[str, Shape], addresses: Mapping[str, int], stream: int
    ) -> Callable[[int], None]:
        self._messages.errors.clear()  # of shapes refused before: they would explain what fails now
        context = self._context()
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                raise EngineError(
                    f"the {self._key.role} engine was not built for {name} of shape {shape}: "
                    f"{self._larger(name, shape)}."
                )
        self._contexts.append(context)
        for name, address in addresses.items():
            context.set_tensor_address(name, address)
        self._execute(context, stream)  # the first time prepares more than a graph may hold
        graph = self._captured(context, stream) if self._captures else None
        if graph is None:
            return lambda on: self._execute(context, on)
        return lambda on: self._cuda.launch(graph, on)

    def _captured(self, context: trt.IExecutionContext, stream: int) -> int | None:
        """Return a CUDA graph; none after the first that cannot be had."""
        try:
            return self._cuda.capture(stream, lambda: self._execute(context, stream))
        except EngineError as error:
            _log.warning("the %s engine runs without CUDA graphs: %s", self._key.role, error)
            self._messages.errors.clear()  # they would explain what fails later
            self._captures = False
            return None

    def _context(self) -> trt.IExecutionContext:
        strategy = self._library.api.ExecutionContextAllocationStrategy.USER_MANAGED
        if self._library.portable:
            config = self._engine.create_runtime_config()
            config.set_execution_context_allocation_strategy(strategy)
            _keep_cuda_graphs(config, self._library)
            context = self._engine.create_execution_context(config)
        else:
            context = self._engine.create_execution_context(strategy)
        if context is None:
            raise self._failed("cannot run")
        context.set_device_memory(self._scratch, self._scratch_size)
        return context

    def _execute(self, context: trt.IExecutionContext, stream: int) -> None:
        if not context.execute_async_v3(stream):
            raise self._failed("failed")

    def _failed(self, how: str) -> EngineError:
        reason = self._messages.why("it gives no reason")
        advice = (
            "Use a smaller --batch-size, or close what else uses the GPU"
            if is_memory(reason)
            else "Build it again with glass-build --force, or run with --engine onnxruntime"
        )
        return EngineError(f"the {self._key.role} engine {how}: {reason}. {advice}.")

    def _larger(self, name: str, shape: Shape) -> str:
        """Say how to have an engine for a larger shape."""
        if name != "pixels" and len(shape) == _SEVERAL and shape[1] > self._key.crops:
            return (
                f"it takes at most {self._key.crops} crops of an image. Use fewer --crops, export "
                "the bundle with more, or run with --engine onnxruntime"
            )
        return "build it with a larger --max-batch"

    def _loaded(self, plan: StoredPlan) -> trt.ICudaEngine:
        engine = self._runtime.deserialize_cuda_engine(plan.load())
        if engine is None:
            reason = self._messages.why("it gives no reason")
            raise EngineError(
                f"{self._key.library} cannot load {plan.path.name}: {reason}. "
                f"{self._how_to_load(reason)}."
            )
        return engine

    def _how_to_load(self, reason: str) -> str:
        """Say what helps a plan that the library would not load."""
        if is_memory(reason):
            return "Close what else uses the GPU"
        if _UNSUPPORTED_GPU in reason:
            return "Run with --engine onnxruntime, or on a datacenter GPU with --engine tensorrt"
        return (
            f"It was built for {self._key.gpu} by version {self._key.version}; build it again "
            "with glass-build --force"
        )


def _keep_cuda_graphs(config: trt.IRuntimeConfig, library: Library) -> None:
    """Let TensorRT-RTX capture graphs: it alone knows when its kernels are final."""
    strategies = getattr(library.api, "CudaGraphStrategy", None)
    if strategies is not None:
        setattr(config, "cuda_graph_strategy", strategies.WHOLE_GRAPH_CAPTURE)  # noqa: B010
