"""What examples/triton uses of Triton's ``triton_python_backend_utils``, which is in no package.

Written from NVIDIA's documentation of the Python backend. BYTES pass through the wire format of
NVIDIA's client in both directions, as they do in Triton.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tritonclient.utils import (
    deserialize_bytes_tensor,
    np_to_triton_dtype,
    serialize_byte_tensor,
)


class Tensor:
    def __init__(self, name: str, numpy_array: np.ndarray) -> None:
        self._name = name
        self._dtype = np_to_triton_dtype(numpy_array.dtype)
        if self._dtype == "BYTES":
            content = serialize_byte_tensor(numpy_array).item()
            numpy_array = deserialize_bytes_tensor(content).reshape(numpy_array.shape)
        self._values = numpy_array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> np.ndarray:
        return self._values

    def dtype(self) -> str:
        """Return the datatype's name in the protocol. Triton's own class has a number for it."""
        return self._dtype


class InferenceRequest:
    def __init__(self, inputs: Sequence[Tensor]) -> None:
        self._inputs = inputs

    def inputs(self) -> Sequence[Tensor]:
        return self._inputs


class InferenceResponse:
    def __init__(self, output_tensors: list[Tensor]) -> None:
        self._outputs = output_tensors

    def output_tensors(self) -> list[Tensor]:
        return self._outputs


def get_input_tensor_by_name(inference_request: InferenceRequest, name: str) -> Tensor | None:
    found = (each for each in inference_request.inputs() if each.name() == name)
    return next(found, None)
