"""A glass-edge bundle as a model of Triton's Python backend.

IMAGE holds image files, one in each row of the batch. SCORE is P(fake) of each, and RECORD its
record as JSON. An image that cannot be judged has the score NaN and an error record; it does not
fail the request.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from typing import Any

import msgspec
import numpy as np
import triton_python_backend_utils as pb_utils

from glass_edge import Detector, Record, Verdict


class TritonPythonModel:
    """Called by Triton: once to begin, then with the requests of each batch."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the bundle that the parameter ``bundle`` of config.pbtxt names."""
        parameters = json.loads(args["model_config"])["parameters"]
        self.detector = Detector(parameters["bundle"]["string_value"])

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Judge the images of all requests together, and answer each request.

        If the engine fails, the exception makes Triton answer every request with its message.
        """
        images = [images_of(request) for request in requests]
        judged = self.detector.stream(image for each in images for image in each)
        with judged as records:
            return [answer(list(islice(records, len(each)))) for each in images]


def images_of(request: Any) -> list[bytes]:
    """Return a request's image files."""
    tensor = pb_utils.get_input_tensor_by_name(request, "IMAGE")
    return [*tensor.as_numpy().ravel()]


def answer(records: Sequence[Record]) -> Any:
    """Return the response with the records of a request's images."""
    scores = [each.score if isinstance(each, Verdict) else np.nan for each in records]
    texts = [msgspec.json.encode(each) for each in records]
    tensors = {"SCORE": np.array(scores, np.float32), "RECORD": np.array(texts, np.object_)}
    return pb_utils.InferenceResponse(
        [pb_utils.Tensor(name, values.reshape(-1, 1)) for name, values in tensors.items()]
    )
