"""ONNX Runtime: the engine that works everywhere."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from ..bundle.bundle import Bundle
from ..bundle.manifest import Manifest
from ..bundle.streams import Role
from ..machine.cuda import gpu_present
from ..machine.errors import EngineError
from ..views.batch import DrawnViews
from .base import (
    X86,
    Array,
    Engine,
    EngineOptions,
    Float32,
    Found,
    Judgement,
    check_tensors,
)
from .bound import BoundGraphs, failed
from .device import DeviceEngine
from .host import HostEngine
from .registry import EngineRecord

if TYPE_CHECKING:
    import onnxruntime as ort

NAME = "onnxruntime"
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_ELEMENT_TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}
_ERRORS_ONLY = 3
_FATAL_ONLY = 4
_BF16_ADVICE = "use OpenVINO (pip install 'glass-edge[openvino]'), or another precision."
_NO_KERNEL = "NOT_IMPLEMENTED"  # in what it says where it has no kernel for a node's types


class OnnxRuntimeEngine(HostEngine):
    """The graphs as ONNX Runtime sessions on the CPU."""

    name = NAME

    def __init__(self, bundle: Bundle, options: EngineOptions) -> None:
        """Load every graph.

        Raises:
            EngineError: ONNX Runtime is not installed or refuses a graph, or a graph's inputs
                and outputs differ from the manifest's.
        """
        super().__init__(bundle.manifest, options)
        self.description = _description("cpu")
        self.precision = computed_precision(bundle.manifest, "cpu")
        self._sessions = load_sessions(bundle, "cpu", options.threads)

    def compute(self, role: Role, inputs: Sequence[Array]) -> Sequence[Float32]:
        """Run one graph on one batch, see :meth:`.host.HostEngine.compute`."""
        session = self._sessions[role]
        names = [tensor.name for tensor in session.get_inputs()]
        try:
            outputs: list[Float32] = session.run(None, dict(zip(names, inputs, strict=True)))
        except Exception as error:  # pybind's exceptions have no common base but Exception
            raise failed(f"failed in the {role} graph", error) from error
        return outputs


class OnnxRuntimeCudaEngine(DeviceEngine):
    """The same on an NVIDIA GPU, where features stay between the graphs."""

    name = NAME

    def __init__(self, bundle: Bundle, options: EngineOptions) -> None:
        """Load every graph.

        Raises:
            EngineError: as on the CPU, or the CUDA provider cannot be loaded.
        """
        super().__init__(bundle.manifest, options.batch_size)
        self.description = _description("cuda")
        self.precision = computed_precision(bundle.manifest, "cuda")
        sessions = load_sessions(bundle, "cuda", options.threads)
        self._bound = BoundGraphs(sessions, bundle.manifest, "cuda", options.batch_size)

    def judge_now(self, views: DrawnViews) -> Judgement:
        """Run all graphs, see :meth:`.device.DeviceEngine.judge_now`."""
        return self._bound.judge(views)

    def outputs_now(self, stream: str, pixels: Array) -> Sequence[Float32]:
        """Run a stream's graph, see :meth:`.device.DeviceEngine.outputs_now`."""
        return self._bound.outputs(stream, pixels)

    def aggregate_now(self, features: Mapping[str, Float32]) -> Judgement:
        """Judge by features, see :meth:`.device.DeviceEngine.aggregate_now`."""
        return self._bound.aggregate(features)


def open_onnxruntime(bundle: Bundle, options: EngineOptions) -> Engine:
    """Load a bundle's graphs on the device asked for, or on a GPU if that is possible."""
    if chosen_device(options.device) == "cuda":
        return OnnxRuntimeCudaEngine(bundle, options)
    return OnnxRuntimeEngine(bundle, options)


RECORDS = (
    EngineRecord(
        name=NAME,
        module="onnxruntime",
        extra="cpu",
        devices=("cpu", "cuda"),
        open=open_onnxruntime,
        rank=9,  # it runs everywhere
        int8_advice="ONNX Runtime's int8 kernels for x86 may be no faster than fp32: OpenVINO's "
        "are (--engine openvino; pip install 'glass-edge[openvino]').",
        cpu_lacks={"bf16": f"ONNX Runtime cannot compute BF16 on the CPU: {_BF16_ADVICE}"},
    ),
)


def load_sessions(bundle: Bundle, device: str, threads: int) -> dict[Role, ort.InferenceSession]:
    """Load the three graphs as sessions on ``cpu`` or ``cuda``.

    Raises:
        EngineError: see the engines.
    """
    onnxruntime = _library(device)
    if device == "cuda":
        # Each convolution is tried fused with its activation first. Where cuDNN cannot, another
        # kernel takes its place, but the process's own logger would call it an error each time,
        # for thousands of lines in a run. What fails is raised in any case.
        onnxruntime.set_default_logger_severity(_FATAL_ONLY)
    settings = session_options(threads)
    # Threads that spin after a run would take the CPUs from those that decode.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    weights = _hold_weights(bundle, settings)
    provider = (_PROVIDERS[device], _provider_options(device))
    sessions: dict[Role, ort.InferenceSession] = {}
    for role in bundle.manifest.roles:
        try:
            graph = bundle.graph_path(role)
            # A model passed as bytes has no folder to load weights from: all must be in memory.
            model = graph.read_bytes() if weights else str(graph)
            session = onnxruntime.InferenceSession(model, settings, providers=[provider])
        except Exception as error:  # pybind's exceptions have no common base but Exception
            raise _refused(role, bundle.manifest, device, error) from error
        _check_provider(session, provider[0])
        entry = bundle.manifest.graph(role)
        check_tensors(role, entry, _found(session.get_inputs()), _found(session.get_outputs()))
        sessions[role] = session
    return sessions


