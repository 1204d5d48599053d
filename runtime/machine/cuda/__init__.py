"""One NVIDIA GPU behind a small interface, by whichever CUDA package is installed."""

from __future__ import annotations

import ctypes
import sys

from ..errors import EngineError
from .base import Cuda, CudaError

__all__ = ["Cuda", "CudaError", "gpu_present", "open_cuda"]

_NONE_INSTALLED = (
    "no package that speaks to CUDA is installed: pip install cuda-python (or pycuda, which "
    "compiles against the CUDA toolkit at hand)."
)


_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


def gpu_present() -> bool:
    """Ask the driver, if there is one, whether it has a GPU."""
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return False
    count = ctypes.c_int(0)
    return (
        driver.cuInit(0) == 0
        and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
        and count.value > 0
    )


def open_cuda() -> Cuda:
    """Use the first GPU, in the context that the caller has made current, if any.

    Raises:
        EngineError: no package, no driver, or no GPU.
    """
    try:
        from .cuda_python import CudaPython
    except ImportError:
        pass
    else:
        return CudaPython()
    try:
        from .pycuda import PyCuda
    except ImportError:
        raise EngineError(_NONE_INSTALLED) from None
    return PyCuda()
