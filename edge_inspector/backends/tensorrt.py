"""TensorRT, and TensorRT for RTX: plans of an ONNX graph on an NVIDIA GPU, through PyCUDA."""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import structlog
from numpy.typing import NDArray

from edge_inspector.backends import check_batch, driver, plans
from edge_inspector.backends.builder import BuildOptions
from edge_inspector.backends.cuda import Graphs, load_pycuda
from edge_inspector.backends.lanes import Lanes, Undeserializable
from edge_inspector.backends.owner import Owner
from edge_inspector.backends.plans import Plan
from edge_inspector.backends.trt_words import Tell
from edge_inspector.errors import BackendMissing, Breakage
from edge_inspector.records import Pixels

KEEP_WARM_S = 0.1
"""A GPU lowers its clocks when nothing runs, and the next frame pays (TensorRT issue 2042)."""


class TensorRt:
    """Opens the graph's plan from `cache`, or builds it, which takes seconds to minutes."""

    name = "tensorrt"
    remedy = "install TensorRT 10.3 or newer: see docs/tensorrt.md"

    def __init__(
        self,
        cache: Path | None = None,
        *,
        options: BuildOptions | None = None,
        tell: Tell | None = None,
        graphs: bool = True,
        mapped: bool | None = None,
        keep_warm_s: float = KEEP_WARM_S,
    ) -> None:
        """`options` as in `plans.obtain`; `mapped`: the GPU works in the host's memory."""
        self._cache = cache
        self._options = options
        self._tell = tell or structlog.get_logger("edge_inspector").info
        self._graphs = graphs
        self._mapped = mapped
        self._keep_warm_s = keep_warm_s

    def open(self, model: bytes, *, threads: int) -> TensorRtSession:
        """
        Raises `BackendMissing` without driver, device or package, `EngineRefused` for a graph.

        `threads` are the CPU's and mean nothing here.
        """
        device = driver.probe()
        trt = self._module()
        pycuda = load_pycuda()
        graphs = self._open_graphs()
        mapped = device.integrated if self._mapped is None else self._mapped

        def opened(plan: Plan) -> TensorRtSession:
            return TensorRtSession(
                plan, lambda: Lanes(trt, pycuda, plan, graphs, mapped=mapped), self._keep_warm_s
            )

        def obtain() -> Plan:
            return plans.obtain(trt, model, self._cache, device, self._options, self._tell)

        session = open_plan(obtain, opened, self._tell)
        self._tell("tensorrt_opened", module=self.name, device=device.name, **session.facts())
        return session

    def _module(self) -> ModuleType:
        try:
            return importlib.import_module(self.name)
        except ImportError as error:
            raise BackendMissing(f"{error}; {self.remedy}") from error

    def _open_graphs(self) -> Graphs | None:
        if not self._graphs:
            return None
        try:
            return Graphs(ctypes.CDLL(driver.LIBRARY))
        except Breakage as error:
            self._tell("tensorrt_without_graphs", why=str(error))
            return None


class TensorRtRtx(TensorRt):
    """The same with TensorRT for RTX, which is on the public package index."""

    name = "tensorrt_rtx"
    remedy = "install the extra 'edge-inspector[tensorrt-rtx]'"


class TensorRtSession:
    """One plan on its owner thread, which keeps the device warm while nothing is asked."""

    def __init__(self, plan: Plan, opening: Callable[[], Lanes], keep_warm_s: float) -> None:
        self._shape = plan.shape
        self._owner = Owner(opening, Lanes.keep_warm, keep_warm_s)

    def run(self, batch: Pixels) -> Mapping[str, NDArray[Any]]:
        """Infer crops, uint8 (n, h, w, c); raises `Uninspectable`, `Breakage` for a lost GPU."""
        check_batch(batch, self._shape)
        return self._owner.do(lambda lanes: lanes.run(batch))

    def plain(self, batch: Pixels) -> Mapping[str, NDArray[Any]]:
        """The same without the graph, to compare with it."""
        check_batch(batch, self._shape)
        return self._owner.do(lambda lanes: lanes.run(batch, graph=False))

    def times_ms(self, count: int) -> list[float]:
        """The device's time for copy in, inference and copy out of a batch, without a graph."""
        return self._owner.do(lambda lanes: lanes.times_ms(count))

    def facts(self) -> dict[str, Any]:
        """What may be of interest of it: see `Lanes`."""
        return self._owner.do(
            lambda lanes: {
                "warmed": lanes.warmed,
                "plain": dict(lanes.plain),
                "precision_confirmed": lanes.precision_confirmed,
            }
        )

    def close(self) -> None:
        """Free all on the thread that took it; again does nothing."""
        self._owner.close()


def open_plan(
    obtain: Callable[[], Plan], opened: Callable[[Plan], TensorRtSession], tell: Tell
) -> TensorRtSession:
    """A session of the plan; a kept one that does not load is forgotten and built again, once."""
    plan = obtain()
    try:
        return opened(plan)
    except Undeserializable as error:
        if plan.fresh:
            raise
        plans.forget(plan, str(error), tell)
    return opened(obtain())
