"""The bench on recording stand-ins: what it counts and compares, no speed of anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_inspector.backends import driver
from edge_inspector.backends.cuda import Graphs
from edge_inspector.backends.lanes import Lanes
from edge_inspector.backends.plans import Plan
from edge_inspector.backends.tensorrt import TensorRtSession
from edge_inspector.cli.main import main
from edge_inspector.errors import EngineRefused
from edge_inspector.studies import bench_gpu
from tests.backends import fake_gpu
from tests.backends.fake_gpu import Tensors, World

SIDE = 32


class StandIn:
    """Opens sessions on devices of its own that answer with a crop's mean grey."""

    def __init__(self, bias: float) -> None:
        self.bias = bias
        self.worlds: list[World] = []
        self.mapped: list[bool] = []

    def __call__(self, cache: Path, *, keep_warm_s: float, mapped: bool = False) -> Any:
        self.keep_warm_s = keep_warm_s
        self.mapped.append(mapped)
        return self

    def open(self, model: bytes, *, threads: int) -> TensorRtSession:
        world = World()
        world.bias = self.bias
        self.worlds.append(world)
        trt = fake_gpu.tensorrt(world, "10.3", Tensors(SIDE))
        cuda, graphs = fake_gpu.pycuda(world), Graphs(fake_gpu.libcuda(world))
        plan = Plan(b"plan", "tensorrt", (SIDE, SIDE, 1), 16, "float32", True, None)
        mapped = self.mapped[-1]
        return TensorRtSession(
            plan, lambda: Lanes(trt, cuda, plan, graphs, mapped=mapped), self.keep_warm_s
        )


def _run(engine: Path, cache: Path, backend: StandIn, **options: Any) -> dict[str, Any]:
    short = {"frames": 20, "rate_hz": 5.0, "seconds": 0.6, **options}
    return bench_gpu.run(engine, backend, cache=cache, **short)


@pytest.fixture
def grey_engine(tmp_path: Path, make_engine: Callable[..., Path]) -> Path:
    return make_engine(tmp_path / "engine", side=SIDE, level=0.0)


def test_every_figure_is_there_and_every_session_is_closed(
    tmp_path: Path, grey_engine: Path
) -> None:
    stand_in = StandIn(bias=0.0)
    found = _run(grey_engine, tmp_path, stand_in)
    assert found["parity"]["within_atol_1e-4_rtol_1e-3"]
    assert found["parity"]["graph_equals_plain"]
    assert found["parity"]["crops"] == 256
    assert set(found["wall_ms"]) == {"graph", "plain"}
    assert found["device_ms"] == {"copy_in": 0.25, "infer": 0.25, "copy_out": 0.25}
    assert list(found["batches"]) == ["1", "2", "4", "8", "16"]
    assert set(found["contexts"]) == {"1", "2", "4"}
    assert found["paced_ms"]["cold"]["warmed"] == 0 < found["paced_ms"]["warm"]["warmed"]
    assert stand_in.mapped.count(True) == 1
    assert len(stand_in.worlds) == 4 + 1 + 2 + 4
    assert all(not any(world.held.values()) for world in stand_in.worlds)


def test_a_gpu_that_answers_otherwise_is_seen(tmp_path: Path, grey_engine: Path) -> None:
    parity = _run(grey_engine, tmp_path, StandIn(bias=1.0))["parity"]
    assert not parity["within_atol_1e-4_rtol_1e-3"]
    assert parity["max_score_difference"] == pytest.approx(1 / 255, rel=0.01)


def test_a_precision_that_the_engine_lacks_is_refused(tmp_path: Path, grey_engine: Path) -> None:
    with pytest.raises(EngineRefused, match="has float32, no int8"):
        _run(grey_engine, tmp_path, StandIn(0.0), precision="int8")


def test_without_a_gpu_it_says_so_and_measures_nothing(
    grey_engine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(driver.probe, "__defaults__", (0, "libcuda-of-nowhere.so.1"))
    assert main(["bench", "gpu", "--engine", str(grey_engine)]) == 3
    told = capsys.readouterr()
    assert "no NVIDIA driver" in told.err
    assert told.out == ""
