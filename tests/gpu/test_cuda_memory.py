"""PyCUDA's memory and stream and the driver's graphs on any CUDA device, without TensorRT."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

from edge_inspector.backends.cuda import Gpu, Graphs
from edge_inspector.backends.driver import LIBRARY

SHAPE = (4, 1024)


def _filled(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, SHAPE, dtype=np.uint8)


@pytest.fixture
def graphs(pycuda: Any) -> Graphs:
    return Graphs(ctypes.CDLL(LIBRARY))


def test_what_is_copied_in_comes_out(pycuda: Any) -> None:
    with Gpu(pycuda, mapped=False) as gpu:
        buffer = gpu.buffer(SHAPE, np.uint8)
        sent = _filled(1)
        buffer.host[...] = sent
        gpu.copy_in(buffer, len(sent))
        gpu.wait()
        buffer.host[...] = 0
        gpu.copy_out(buffer, len(sent))
        gpu.wait()
        np.testing.assert_array_equal(buffer.host, sent)


def test_a_graph_of_copies_takes_what_lies_there_at_each_launch(
    pycuda: Any, graphs: Graphs
) -> None:
    with Gpu(pycuda, mapped=False) as gpu:
        there, back = gpu.buffer(SHAPE, np.uint8), gpu.buffer(SHAPE, np.uint8)
        back.device = there.device

        def enqueue() -> None:
            gpu.copy_in(there, len(there.host))
            gpu.copy_out(back, len(back.host))

        enqueue()
        gpu.wait()
        graph = graphs.capture(gpu.stream, enqueue)
        for seed in range(20):
            there.host[...] = _filled(seed)
            graphs.launch(graph, gpu.stream)
            gpu.wait()
            np.testing.assert_array_equal(back.host, _filled(seed))
        graphs.free(graph)


def test_nothing_runs_while_it_is_captured(pycuda: Any, graphs: Graphs) -> None:
    with Gpu(pycuda, mapped=False) as gpu:
        buffer = gpu.buffer(SHAPE, np.uint8)
        buffer.host[...] = 7
        graph = graphs.capture(gpu.stream, lambda: gpu.copy_out(buffer, len(buffer.host)))
        gpu.wait()
        assert (buffer.host == 7).all()
        graphs.free(graph)


def test_an_enqueue_that_raises_leaves_a_stream_that_works(pycuda: Any, graphs: Graphs) -> None:
    def refuse() -> None:
        raise ValueError("refused")

    with Gpu(pycuda, mapped=False) as gpu:
        with pytest.raises(ValueError, match="refused"):
            graphs.capture(gpu.stream, refuse)
        buffer = gpu.buffer(SHAPE, np.uint8)
        buffer.host[...] = 9
        gpu.copy_in(buffer, len(buffer.host))
        gpu.wait()


def test_mapped_memory_has_a_device_address(pycuda: Any) -> None:
    with Gpu(pycuda, mapped=True) as gpu:
        buffer = gpu.buffer(SHAPE, np.uint8)
        assert buffer.device is None
        assert buffer.address > 0


def test_memory_is_given_back(pycuda: Any) -> None:
    with Gpu(pycuda, mapped=False):
        free, _ = pycuda.mem_get_info()
        for _ in range(3):
            with Gpu(pycuda, mapped=False) as inner:
                inner.buffer((64 << 20,), np.uint8)
        after, _ = pycuda.mem_get_info()
    assert free - after < 32 << 20


def test_two_threads_work_on_streams_of_their_own(pycuda: Any, graphs: Graphs) -> None:
    wrong: list[int] = []

    def work(seed: int) -> None:
        with Gpu(pycuda, mapped=False) as gpu:
            buffer = gpu.buffer(SHAPE, np.uint8)
            graph = graphs.capture(gpu.stream, lambda: gpu.copy_in(buffer, len(buffer.host)))
            for turn in range(50):
                buffer.host[...] = _filled(seed + turn)
                graphs.launch(graph, gpu.stream)
                gpu.wait()
                buffer.host[...] = 0
                gpu.copy_out(buffer, len(buffer.host))
                gpu.wait()
                if not np.array_equal(buffer.host, _filled(seed + turn)):
                    wrong.append(seed)
            graphs.free(graph)

    threads = [threading.Thread(target=work, args=(1000 * number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


ENDS = """
import numpy as np
from edge_inspector.backends.cuda import Gpu, load_pycuda
from edge_inspector.backends.owner import Owner

owner = Owner(lambda: Gpu(load_pycuda(), mapped=False), lambda gpu: gpu.wait(), 0.01)
owner.do(lambda gpu: gpu.buffer((1 << 20,), np.uint8) and None)
{end}
"""


@pytest.mark.parametrize("end", ["owner.close()", "", "raise KeyboardInterrupt", "1 / 0"])
def test_a_process_ends_without_an_abort_however_it_ends(pycuda: Any, end: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", ENDS.format(end=end)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert "context stack" not in ended.stderr
    assert ended.returncode >= 0 or end == "raise KeyboardInterrupt"
