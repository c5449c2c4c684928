"""Every runner of an engine in one table."""

import pytest

from edge_inspector.bundle import open_engine, seal
from edge_inspector.errors import EngineRefused
from edge_inspector.studies import bench_backend
from tests.conftest import write_eight_bits


def test_every_runner_has_times_and_differences_or_says_why_not(tiny_engine):
    found = bench_backend.run(write_eight_bits(tiny_engine), crops=40)
    timed = {name for name, row in found["runners"].items() if "ms" in row}
    assert {"openvino", "openvino:int8", "onnxruntime", "onnxruntime:int8"} <= timed
    assert {"tensorrt", "tensorrt_rtx"} <= found["runners"].keys()
    for name, row in found["runners"].items():
        if name in timed:
            assert 0 < row["ms"]["p50"] <= row["ms"]["p99"]
            assert row["batch_16_ms"]["p50"] > 0
            assert row["differs"]["max_score_difference"] < 1e-5
        else:
            assert row["missing"]
    assert found["reference"] == "openvino"
    assert found["runners"]["openvino"]["differs"]["max_score_difference"] == 0
    for fastest, key in (("fastest", "ms"), ("fastest_batch_16", "batch_16_ms")):
        medians = {name: found["runners"][name][key]["p50"] for name in timed}
        assert medians[found[fastest]] == min(medians.values())


def test_an_engine_that_no_runtime_scores_as_training_did_is_refused(tiny_engine):
    manifest = open_engine(tiny_engine).manifest
    wrong = manifest.challenge.model_copy(update={"good_score": 0.7})
    (tiny_engine / "manifest.toml").unlink()
    seal(tiny_engine, manifest.model_copy(update={"challenge": wrong}))
    with pytest.raises(EngineRefused, match="challenge crop scores"):
        bench_backend.run(tiny_engine, crops=10)
