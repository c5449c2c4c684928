"""Plans built for real with TensorRT for RTX, without a GPU: none is loaded or run here."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge_inspector.backends import builder, trt_words
from edge_inspector.backends.builder import BuildOptions, built, give_timing, take_timing
from edge_inspector.backends.driver import Device
from edge_inspector.backends.plans import Plan, check_precision, forget, obtain, passed
from edge_inspector.errors import BackendMissing, EngineRefused

onnx = pytest.importorskip("onnx", reason="graphs are made with the onnx package")
REASON = "plans are built with tensorrt_rtx; tests/setup_trt.sh installs it where it has wheels"
ORIN = Device("Orin", (8, 7), 14, (12, 6), "540.4", True, "ab" * 16)


@pytest.fixture(scope="module")
def trt():
    return pytest.importorskip("tensorrt_rtx", reason=REASON)


class Told(list[tuple[str, dict[str, Any]]]):
    def __call__(self, event: str, **facts: Any) -> None:
        self.append((event, facts))

    def reasons(self) -> list[str]:
        return [facts["reason"] for _, facts in self if "reason" in facts]


def convolution(
    given: Sequence[Any] = ("n", 16, 16, 1),
    kind: str = "UINT8",
    operator: str = "Relu",
    inner: str = "FLOAT",
    quantised: str | None = None,
) -> bytes:
    """A graph as engines have it, with one convolution."""
    helper, types = onnx.helper, onnx.TensorProto
    precision = getattr(types, inner)
    weights = np.random.default_rng(0).normal(size=(4, 1, 3, 3)).ravel()
    stored = [
        helper.make_tensor("weights", precision, (4, 1, 3, 3), weights),
        helper.make_tensor("axes", types.INT64, (3,), [1, 2, 3]),
    ]
    nodes = [
        helper.make_node("Cast", ["crops"], ["pixels"], to=precision),
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
    ]
    read = ["planes", "weights"]
    if quantised is not None:
        stored.append(helper.make_tensor("scale", types.FLOAT, (), [0.02]))
        stored.append(helper.make_tensor("zero", getattr(types, quantised), (), [0]))
        for name in ("planes", "weights"):
            for operation, given_name, made in (
                ("QuantizeLinear", name, f"{name} q"),
                ("DequantizeLinear", f"{name} q", f"{name} dq"),
            ):
                nodes.append(helper.make_node(operation, [given_name, "scale", "zero"], [made]))
        read = ["planes dq", "weights dq"]
    nodes += [
        helper.make_node("Conv", read, ["seen"], name="seeing"),
        helper.make_node(operator, ["seen"], ["shown"], name="showing"),
        helper.make_node("ReduceMax", ["shown", "axes"], ["peak"], keepdims=0),
        helper.make_node("Cast", ["peak"], ["score"], to=types.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("crops", getattr(types, kind), given)],
        [helper.make_tensor_value_info("score", types.FLOAT, [given[0]])],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    return bytes(model.SerializeToString())


MODEL = convolution()


def obtained(trt, cache: Path | None, tell: Any = None, **changed: Any) -> Plan:
    device = replace(ORIN, **{k: v for k, v in changed.items() if hasattr(ORIN, k)})
    options = BuildOptions(**{k: v for k, v in changed.items() if not hasattr(ORIN, k)})
    return obtain(trt, MODEL, cache, device, options, Told() if tell is None else tell)


def test_a_plan_is_built_once_and_read_after_that(trt, tmp_path: Path) -> None:
    told = Told()
    first = obtained(trt, tmp_path / "plans", told)
    second = obtained(trt, tmp_path / "plans", told)
    assert (first.fresh, second.fresh) == (True, False)
    assert second == replace(first, fresh=False)
    assert (first.shape, first.max_batch, first.precision) == ((16, 16, 1), 16, "float32")
    assert [event for event, _ in told] == ["plan_building", "plan_built"]
    assert told.reasons() == ["no plan of this model is kept"]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"driver": "580.1"}, "driver was 540.4, is 580.1"),
        ({"name": "L4", "compute_capability": (8, 9)}, "gpu was Orin, is L4; compute_capability"),
        ({"multiprocessors": 8}, "multiprocessors was 14, is 8"),
        ({"max_batch": 4}, "max_batch was 16, is 4"),
        ({"tf32": True}, "tf32 was False, is True"),
    ],
)
def test_why_a_plan_is_built_again_is_told(trt, tmp_path: Path, changed, reason) -> None:
    obtained(trt, tmp_path)
    told = Told()
    assert obtained(trt, tmp_path, told, **changed).fresh
    assert told.reasons()[0].startswith(reason)


def test_a_station_takes_the_plan_that_was_built_last_with_whatever_options(
    trt, tmp_path: Path
) -> None:
    obtained(trt, tmp_path, max_batch=4)
    obtained(trt, tmp_path, max_batch=64)
    told = Told()
    found = obtain(trt, MODEL, tmp_path, ORIN, None, told)
    assert (found.max_batch, found.fresh, told) == (64, False, [])
    assert found.kept is not None
    os.truncate(found.kept, 100)
    again = obtain(trt, MODEL, tmp_path, ORIN, None, told)
    assert (again.max_batch, again.fresh) == (64, True)


def test_a_station_builds_with_the_usual_options_where_nothing_is_kept(trt, tmp_path: Path) -> None:
    found = obtain(trt, MODEL, tmp_path, ORIN, None, Told())
    assert (found.max_batch, found.fresh) == (BuildOptions().max_batch, True)
    other = obtain(trt, MODEL, tmp_path, replace(ORIN, name="L4"), None, Told())
    assert other.fresh


def test_a_new_release_of_tensorrt_builds_again(trt, tmp_path: Path, monkeypatch) -> None:
    obtained(trt, tmp_path)
    monkeypatch.setattr(trt, "__version__", "1.8.0.1")
    told = Told()
    assert obtained(trt, tmp_path, told).fresh
    assert told.reasons() == ["version was 1.7.1.116, is 1.8.0.1"]


def test_a_damaged_plan_is_built_again(trt, tmp_path: Path) -> None:
    first = obtained(trt, tmp_path)
    assert first.kept is not None
    os.truncate(first.kept, 100)
    told = Told()
    again = obtained(trt, tmp_path, told)
    assert again.fresh
    assert "has 100 bytes" in told.reasons()[0]
    assert not obtained(trt, tmp_path).fresh


def test_a_plan_that_does_not_load_is_forgotten(trt, tmp_path: Path) -> None:
    told = Told()
    plan = obtained(trt, tmp_path)
    forget(plan, "TensorRT loads it not", told)
    assert told.reasons() == ["TensorRT loads it not"]
    assert obtained(trt, tmp_path).fresh


def test_what_parity_found_stands_in_the_sidecar(trt, tmp_path: Path) -> None:
    plan = obtained(trt, tmp_path)
    passed(plan, score=1e-5)
    assert plan.kept is not None
    assert json.loads(plan.kept.with_suffix(".json").read_text())["parity"] == {"score": 1e-5}
    assert not obtained(trt, tmp_path).fresh


def test_without_a_folder_nothing_is_kept(trt) -> None:
    told = Told()
    plan = obtained(trt, None, told)
    assert plan.kept is None
    assert "no folder is given" in told.reasons()[0]
    forget(plan, "it does not matter", told)
    passed(plan, score=0.0)


def test_a_folder_that_cannot_be_written_costs_a_build_and_no_more(trt, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    told = Told()
    plan = obtained(trt, tmp_path / "file" / "plans", told)
    assert plan.fresh
    assert plan.kept is None
    assert "plans cannot be kept: [Errno 20] Not a directory" in told.reasons()[0]


def test_a_full_disk_costs_a_build_and_no_more(trt, tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        fresh, kept, events = pool.apply(_obtain_in_little_room, (tmp_path,))
    assert (fresh, kept) == (True, None)
    assert events == ["plan_building", "plan_built", "plan_not_kept"]
    assert not list(tmp_path.glob("*.plan*"))


def _obtain_in_little_room(folder: Path) -> tuple[bool, Path | None, list[str]]:
    import resource
    import signal

    import tensorrt_rtx

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    told = Told()
    plan = obtained(tensorrt_rtx, folder, told)
    return plan.fresh, plan.kept, [event for event, _ in told]


def test_two_builders_at_once_build_once(trt, tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.map(_obtain, [tmp_path] * 2, chunksize=1)
    assert sorted(fresh for fresh, _ in found) == [False, True]
    assert len({raw for _, raw in found}) == 1


def _obtain(folder: Path) -> tuple[bool, bytes]:
    import tensorrt_rtx

    plan = obtained(tensorrt_rtx, folder)
    return plan.fresh, plan.raw


@pytest.mark.parametrize(
    ("model", "precision"),
    [
        (convolution(), "float32"),
        (convolution(inner="FLOAT16"), "float16"),
        (convolution(inner="BFLOAT16"), "bfloat16"),
        (convolution(quantised="INT8"), "int8"),
        (convolution(quantised="FLOAT8E4M3FN"), "fp8"),
    ],
)
def test_the_graphs_own_precision_is_the_plans(trt, model: bytes, precision: str) -> None:
    assert built(trt, model, BuildOptions(), Told()).precision == precision


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            b"garbage",
            r"tensorrt_rtx cannot run this graph: .*Failed to parse the ONNX model\.; export it again",
        ),
        (b"", r"the graph has no input; export it again"),
        (convolution(operator="Levitate"), r"cannot run this graph: node showing \(Levitate\): "),
        (convolution(("n", "h", "w", 1)), r"the first is uint8 \('any', 'any', 'any', 1\).*n free"),
        (convolution((8, 16, 16, 1)), r"takes batches of 8 crops alone; export it again with n fr"),
        (
            convolution(kind="FLOAT"),
            r"the first is float \('any', 16, 16, 1\); an engine takes one",
        ),
    ],
)
def test_a_graph_that_cannot_be_a_plan_is_refused_in_words(trt, model, words) -> None:
    with pytest.raises(EngineRefused, match=words):
        built(trt, model, BuildOptions(), Told())


def test_batches_that_contradict_each_other_are_refused_in_tensorrts_words(trt) -> None:
    with pytest.raises(EngineRefused, match=r"batches of \(1, 4, 2\): .* satisfy MIN<=OPT<=MAX"):
        built(trt, MODEL, BuildOptions(max_batch=2, optimal_batch=4), Told())


def test_a_build_says_how_far_it_is(trt, monkeypatch) -> None:
    monkeypatch.setattr(trt_words, "EVERY_NS", 0)
    told = Told()
    built(trt, MODEL, BuildOptions(), told)
    steps = [(facts["step"], facts["of"]) for event, facts in told if event == "plan_progress"]
    assert steps
    assert all(1 <= step <= of for step, of in steps)


def test_ctrl_c_ends_a_build(trt, monkeypatch) -> None:
    monkeypatch.setattr(trt_words, "EVERY_NS", 0)

    def tell(event: str, **facts: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        built(trt, MODEL, BuildOptions(), tell)


def test_a_reader_that_is_gone_ends_no_build(trt, monkeypatch) -> None:
    monkeypatch.setattr(trt_words, "EVERY_NS", 0)

    def tell(event: str, **facts: Any) -> None:
        raise BrokenPipeError

    assert built(trt, MODEL, BuildOptions(), tell).raw


def test_times_of_kernels_go_in_and_out_of_a_builder(trt) -> None:
    """RTX keeps none, but has the same calls."""
    log = trt_words.logger(trt)
    config = trt.Builder(log).create_builder_config()
    with pytest.warns(DeprecationWarning, match="no-ops"):
        give_timing(config, b"", log)
    with pytest.warns(DeprecationWarning, match="no-ops"):
        learned = take_timing(config)
    with pytest.warns(DeprecationWarning, match="no-ops"):
        give_timing(config, learned, log)


@pytest.mark.parametrize(
    ("module", "version"),
    [
        ("tensorrt", "10.2.0"),
        ("tensorrt", "8.6.1"),
        ("tensorrt", "12.0.0"),
        ("tensorrt_rtx", "2.0"),
    ],
)
def test_releases_that_are_not_known_are_refused(module: str, version: str) -> None:
    release: Any = SimpleNamespace(__name__=module, __version__=version)
    with pytest.raises(BackendMissing, match=f"{module} is {version}; install one from"):
        trt_words.check_version(release)


@pytest.mark.parametrize(
    ("module", "version"),
    [
        ("tensorrt", "10.3.0"),
        ("tensorrt", "10.16.2.1"),
        ("tensorrt", "11.4.1"),
        ("tensorrt_rtx", "1.7.1.116"),
    ],
)
def test_releases_that_are_known_are_taken(module: str, version: str) -> None:
    trt_words.check_version(SimpleNamespace(__name__=module, __version__=version))  # type: ignore[arg-type]


class Silent:
    """What of a module without its libraries is there: a factory that gives a null pointer."""

    __name__ = "tensorrt"

    class ILogger:
        ERROR, INTERNAL_ERROR = 0, 1

        def __init__(self) -> None:
            """As the bindings'."""

        def log(self, severity: int, message: str) -> None:
            """Overridden."""

    def Builder(self, log: Any) -> Any:  # noqa: N802
        log.log(0, "Unable to load library:\n libnvinfer_builder_resource_sm86.so.11.4.1")
        raise TypeError("pybind11::init(): factory function returned nullptr")