def _refused(role: Role, manifest: Manifest, device: str, error: Exception) -> EngineError:
    """Say what ONNX Runtime says, unless it is that it lacks kernels for BF16."""
    if manifest.precision == "bf16" and _NO_KERNEL in str(error):
        return EngineError(
            f"ONNX Runtime refuses the {role} graph, because it cannot compute BF16 on the "
            f"{device.upper()}: {_BF16_ADVICE}"
        )
    return failed(f"refuses the {role} graph", error)


def session_options(threads: int) -> ort.SessionOptions:
    """Return options for a session on so many threads that reads ONNX and nothing else."""
    import onnxruntime

    # In addition to machine/quiet.py: for Windows, and if ONNX Runtime was loaded before us.
    onnxruntime.disable_telemetry_events()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = _ERRORS_ONLY
    # Otherwise it takes a file for its own format if four of its bytes say so.
    settings.add_session_config_entry("session.load_model_format", "ONNX")
    return settings


def chosen_device(asked: str) -> str:
    """Return ``cuda`` for ``auto`` where onnxruntime-gpu and a GPU are there, else ``cpu``."""
    if asked != "auto":
        return asked
    try:
        import onnxruntime
    except ImportError:
        return "cpu"
    capable = _PROVIDERS["cuda"] in onnxruntime.get_available_providers()
    return "cuda" if capable and gpu_present() else "cpu"


def _description(device: str) -> str:
    return f"{NAME} {_library(device).__version__} {device}"


def _library(device: str) -> ModuleType:
    try:
        import onnxruntime
    except ImportError:
        raise EngineError(
            "ONNX Runtime is not installed: pip install 'glass-edge[cpu]', "
            "or onnxruntime-gpu for an NVIDIA GPU."
        ) from None
    if device == "cuda" and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # CUDA and cuDNN as pip installs them
    if _PROVIDERS[device] not in onnxruntime.get_available_providers():
        offered = ", ".join(onnxruntime.get_available_providers())
        advice = " (pip uninstall onnxruntime, then install onnxruntime-gpu)"
        raise EngineError(
            f"the installed onnxruntime cannot run on {device}: it offers {offered}"
            f"{advice if device == 'cuda' else ''}."
        )
    module: ModuleType = onnxruntime
    return module


def _hold_weights(bundle: Bundle, settings: ort.SessionOptions) -> list[bytes]:
    """Load the weights beside the graphs into memory; keep them until the sessions exist.

    ONNX Runtime would map these files, and writing to one would change the verdicts of a running
    process. Before 1.24 it knows no other way.
    """
    entries = bundle.manifest.weights
    if not entries or not hasattr(settings, "add_external_initializers_from_files_in_memory"):
        return []
    contents = [(bundle.path / entry.file).read_bytes() for entry in entries]
    settings.add_external_initializers_from_files_in_memory(
        [entry.file for entry in entries], contents, [len(content) for content in contents]
    )
    return contents


def _provider_options(device: str) -> dict[str, str]:
    """Return options where CUDA's defaults would not do.

    Convolutions are chosen by cuDNN's rules, not by timing them at every start: the same
    machine then gives the same bits. The arena grows by what is asked for, not to the next
    power of two. FP32 means FP32, also for what a bundle of lower precision leaves in it, and
    not TF32, which keeps ten bits of a product's inputs.
    """
    if device == "cpu":
        return {}
    return {
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": "0",
    }


def computed_precision(manifest: Manifest, device: str) -> str:
    """Return what products are computed in: without kernels for a type, a wider one.

    x86 has no FP16 kernels. CUDA has no INT8 kernels: what fuses Q/DQ nodes into INT8 products
    serves the CPU only, and finds none where the rest is FP16 (1.32).
    """
    precision: str = manifest.precision
    if precision == "int8" and (device == "cuda" or manifest.rest == "fp16"):
        precision = manifest.rest or "fp32"
    missing = precision == "fp16" and device == "cpu" and platform.machine() in X86
    return "fp32" if missing else precision


def _check_provider(session: ort.InferenceSession, provider: str) -> None:
    """Refuse the silent fall back to the CPU when a provider's libraries fail to load."""
    if session.get_providers()[0] != provider:
        raise EngineError(
            f"{provider} was asked for and could not be loaded (ONNX Runtime would fall back to "
            f"{session.get_providers()[0]}): check the driver and the CUDA libraries."
        )


def _found(tensors: Sequence[ort.NodeArg]) -> list[Found]:
    return [
        (
            tensor.name,
            _ELEMENT_TYPES.get(tensor.type),
            [size if isinstance(size, int) else None for size in tensor.shape],
        )
        for tensor in tensors
    ]
