"""TensorRT's compiler, which needs no GPU."""

from __future__ import annotations

import pytest
from glass_edge.runtime import Bundle
from glass_edge.runtime.manifest import ROLES


def build_with_tensorrt(bundle: Bundle) -> None:
    """Parse and build with a profile of dynamic batches, strongly typed, without a GPU."""
    trt = pytest.importorskip("tensorrt_rtx")
    for role in ROLES:
        logger = trt.Logger(trt.Logger.ERROR)
        builder = trt.Builder(logger)
        flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        network = builder.create_network(flags)
        parser = trt.OnnxParser(network, logger)
        parsed = parser.parse_from_file(str(bundle.graph_path(role)))
        assert parsed, [parser.get_error(i).desc() for i in range(parser.num_errors)]
        profile = builder.create_optimization_profile()
        for index in range(network.num_inputs):
            tensor = network.get_input(index)
            shapes = [
                [size if axis == 0 else 6 if extent < 0 else extent
                 for axis, extent in enumerate(tensor.shape)]
                for size in (1, 4, 8)
            ]  # fmt: skip
            profile.set_shape(tensor.name, *shapes)
        config = builder.create_builder_config()
        config.add_optimization_profile(profile)
        assert builder.build_serialized_network(network, config), role
