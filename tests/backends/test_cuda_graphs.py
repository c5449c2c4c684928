"""The driver's graph functions called for real, in a stand-in libcuda that a C compiler makes here."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge_inspector.backends.cuda import Graphs, load_pycuda
from edge_inspector.errors import BackendMissing, Breakage

# Arguments as in cuda.h; each call checks the handles, which are wider than 32 bits.
SOURCE = """
#include <stdint.h>
#define STREAM 0x7f1234567000
#define GRAPH 0x7f2234567000
#define READY 0x7f3234567000
#define WANT(condition) if (!(condition)) return 400
int fail_end, fail_upload, destroyed_graphs, destroyed_execs, launches, begun;
int cuStreamBeginCapture_v2(intptr_t stream, int mode) {
    WANT(stream == STREAM && mode == 1); begun++; return 0; }
int cuStreamEndCapture(intptr_t stream, intptr_t *graph) {
    WANT(stream == STREAM); begun--; if (fail_end) return 901; *graph = GRAPH; return 0; }
int cuGraphInstantiateWithFlags(intptr_t *ready, intptr_t graph, unsigned long long flags) {
    WANT(graph == GRAPH && flags == 0); *ready = READY; return 0; }
int cuGraphUpload(intptr_t ready, intptr_t stream) {
    WANT(ready == READY && stream == STREAM); return fail_upload ? 2 : 0; }
int cuGraphLaunch(intptr_t ready, intptr_t stream) {
    WANT(ready == READY && stream == STREAM); launches++; return 0; }
int cuGraphExecDestroy(intptr_t ready) { WANT(ready == READY); destroyed_execs++; return 0; }
int cuGraphDestroy(intptr_t graph) { WANT(graph == GRAPH); destroyed_graphs++; return 0; }
int cuGetErrorString(int status, const char **words) {
    *words = status == 901 ? "capture was invalidated" : 0; return status != 901; }
"""
STREAM, READY = 0x7F1234567000, 0x7F3234567000


@pytest.fixture
def driver(tmp_path: Path) -> ctypes.CDLL:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler: the stand-in libcuda cannot be made")
    source, library = tmp_path / "cuda.c", tmp_path / "libcuda.so"
    source.write_text(SOURCE)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    return ctypes.CDLL(str(library))


def _counted(driver: ctypes.CDLL, name: str) -> int:
    return ctypes.c_int.in_dll(driver, name).value


def test_a_capture_is_launched_and_freed_with_whole_handles(driver: ctypes.CDLL) -> None:
    graphs = Graphs(driver)
    enqueued: list[int] = []
    ready = graphs.capture(STREAM, lambda: enqueued.append(_counted(driver, "begun")))
    graphs.launch(ready, STREAM)
    graphs.launch(ready, STREAM)
    graphs.free(ready)
    assert (ready, enqueued) == (READY, [1])
    assert [_counted(driver, n) for n in ("begun", "launches")] == [0, 2]
    assert [_counted(driver, f"destroyed_{n}") for n in ("graphs", "execs")] == [1, 1]


def test_what_enqueue_raises_ends_the_capture_and_leaves_no_graph(driver: ctypes.CDLL) -> None:
    def refuse() -> None:
        raise ValueError("refused")

    with pytest.raises(ValueError, match="refused"):
        Graphs(driver).capture(STREAM, refuse)
    assert _counted(driver, "begun") == 0
    assert [_counted(driver, f"destroyed_{n}") for n in ("graphs", "execs")] == [1, 0]


def test_the_drivers_words_are_told(driver: ctypes.CDLL) -> None:
    graphs = Graphs(driver)
    ctypes.c_int.in_dll(driver, "fail_end").value = 1
    with pytest.raises(Breakage, match=r"cuStreamEndCapture .*capture was invalidated .*901"):
        graphs.capture(STREAM, lambda: None)
    with pytest.raises(Breakage, match=r"cuGraphLaunch .*no words for .*400"):
        graphs.launch(READY + 1, STREAM)


def test_a_graph_that_cannot_be_uploaded_is_freed(driver: ctypes.CDLL) -> None:
    ctypes.c_int.in_dll(driver, "fail_upload").value = 1
    with pytest.raises(Breakage, match="cuGraphUpload"):
        Graphs(driver).capture(STREAM, lambda: None)
    assert [_counted(driver, f"destroyed_{n}") for n in ("graphs", "execs")] == [1, 1]


def test_pycuda_that_cannot_be_imported_is_told_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    with pytest.raises(BackendMissing, match=r"edge-inspector\[pycuda\]"):
        load_pycuda()
