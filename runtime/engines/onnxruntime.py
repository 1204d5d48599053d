"""ONNX Runtime: the engine that works everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..bundle import Bundle
from ..errors import EngineError
from ..manifest import ROLES, GraphEntry, Role
from .base import Array, EngineOptions, Float32

if TYPE_CHECKING:
    import onnxruntime as ort

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_ELEMENT_TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}
_ERRORS_ONLY = 3


class OnnxRuntimeEngine:
    """The three graphs as ONNX Runtime sessions on one device."""

    def __init__(self, bundle: Bundle, options: EngineOptions) -> None:
        """Load every graph.

        Raises:
            EngineError: ONNX Runtime is not installed, has no such device, refuses a graph,
                or a graph's inputs and outputs differ from the manifest's.
        """
        try:
            import onnxruntime
        except ImportError:
            raise EngineError(
                "ONNX Runtime is not installed: pip install 'glass-edge[cpu]', "
                "or onnxruntime-gpu for an NVIDIA GPU."
            ) from None
        device = "cpu" if options.device == "auto" else options.device
        provider = _PROVIDERS[device]
        if provider not in onnxruntime.get_available_providers():
            raise EngineError(
                f"the installed onnxruntime cannot run on {device}: it offers "
                f"{', '.join(onnxruntime.get_available_providers())}."
            )
        self.description = f"onnxruntime {onnxruntime.__version__} {device}"
        self.precision: str = bundle.manifest.precision
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        settings.log_severity_level = _ERRORS_ONLY
        self._sessions: dict[Role, ort.InferenceSession] = {}
        for role in ROLES:
            try:
                session = onnxruntime.InferenceSession(
                    str(bundle.graph_path(role)), settings, providers=[provider]
                )
            except Exception as error:  # pybind's exceptions have no common base but Exception
                raise EngineError(f"ONNX Runtime refuses the {role} graph: {error}") from error
            _check_provider(session, provider)
            _check_tensors(session, bundle.manifest.graphs[role], role)
            self._sessions[role] = session

    def run(self, role: Role, inputs: Sequence[Array]) -> list[Float32]:
        """Run one graph, see :meth:`.base.Engine.run`."""
        session = self._sessions[role]
        names = [tensor.name for tensor in session.get_inputs()]
        try:
            outputs: list[Float32] = session.run(None, dict(zip(names, inputs, strict=True)))
        except Exception as error:  # as above
            raise EngineError(f"ONNX Runtime failed in the {role} graph: {error}") from error
        return outputs


def _check_provider(session: ort.InferenceSession, provider: str) -> None:
    """Refuse the silent fall back to the CPU when a provider's libraries fail to load."""
    if session.get_providers()[0] != provider:
        raise EngineError(
            f"{provider} was asked for and could not be loaded (ONNX Runtime would fall back to "
            f"{session.get_providers()[0]}): check the driver and the CUDA libraries."
        )


def _check_tensors(session: ort.InferenceSession, entry: GraphEntry, role: Role) -> None:
    """Compare what the graph really takes and gives with what the manifest says."""
    pairs = ((entry.inputs, session.get_inputs()), (entry.outputs, session.get_outputs()))
    for expected, found in pairs:
        said = [(t.name, t.dtype, _open_dimensions(t.shape)) for t in expected]
        real = [(t.name, _ELEMENT_TYPES.get(t.type), _open_dimensions(t.shape)) for t in found]
        if said != real:
            raise EngineError(
                f"the {role} graph does not fit the manifest: it says {said}, the "
                f"graph has {real}; export the bundle again."
            )


def _open_dimensions(shape: Sequence[int | str]) -> list[int | None]:
    return [size if isinstance(size, int) else None for size in shape]