def test_a_builder_that_does_not_start_says_why() -> None:
    release: Any = Silent()
    with pytest.raises(
        BackendMissing, match=r"does not start: Unable to load library: libnvinfer_b"
    ):
        built(release, MODEL, BuildOptions(), Told())


class Timed:
    """A configuration that takes no times of another device."""

    def __init__(self, *taken: bytes) -> None:
        self.taken = taken
        self.given: list[bytes] = []

    def create_timing_cache(self, raw: bytes) -> bytes | None:
        return raw

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.given.append(cache)
        return cache in self.taken


def test_times_of_another_device_are_left_aside() -> None:
    log = SimpleNamespace(last=lambda: "the timing cache is disabled")
    config = Timed(b"")
    give_timing(config, b"of another", log)
    assert config.given == [b"of another", b""]
    with pytest.raises(EngineRefused, match="takes no timing cache: the timing cache is disabled"):
        give_timing(Timed(), b"", log)


class Inspected:
    """What of an engine the inspector says, as the documents of 10.x and 11.x write it."""

    def __init__(self, *types: str) -> None:
        layers = [{"Name": "half_int8", "Inputs": [{"Format/Datatype": name}]} for name in types]
        self.text = json.dumps({"Layers": layers, "I/O Tensors": ["crops"]})

    def create_engine_inspector(self) -> Inspected:
        return self

    def get_engine_information(self, form: Any) -> str:
        return self.text


