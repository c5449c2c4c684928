from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from edge_inspector.backends import precision_of
from edge_inspector.bundle import open_engine
from edge_inspector.channel import Failed, Ready, WorkerConfig
from edge_inspector.choice import Runtimes
from edge_inspector.engines import crop_counts, open_engines
from edge_inspector.errors import EngineRefused
from edge_inspector.inspector import open_inspector
from edge_inspector.recipe import Recipe, load_recipe
from edge_inspector.slots import create
from tests.conftest import write_eight_bits
from tests.core_side import CoreSide
from tests.integration.conftest import write_recipe

CELLS = {"rows": 2, "columns": 2}


@pytest.fixture
def recipe(tmp_path: Path, tiny_engine: Path, tiny_classifier: Path):
    """A recipe of an engine with a model in eight bits and a classifier without one."""
    write_eight_bits(tiny_engine)
    regions = [
        {"name": "a", "rect": [0, 0, 32, 32], "engine": "tiny", "classifier": "kinds"},
        {"name": "b", "rect": [0, 0, 64, 64], "engine": "tiny", "grid": CELLS},
    ]
    engines = {"kinds": str(tiny_classifier), "tiny": str(tiny_engine)}

    def made(calibrated_in: str | None = None) -> Recipe:
        found = load_recipe(
            write_recipe(tmp_path, tiny_engine, {"engines": engines, "regions": regions})
        )
        calibration = found.calibration
        if calibrated_in is not None and calibration is not None:
            calibration = calibration.model_copy(update={"backend": calibrated_in})
        return found.model_copy(update={"calibration": calibrated_in and calibration})

    return made


def opened(recipe: Recipe, *backends: str, store: Path | None = None) -> str:
    with ExitStack() as stack:
        return open_engines(recipe, Runtimes(backends, 1, store), stack).backend


@pytest.mark.parametrize("calibrated_in", ["openvino:int8", "onnxruntime:int8"])
def test_auto_keeps_to_the_precision_of_the_calibration(recipe, calibrated_in):
    assert opened(recipe(calibrated_in), "auto").endswith(":int8")


def test_auto_keeps_to_the_reference_where_that_was_calibrated(recipe):
    assert opened(recipe("openvino"), "auto") in ("openvino", "onnxruntime")


def test_auto_is_free_before_calibration(recipe, tmp_path):
    opened(recipe(), "auto", store=tmp_path)
    digest = open_engine(recipe().engines["tiny"]).digest
    measured = json.loads((tmp_path / "runners" / f"{digest[:16]}-1x5.json").read_text())
    assert {"openvino", "openvino:int8", "onnxruntime", "onnxruntime:int8"} <= measured[
        "times_ms"
    ].keys()


@pytest.mark.parametrize(
    ("calibrated_in", "backend", "words"),
    [
        ("openvino", "openvino:int8", "calibrated in float32, openvino:int8 runs it in int8"),
        ("openvino:int8", "openvino", "calibrated in int8, openvino runs it in float32"),
    ],
)
def test_thresholds_of_another_precision_are_refused(recipe, calibrated_in, backend, words):
    with pytest.raises(EngineRefused, match=f"{words}.*calibrate --backend {backend}"):
        opened(recipe(calibrated_in), backend, "openvino", "onnxruntime")


def test_an_engine_without_the_precision_is_judged_in_the_reference(recipe):
    assert opened(recipe("openvino:int8"), "openvino:int8", "openvino") == "openvino:int8"


def test_without_a_wish_the_precision_of_the_calibration_serves(recipe):
    for known in ("openvino", "onnxruntime:int8"):
        with open_inspector(recipe(known)) as inspector:
            assert precision_of(inspector.backend) == ("openvino", precision_of(known)[1])


def test_crops_are_counted_by_engine_and_camera(recipe):
    assert crop_counts(recipe()) == {("tiny", "main"): 5, ("kinds", "main"): 1}


def test_a_worker_says_once_what_it_chose(recipe, tmp_path, tiny_engine):
    path = write_recipe(tmp_path, tiny_engine)
    config = WorkerConfig(
        recipe=str(path),
        backends=("auto",),
        threads=1,
        slot_bytes=4096,
        memory_mib=8192,
        max_pixels=4096,
        store=str(tmp_path / "store"),
    )
    text = msgspec.json.encode(config).decode()
    said = []
    for _ in range(2):
        side = CoreSide(("-m", "edge_inspector.worker"), text, slots=create(4, 4096))
        message = side.message(Ready, Failed, timeout_s=60)
        assert isinstance(message, Ready), message
        said.append(message.detail)
        side.started = message
        side.close()
    assert "nothing was measured yet" in said[0]
    assert "is the fastest of" in said[0]
    assert said[1] == said[0].partition(";")[0]
