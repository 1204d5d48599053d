"""CUDA through its two packages, with made-up drivers below them: threads, failures, endings."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from glass_edge.runtime.machine.cuda import open_cuda
from glass_edge.runtime.machine.cuda.base import CudaError, describe
from glass_edge.runtime.machine.errors import EngineError


def in_a_new_thread(work):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


class TestCudaPython:
    @pytest.fixture
    def driver(self, monkeypatch):
        """A runtime whose second GPU is the one that the caller chose."""
        module = pytest.importorskip("glass_edge.runtime.machine.cuda.cuda_python")
        real = module.runtime
        done = (real.cudaError_t.cudaSuccess,)
        driver = SimpleNamespace(
            cudaError_t=real.cudaError_t,
            cudaGetErrorName=real.cudaGetErrorName,
            cudaGetErrorString=real.cudaGetErrorString,
            here=threading.local(),
            freed=[],
            full=False,
            broken=False,
            last_error="invalidated",
        )
        driver.here.device = 1
        properties = SimpleNamespace(name=b"Fake\0\0", major=8, minor=7)

        def set_device(device):
            driver.here.device = device
            return done

        def malloc(size):
            if driver.full:
                return (real.cudaError_t.cudaErrorMemoryAllocation, None)
            return (*done, 4096 + getattr(driver.here, "device", 0))

        def end_capture(stream):
            status = real.cudaError_t.cudaErrorStreamCaptureInvalidated
            return (status, None) if driver.broken else (*done, 70)

        def forget():
            forgotten, driver.last_error = driver.last_error, None
            return (forgotten,)

        vars(driver).update(
            cudaGetDevice=lambda: (*done, getattr(driver.here, "device", 0)),
            cudaSetDevice=set_device,
            cudaGetDeviceProperties=lambda device: (*done, properties),
            cudaMalloc=malloc,
            cudaFree=lambda address: driver.freed.append(address) or done,
            cudaStreamCreateWithFlags=lambda flags: (*done, 50),
            cudaStreamDestroy=lambda stream: driver.freed.append(stream) or done,
            cudaStreamBeginCapture=lambda stream, mode: done,
            cudaStreamEndCapture=end_capture,
            cudaGraphInstantiate=lambda graph, flags: (*done, 71),
            cudaGraphDestroy=lambda graph: driver.freed.append(graph) or done,
            cudaGraphExecDestroy=lambda graph: driver.freed.append(graph) or done,
            cudaGetLastError=forget,
        )
        monkeypatch.setattr(module, "runtime", driver)
        return driver

    def test_every_thread_uses_the_gpu_that_it_was_made_for(self, driver):
        cuda = open_cuda()
        assert describe(cuda) == "Fake (sm_87)"

        def allocate():
            with cuda.current():
                return cuda.allocate(1)

        assert in_a_new_thread(allocate) == 4097

    def test_full_memory_is_one_sentence(self, driver):
        cuda, driver.full = open_cuda(), True
        with pytest.raises(CudaError, match=r"the GPU's memory is full: use a smaller --batch-siz"):
            cuda.allocate(1)

    def test_closing_frees_what_was_made_and_only_once(self, driver):
        cuda = open_cuda()
        cuda.allocate(1)
        stream = cuda.stream()
        assert cuda.capture(stream, lambda: None) == 71
        cuda.close()
        cuda.close()
        assert sorted(driver.freed) == [50, 70, 71, 4097]

    def test_a_capture_that_fails_leaves_no_error_behind(self, driver):
        """It would be taken for that of the next call."""
        cuda, driver.broken = open_cuda(), True
        with pytest.raises(CudaError, match="cudaErrorStreamCaptureInvalidated"):
            cuda.capture(50, lambda: None)
        assert driver.last_error is None

    def test_so_does_one_of_work_that_fails(self, driver):
        def fail():
            raise EngineError("the local engine failed.")

        with pytest.raises(EngineError, match="the local engine failed"):
            open_cuda().capture(50, fail)
        assert driver.last_error is None


class Context:
    """PyCUDA's: a stack for each thread, and all work needs one on it."""

    stacks = threading.local()

    @classmethod
    def stack(cls):
        if not hasattr(cls.stacks, "contexts"):
            cls.stacks.contexts = []
        return cls.stacks.contexts

    @classmethod
    def get_current(cls):
        return cls.stack()[-1] if cls.stack() else None

    @classmethod
    def pop(cls):
        cls.stack().pop()

    def push(self):
        self.stack().append(self)

    @classmethod
    def get_device(cls):
        return SimpleNamespace(name=lambda: "Fake", compute_capability=lambda: (8, 7))


