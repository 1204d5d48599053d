"""Work that is shared among threads, each of which multiplies matrices."""

import numpy as np
import pytest
from glass_edge.calibration.int8.parallel import in_parallel
from glass_edge.runtime.machine.cpus import available_cpus
from threadpoolctl import threadpool_info

pytestmark = pytest.mark.usefixtures("every_cpu")  # of one alone nothing could be too many


def blas_threads() -> frozenset[int]:
    """The numbers of threads of NumPy's BLAS, and of SciPy's if that is loaded."""
    libraries = [each for each in threadpool_info() if each["user_api"] == "blas"]
    return frozenset(each["num_threads"] for each in libraries)


@pytest.mark.parametrize("most", [None, 1, 2])
def test_threads_never_multiply_with_more_threads_than_there_are_cpus(most):
    threads = available_cpus() if most is None else min(most, available_cpus())

    found = list(in_parallel(lambda _: blas_threads(), range(4), most))

    assert set(found) == {frozenset([available_cpus() // threads])}


def test_what_comes_after_multiplies_with_as_many_as_before():
    before = blas_threads()

    assert list(in_parallel(np.sqrt, [4.0, 9.0])) == [2.0, 3.0]

    assert blas_threads() == before


def test_results_come_in_order_and_errors_at_their_place():
    results = in_parallel(lambda number: 12 / number, [3, 2, 0, 1])

    assert [next(results), next(results)] == [4, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)
