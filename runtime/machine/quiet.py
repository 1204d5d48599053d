"""Keeps the engines' libraries from reporting to their makers."""

from __future__ import annotations

import os
import sys


def silence_libraries() -> None:
    """Switch off the telemetry of ONNX Runtime and OpenVINO; too late once they are loaded.

    ONNX Runtime (1.29 and later, except on Windows) describes each process and model to its maker
    and keeps an identifier and a database in the user's cache. It reads this variable while it is
    loaded; ``disable_telemetry_events`` comes too late for the description of the process.

    OpenVINO reports its import through the package ``openvino_telemetry``, which keeps an
    identifier and a counter in the home folder. Its opt-out is a file there, too. NNCF, which
    ``glass-bench int8`` compares with, reports each call through the same package. Without it both
    use stubs of their own, so the package is declared missing.

    Processes started from here inherit the variable, and silence OpenVINO when they import
    glass_edge.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