class TestPyCuda:
    @pytest.fixture
    def driver(self, monkeypatch):
        driver = ModuleType("pycuda.driver")
        driver.Error = type("Error", (Exception,), {})
        driver.MemoryError = type("MemoryError", (driver.Error,), {})
        driver.freed = []

        def check_context():
            if Context.get_current() is None:
                raise driver.Error("invalid device context")

        def allocate(size):
            check_context()
            if size > 100:
                raise driver.MemoryError("cuMemAlloc failed: out of memory")
            return 4096

        def pinned(shape, dtype):
            check_context()
            owner = SimpleNamespace(free=lambda: driver.freed.append((shape, dtype)))
            return SimpleNamespace(base=owner)

        driver.init = lambda: None
        driver.Context = Context
        driver.Device = lambda number: SimpleNamespace(retain_primary_context=Context)
        driver.mem_alloc = allocate
        driver.pagelocked_empty = pinned
        package = ModuleType("pycuda")
        package.driver = driver
        monkeypatch.setitem(sys.modules, "pycuda", package)
        monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
        monkeypatch.setitem(sys.modules, "cuda.bindings", None)
        for name in ("cuda_python", "pycuda"):
            monkeypatch.delitem(
                sys.modules, f"glass_edge.runtime.machine.cuda.{name}", raising=False
            )
        return driver

    def test_any_thread_may_use_it_and_no_context_stays_on_its_stack(self, driver):
        """One that stays ends the process when the thread does."""
        cuda = open_cuda()
        assert describe(cuda) == "Fake (sm_87)"
        assert Context.get_current() is None

        def allocate():
            with cuda.current():
                address = cuda.allocate(1)
            return address, Context.get_current()

        assert in_a_new_thread(allocate) == (4096, None)

    def test_a_context_that_the_caller_made_current_is_used(self, driver):
        callers = Context()
        callers.push()
        try:
            cuda = open_cuda()
            with cuda.current():
                assert Context.get_current() is callers
            assert Context.stack() == [callers]
        finally:
            Context.pop()

    def test_what_the_driver_says_is_an_error_of_ours(self, driver):
        cuda = open_cuda()
        with pytest.raises(CudaError, match="PyCUDA: cuStreamCreate failed"), cuda.current():
            raise driver.Error("cuStreamCreate failed")
        with pytest.raises(CudaError, match="the GPU's memory is full"), cuda.current():
            cuda.allocate(101)
        assert Context.get_current() is None

    def test_no_driver_is_one_sentence(self, driver):
        def init():
            raise driver.Error("cuInit failed: no CUDA-capable device is detected")

        driver.init = init
        with pytest.raises(CudaError, match=r"CUDA finds no GPU \(cuInit failed.*nvidia-smi"):
            open_cuda()

    def test_closing_frees_from_any_thread(self, driver):
        cuda = open_cuda()
        with cuda.current():
            cuda.pinned((2, 3), np.float32)
        in_a_new_thread(cuda.close)
        assert driver.freed == [((2, 3), np.float32)]


def test_without_a_package_for_cuda_it_says_which_to_install(monkeypatch):
    for name in ("cuda.bindings", "pycuda"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("cuda_python", "pycuda"):
        monkeypatch.delitem(sys.modules, f"glass_edge.runtime.machine.cuda.{name}", raising=False)
    with pytest.raises(EngineError, match=r"no package .* is installed: pip install cuda-python"):
        open_cuda()