NAMES: Any = SimpleNamespace(
    __name__="tensorrt", LayerInformationFormat=SimpleNamespace(JSON="json")
)


@pytest.mark.parametrize(
    ("precision", "types"),
    [
        ("float16", ("UInt8", "Half", "Float")),
        ("float16", ("Two wide channel vectorized row major FP16 format",)),
        ("int8", ("Int8 NC/4HW4", "Float")),
        ("float32", ("Float",)),
        ("bfloat16", ("BFloat16",)),
        ("fp8", ("FP8",)),
    ],
)
def test_the_inspector_confirms_a_precision(precision, types) -> None:
    assert check_precision(NAMES, Inspected(*types), precision)


@pytest.mark.parametrize(
    ("precision", "types"),
    [("float16", ("Float",)), ("int8", ("UInt8", "Half")), ("fp8", ("Int8",))],
)
def test_another_precision_than_the_graphs_is_refused(precision, types) -> None:
    with pytest.raises(EngineRefused, match=f"the graph asks for {precision}"):
        check_precision(NAMES, Inspected(*types), precision)


def test_an_inspector_that_names_no_types_confirms_nothing() -> None:
    assert not check_precision(NAMES, Inspected(), "float16")


def test_the_lowest_type_of_a_graph_is_its_precision() -> None:
    def layer(*names: str) -> Any:
        outputs = [SimpleNamespace(dtype=SimpleNamespace(name=name)) for name in names]
        return SimpleNamespace(num_outputs=len(outputs), get_output=outputs.__getitem__)

    layers = [layer("FLOAT"), layer("INT32", "HALF"), layer("INT8"), layer("UINT8")]
    network = SimpleNamespace(num_layers=len(layers), get_layer=layers.__getitem__)
    assert builder.precision_of(network) == "int8"
