"""
Contract tests of the TensorRT runner on recording stand-ins.

They show the calls that are made, their order, thread and arguments, and what follows a refused
one. They show nothing about a GPU or about TensorRT's results: tests/gpu does, where there is one.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edge_inspector.backends import driver, plans, tensorrt
from edge_inspector.backends.builder import BuildOptions
from edge_inspector.backends.cuda import Graphs
from edge_inspector.backends.lanes import Lanes, Undeserializable, sizes
from edge_inspector.backends.plans import Plan
from edge_inspector.backends.tensorrt import TensorRtSession, open_plan
from edge_inspector.bundle import open_engine
from edge_inspector.errors import (
    BackendMissing,
    Breakage,
    EdgeInspectorError,
    EngineRefused,
    Uninspectable,
)
from tests.backends import fake_gpu
from tests.backends.fake_gpu import FIRST_HANDLE, RELEASES, WORDS, Tensors, World

SIDE = 8
MOST = 5
NEVER_S = 3600.0
Open = Callable[..., TensorRtSession]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def open_session(world: World) -> Iterator[Open]:
    opened: list[TensorRtSession] = []

    def opening(
        release: str = "10.3",
        *,
        tensors: Tensors | None = None,
        graphs: bool = True,
        mapped: bool = False,
        keep_warm_s: float = NEVER_S,
        trt: ModuleType | None = None,
        plan: Plan | None = None,
    ) -> TensorRtSession:
        module = trt or fake_gpu.tensorrt(world, release, tensors)
        pycuda, calls = fake_gpu.pycuda(world), Graphs(fake_gpu.libcuda(world))
        opened_plan = plan or _plan()
        session = TensorRtSession(
            opened_plan,
            lambda: Lanes(module, pycuda, opened_plan, calls if graphs else None, mapped=mapped),
            keep_warm_s,
        )
        opened.append(session)
        return session

    yield opening
    for session in opened:
        session.close()


def _plan(*, fresh: bool = True) -> Plan:
    return Plan(b"plan", "tensorrt", (SIDE, SIDE, 1), MOST, "float32", fresh, None)


def _crops(count: int, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 1), dtype=np.uint8)


def _assert_answers(found: Mapping[str, np.ndarray], crops: np.ndarray) -> None:
    means = crops.reshape(len(crops), -1).mean(axis=1)
    assert found["score"].shape == (len(crops),)
    assert found["anomaly_map"].shape == (len(crops), 2, 2)
    np.testing.assert_allclose(found["score"], means / 255, rtol=1e-6)
    np.testing.assert_array_equal(found["anomaly_map"][:, 1, 1], means.astype(np.uint8))


def _assert_nothing_is_held(world: World) -> None:
    assert {kind: count for kind, count in world.held.items() if count} == {}


def test_lanes_are_the_powers_of_two_and_the_largest_batch() -> None:
    assert [sizes(most) for most in (1, 2, 5, 16)] == [[1], [2, 1], [5, 4, 2, 1], [16, 8, 4, 2, 1]]


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("count", [1, 2, 3, MOST, MOST + 1, 3 * MOST + 2])
def test_every_crop_gets_its_own_answer(open_session: Open, release: str, count: int) -> None:
    session = open_session(release)
    for seed in range(3):
        crops = _crops(count, seed)
        _assert_answers(session.run(crops), crops)
        _assert_answers(session.plain(crops), crops)


def test_answers_of_one_run_outlive_the_next(open_session: Open) -> None:
    session = open_session()
    first = session.run(_crops(3))
    kept = first["score"].copy()
    session.run(_crops(3, seed=9))
    np.testing.assert_array_equal(first["score"], kept)


def test_each_lane_runs_once_and_is_waited_for_before_its_capture(
    world: World, open_session: Open
) -> None:
    open_session()
    steps = ("execute_async_v3", "synchronize", "cuStreamBeginCapture_v2", "cuStreamEndCapture")
    seen = [call for call in world.calls if call in steps]
    lane = [
        "execute_async_v3",
        "synchronize",
        "cuStreamBeginCapture_v2",
        "execute_async_v3",
        "cuStreamEndCapture",
    ]
    assert seen == lane * len(sizes(MOST))
    assert len(world.arguments["create_execution_context"]) == len(sizes(MOST))


def test_stream_is_non_blocking_and_capture_thread_local(world: World, open_session: Open) -> None:
    open_session()
    assert world.arguments["Stream"] == [(1,)]
    streams = {stream for stream, mode in world.arguments["cuStreamBeginCapture_v2"] if mode == 1}
    assert len(streams) == 1
    assert min(streams) >= FIRST_HANDLE
    assert {stream for (stream,) in world.arguments["execute_async_v3"]} == streams
    assert "make_context" not in world.calls


def test_a_frame_is_one_launch_and_one_wait_without_allocation(
    world: World, open_session: Open
) -> None:
    session = open_session()
    before = len(world.calls)
    for count in (1, 2, 3, 4, 5, 1):
        session.run(_crops(count))
    assert world.calls[before:] == ["cuGraphLaunch", "synchronize"] * 6


def test_a_batch_runs_in_the_smallest_lane_that_holds_it(world: World, open_session: Open) -> None:
    session = open_session()
    for count in (1, 2, 3, 4, 5, 7):
        session.run(_crops(count))
    launched = [graph for graph, _ in world.arguments["cuGraphLaunch"]]
    of_one, of_two, of_four, of_all = launched[0], launched[1], launched[2], launched[4]
    assert len({of_one, of_two, of_four, of_all}) == 4
    assert launched == [of_one, of_two, of_four, of_four, of_all, of_all, of_two]


def test_every_call_is_made_by_one_thread_that_is_not_the_callers(
    world: World, open_session: Open
) -> None:
    session = open_session(keep_warm_s=0.01)
    session.run(_crops(2))
    _until(lambda: session.facts()["warmed"] > 0)
    session.close()
    assert len(world.threads) == 1
    assert threading.get_ident() not in world.threads
    _assert_nothing_is_held(world)


def test_all_is_freed_in_order_and_the_context_is_popped_last(
    world: World, open_session: Open
) -> None:
    session = open_session()
    before = len(world.calls)
    session.close()
    freed = world.calls[before:]
    lanes = len(sizes(MOST))
    assert freed[: 2 * lanes] == ["cuGraphExecDestroy", "execution.free"] * lanes
    assert sorted(freed[2 * lanes : -3]) == ["device.free"] * 3 + ["host.free"] * 3
    assert freed[-3:] == ["stream.free", "pop", "detach"]
    _assert_nothing_is_held(world)


def test_mapped_memory_is_read_and_written_in_place(world: World, open_session: Open) -> None:
    session = open_session(mapped=True)
    crops = _crops(3)
    _assert_answers(session.run(crops), crops)
    assert set(world.arguments["pagelocked_empty"]) == {(2,)}
    assert not {"mem_alloc", "htod", "dtoh"} & set(world.calls)
    session.close()
    _assert_nothing_is_held(world)


@pytest.mark.parametrize(
    ("name", "number", "match"),
    [
        ("deserialize_cuda_engine", 1, f"deserialize_cuda_engine gave None: {WORDS}"),
        ("create_execution_context", 2, f"create_execution_context gave None: {WORDS}"),
        ("set_input_shape", 1, r"set_input_shape of \(5, 8, 8, 1\) returned False"),
        ("set_tensor_address", 3, "set_tensor_address of 'anomaly_map' returned False"),
        ("infer_shapes", 1, "infer_shapes misses crops"),
        ("execute_async_v3", 1, f"execute_async_v3 returned False: {WORDS}"),
        ("mem_alloc", 2, "out of memory"),
        ("synchronize", 1, WORDS),
        ("Stream", 1, WORDS),
    ],
)
def test_what_is_refused_at_the_start_refuses_the_engine_and_frees_all(
    world: World, open_session: Open, name: str, number: int, match: str
) -> None:
    world.fail(name, number)
    with pytest.raises(EngineRefused, match=match):
        open_session()
    _assert_nothing_is_held(world)
    assert world.calls[-2:] == ["pop", "detach"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("execute_async_v3", "execute_async_v3 returned False"),
        ("cuStreamBeginCapture_v2", f"cuStreamBeginCapture_v2 .* fails: {WORDS}"),
        ("cuStreamEndCapture", "cuStreamEndCapture"),
        ("cuGraphInstantiateWithFlags", "cuGraphInstantiateWithFlags"),
        ("cuGraphUpload", "cuGraphUpload"),
    ],
)
def test_a_capture_that_fails_is_ended_and_its_graph_is_never_launched(
    world: World, open_session: Open, name: str, why: str
) -> None:
    world.fail(name, 2 if name == "execute_async_v3" else 1)  # of the first lane: the largest
    session = open_session()
    assert list(session.facts()["plain"]) == [MOST]
    assert re.search(why, session.facts()["plain"][MOST])
    ended = world.arguments.get("cuStreamEndCapture", [])
    begun = len(world.arguments["cuStreamBeginCapture_v2"]) - (name == "cuStreamBeginCapture_v2")
    assert len(ended) == begun
    before = len(world.calls)
    for count in (MOST, 1):
        crops = _crops(count)
        _assert_answers(session.run(crops), crops)
    plain = ["htod", "execute_async_v3", "dtoh", "dtoh", "synchronize"]
    assert world.calls[before:] == [*plain, "cuGraphLaunch", "synchronize"]
    session.close()
    _assert_nothing_is_held(world)


def test_an_engine_whose_plain_path_fails_after_its_capture_did_is_refused(
    world: World, open_session: Open
) -> None:
    world.fail("execute_async_v3", 2, 3)
    with pytest.raises(EngineRefused, match="execute_async_v3 returned False"):
        open_session()
    _assert_nothing_is_held(world)


def test_without_the_drivers_graphs_the_plain_path_serves(world: World, open_session: Open) -> None:
    session = open_session(graphs=False)
    crops = _crops(4)
    _assert_answers(session.run(crops), crops)
    assert set(session.facts()["plain"]) == set(sizes(MOST))
    assert not [name for name in world.calls if name.startswith("cu")]


def test_a_driver_without_graph_functions_is_told() -> None:
    old = fake_gpu.libcuda(World())
    del old.cuGraphInstantiateWithFlags
    with pytest.raises(Breakage, match=r"cuGraphInstantiateWithFlags.*11\.4"):
        Graphs(old)


def test_an_enqueue_that_is_refused_costs_one_unit(world: World, open_session: Open) -> None:
    session = open_session(graphs=False)
    world.fail("execute_async_v3", 1)
    with pytest.raises(Uninspectable, match=WORDS) as caught:
        session.run(_crops(2))
    assert caught.value.reason == "model_fault"
    crops = _crops(2, seed=8)
    _assert_answers(session.run(crops), crops)


@pytest.mark.parametrize("name", ["cuGraphLaunch", "synchronize"])
def test_a_lost_device_answers_its_unit_and_then_ends_the_worker(
    world: World, open_session: Open, name: str
) -> None:
    session = open_session()
    world.fail(name, 1)
    with pytest.raises(Uninspectable, match=WORDS) as caught:
        session.run(_crops(1))
    assert caught.value.reason == "model_fault"
    before = len(world.calls)
    with pytest.raises(Breakage, match=f"GPU was lost.*{WORDS}"):
        session.run(_crops(1))
    assert len(world.calls) == before
    session.close()
    _assert_nothing_is_held(world)


def test_a_lost_device_that_frees_nothing_keeps_no_other_object(
    world: World, open_session: Open
) -> None:
    session = open_session()
    world.fail("cuGraphExecDestroy", *range(1, 100))
    session.close()
    assert world.calls[-2:] == ["pop", "detach"]
    world.graphs.clear()  # the stand-in's graphs hold the contexts that they run
    assert {kind for kind, count in world.held.items() if count} == {"exec"}


def test_an_idle_session_keeps_the_device_warm_and_answers_as_ever(
    world: World, open_session: Open
) -> None:
    session = open_session(keep_warm_s=0.01)
    crops = _crops(3)
    first = session.run(crops)
    kept = first["score"].copy()
    _until(lambda: session.facts()["warmed"] >= 2)
    np.testing.assert_array_equal(first["score"], kept)
    _assert_answers(session.run(crops), crops)
    assert {graph for graph, _ in world.arguments["cuGraphLaunch"][1:-1]} == {
        world.arguments["cuGraphLaunch"][1][0]
    }


def test_a_session_with_work_runs_nothing_else(world: World, open_session: Open) -> None:
    session = open_session(keep_warm_s=0.5)
    for _ in range(20):
        session.run(_crops(1))
    assert len(world.arguments["cuGraphLaunch"]) == 20
    assert session.facts()["warmed"] == 0


def test_a_device_lost_between_triggers_is_found_by_the_warm_run(
    world: World, open_session: Open
) -> None:
    session = open_session(keep_warm_s=0.01)
    world.fail("synchronize", *range(1, 1000))
    _until(lambda: "cuGraphLaunch" in world.calls and world.calls[-1] == "synchronize")
    with pytest.raises(Breakage, match=WORDS):
        session.run(_crops(1))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: t.inputs.update(more=("UINT8", (-1, 8, 8, 1))), "2 inputs"),
        (lambda t: t.inputs.update(crops=("FLOAT", (-1, 8, 8, 1))), "the first is float32"),
        (lambda t: t.inputs.update(crops=("UINT8", (-1, -1, 8, 1))), "uint8"),
        (lambda t: t.inputs.update(crops=("UINT8", (-1, 9, 8, 1))), "takes crops of"),
        (lambda t: t.inputs.clear(), "0 inputs"),
        (lambda t: t.outputs.update(score=("FLOAT", (-1, -1))), "its shape must be known"),
        (lambda t: t.outputs.update(score=("FLOAT", (1,))), "begin with 5"),
        (lambda t: t.outputs.update(score=("BF16", (-1,))), "BF16, which numpy has not"),
        (lambda t: t.on_host.add("score"), "'score' is not in the GPU's memory"),
    ],
)
def test_an_engine_of_another_form_is_refused(
    world: World, open_session: Open, change: Callable[[Tensors], None], match: str
) -> None:
    tensors = Tensors(SIDE)
    change(tensors)
    with pytest.raises(EngineRefused, match=match):
        open_session(tensors=tensors)
    _assert_nothing_is_held(world)


def test_wrong_crops_never_reach_the_device(world: World, open_session: Open) -> None:
    session = open_session()
    before = len(world.calls)
    for crops in (np.zeros((1, 9, 8, 1), np.uint8), np.zeros((0, 8, 8, 1), np.uint8)):
        with pytest.raises(Uninspectable, match="the engine takes uint8"):
            session.run(crops)
    assert len(world.calls) == before


def test_device_times_are_of_the_three_steps(world: World, open_session: Open) -> None:
    session = open_session()
    before = len(world.calls)
    assert session.times_ms(3) == [0.25, 0.25, 0.25]
    steps = ["record", "htod", "record", "execute_async_v3", "record", "dtoh", "dtoh", "record"]
    assert world.calls[before:] == [*steps, "synchronize"]


def _rtx(world: World, capturable: bool) -> ModuleType:
    """TensorRT for RTX where it differs, by the names of its 1.7."""
    module = fake_gpu.tensorrt(world, "11.4")
    context, engine = module.IExecutionContext, module.ICudaEngine
    context.is_stream_capturable = lambda self, stream: capturable and stream >= FIRST_HANDLE

    class Config:
        dynamic_shapes_kernel_specialization_strategy = "LAZY"

    engine.create_runtime_config = lambda self: Config()
    strategy = type("Strategy", (), {"EAGER": "EAGER"})
    module.DynamicShapesKernelSpecializationStrategy = strategy  # type: ignore[attr-defined]
    return module


@pytest.mark.parametrize("capturable", [True, False])
def test_rtx_compiles_its_kernels_before_they_are_captured(
    world: World, open_session: Open, capturable: bool
) -> None:
    session = open_session(trt=_rtx(world, capturable))
    configs = [config for (config,) in world.arguments["create_execution_context"]]
    assert {c.dynamic_shapes_kernel_specialization_strategy for c in configs} == {"EAGER"}
    crops = _crops(2)
    _assert_answers(session.run(crops), crops)
    assert ("cuGraphLaunch" in world.calls) == capturable
    assert set(session.facts()["plain"]) == (set() if capturable else set(sizes(MOST)))


def test_a_real_plan_without_a_driver_is_refused_in_tensorrts_own_words(
    world: World, open_session: Open, tmp_path: Path, make_engine: Callable[..., Path]
) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    with contextlib.suppress(BackendMissing):
        driver.probe()
        pytest.skip("there is a GPU here: see tests/gpu")
    model = open_engine(make_engine(tmp_path / "engine")).model
    box = driver.Device("none", (8, 9), 1, (13, 0), "", False, "")
    options = BuildOptions(max_batch=2)
    plan = plans.obtain(trt, model, None, box, options, lambda event, **_: None)
    with pytest.raises(Undeserializable, match=r"deserialize_cuda_engine gave None: .*(?i:cuda)"):
        open_session(trt=trt, plan=plan)
    _assert_nothing_is_held(world)


def test_rtx_has_the_names_that_only_it_has() -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    assert hasattr(trt.IExecutionContext, "is_stream_capturable")
    assert hasattr(trt.ICudaEngine, "create_runtime_config")
    assert hasattr(trt.IRuntimeConfig, "dynamic_shapes_kernel_specialization_strategy")
    assert trt.DynamicShapesKernelSpecializationStrategy.EAGER is not None


def test_a_kept_plan_that_does_not_load_is_built_again_once() -> None:
    opened: list[Plan] = []
    told: list[str] = []
    plans = iter([_plan(fresh=False), _plan(fresh=True)])

    def refuse(plan: Plan) -> TensorRtSession:
        opened.append(plan)
        raise Undeserializable("it is of another version")

    with pytest.raises(EngineRefused, match="another version"):
        open_plan(lambda: next(plans), refuse, lambda event, **_: told.append(event))
    assert [plan.fresh for plan in opened] == [False, True]


def test_a_fresh_plan_that_does_not_load_is_not_built_again() -> None:
    plans = iter([_plan(fresh=True)])

    def refuse(plan: Plan) -> TensorRtSession:
        raise Undeserializable("no")

    with pytest.raises(EngineRefused, match="no"):
        open_plan(lambda: next(plans), refuse, lambda event, **_: None)


@pytest.mark.parametrize("backend", [tensorrt.TensorRt, tensorrt.TensorRtRtx])
def test_a_box_without_driver_is_told_so_before_anything_is_imported(
    monkeypatch: pytest.MonkeyPatch, backend: type[tensorrt.TensorRt]
) -> None:
    monkeypatch.setattr(driver.probe, "__defaults__", (0, "libcuda-of-nowhere.so.1"))
    monkeypatch.setattr(backend, "_module", lambda self: pytest.fail("imported before the probe"))
    with pytest.raises(EdgeInspectorError, match="no NVIDIA driver: libcuda-of-nowhere"):
        backend().open(b"", threads=1)


def _until(done: Callable[[], bool]) -> None:
    for _ in range(500):
        if done():
            return
        time.sleep(0.01)
    pytest.fail("it did not happen within five seconds")
