import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_inspector.bundle import open_engine
from edge_inspector.recipe import Calibration, Recipe, Region, Scale
from edge_inspector.recipe_alignment import Template
from edge_inspector.resources import Archive, Workers
from edge_inspector.settings import (
    CameraSource,
    FolderSource,
    MemorySink,
    PluginSink,
    Settings,
    ZmqSink,
    ZmqSource,
)
from edge_inspector.studies import check, check_engines
from edge_inspector.studies.findings import Finding, Station
from tests.conftest import write_class_engine, write_eight_bits

ANYWHERE = "tcp://127.0.0.1:*"
REGION = Region(name="a", rect=(0, 0, 64, 64), engine="tiny")


def zmq_source(**changes: object) -> ZmqSource:
    given = {"type": "zmq-pull", "name": "a", "endpoint": "tcp://127.0.0.1:5599", **changes}
    return ZmqSource.model_validate(given)


def station(folder: Path = Path("nowhere"), **changes: object) -> Station:
    settings = Settings.model_validate(
        {
            "station": "s",
            "recipe": folder / "recipe.toml",
            "store": folder / "state",
            "sources": (zmq_source(),),
            "workers": Workers(backends=("openvino",)),
            **{key: value for key, value in changes.items() if key in Settings.model_fields},
        }
    )
    recipe = Recipe.model_validate(
        {
            "product": "p",
            "version": 1,
            "latency_budget_ms": 1000,
            "engines": {"tiny": folder / "tiny" / "1"},
            "regions": (REGION,),
            **{key: value for key, value in changes.items() if key in Recipe.model_fields},
        }
    )
    return Station(settings, recipe)


def levels(found: Iterator[Finding]) -> list[str]:
    return [finding.level for finding in found]


def only(found: Iterator[Finding]) -> Finding:
    (finding,) = found
    return finding


def calibration(**changes: object) -> Calibration:
    given = {
        "threshold": 5.0,
        "overkill": 0.01,
        "promised_overkill": 0.0099,
        "units": 300,
        "backend": "openvino",
        "engines": {},
        "regions": {"a": Scale(center=0.0, spread=1.0)},
    }
    return Calibration.model_validate({**given, **changes})


def test_a_camera_without_a_source_fails():
    source = FolderSource(type="folder", name="a", uri="file:///x", camera="side")
    found = only(check.wires(station(sources=(source,))))
    assert found.level == "FAIL"
    assert "needs camera 'main'" in found.detail
    assert levels(check.wires(station())) == ["OK"]


def test_folders_are_tried_where_they_will_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    archive = Archive(path=tmp_path / "deep" / "rejects")
    assert levels(check.folders(station(tmp_path, archive=archive))) == ["OK", "OK"]
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_folder_that_cannot_be_written_fails():
    found = list(check.folders(station(archive=Archive(path=Path("/proc/rejects")))))
    assert [finding.level for finding in found] == ["OK", "FAIL"]
    assert "/proc/rejects cannot be written" in found[1].detail


def test_a_port_in_use_fails_and_a_free_one_does_not():
    with socket.create_server(("127.0.0.1", 0)) as holder:
        endpoint = f"tcp://127.0.0.1:{holder.getsockname()[1]}"
        busy = only(check.ports(station(sources=(zmq_source(endpoint=endpoint),))))
    assert busy.level == "FAIL"
    assert "Address already in use" in busy.detail
    assert levels(check.ports(station(sources=(zmq_source(endpoint=endpoint),)))) == ["OK"]


def test_two_sockets_on_one_port_fail():
    sink = ZmqSink(type="zmq", endpoint="tcp://127.0.0.1:5599")
    assert levels(check.ports(station(sinks=(sink,)))) == ["OK", "FAIL"]


def test_a_port_open_to_the_network_without_a_list_fails():
    source = zmq_source(endpoint="tcp://10.1.2.3:5574")
    assert "allow = [" in only(check.ports(station(sources=(source,)))).detail


def test_a_connecting_source_needs_no_port():
    assert not list(check.ports(station(sources=(zmq_source(type="zmq-sub"),))))
    bound = zmq_source(type="zmq-sub", bind=True, endpoint=ANYWHERE)
    assert levels(check.ports(station(sources=(bound,)))) == ["OK"]


def test_an_ipc_endpoint_is_not_touched(tmp_path):
    endpoint = f"ipc://{tmp_path}/frames"
    assert levels(check.ports(station(sources=(zmq_source(endpoint=endpoint),)))) == ["OK"]
    assert not list(tmp_path.iterdir())


def test_a_plugin_that_is_not_installed_fails():
    sink = PluginSink(type="no_such_package:Sink")
    found = only(check.plugins(station(sinks=(sink,))))
    assert found.level == "FAIL"
    assert "no_such_package" in found.detail


@pytest.mark.parametrize(
    ("source", "level"),
    [
        (CameraSource(type="camera", name="a", uri="/dev/video0"), ["FAIL"]),
        (zmq_source(), ["WARN"]),
        (zmq_source(msg_is="unit_id"), []),
        (FolderSource(type="folder", name="a", uri="file:///x"), []),
    ],
)
def test_frames_without_ids_must_not_drive_an_actuator(source, level):
    actuating = MemorySink(type="memory", actuates=True)
    assert levels(check.identity(station(sources=(source,), sinks=(actuating,)))) == level
    watching = MemorySink(type="memory")
    assert not list(check.identity(station(sources=(source,), sinks=(watching,))))


def test_a_source_without_clock_and_age_limit_is_warned_about():
    assert levels(check.clocks(station())) == ["WARN"]
    assert not list(check.clocks(station(sources=(zmq_source(clock="same-host"),))))
    assert not list(check.clocks(station(sources=(zmq_source(max_age_ms=50),))))


def test_a_recipe_without_threshold_fails_and_a_provisional_one_is_reported():
    assert levels(check.promise(station())) == ["FAIL"]
    assert levels(check.promise(station(calibration=calibration()))) == ["OK"]
    provisional = only(check.promise(station(calibration=calibration(provisional=True))))
    assert provisional.level == "WARN"
    assert "0.0099 at 95% confidence, from 300 good units; 0.01 was asked" in provisional.detail


def test_an_engine_is_opened_challenged_and_timed(tmp_path, make_engine):
    make_engine(tmp_path / "tiny" / "1")
    engine, budget = check_engines.engines(station(tmp_path))
    assert engine.level == "OK"
    assert engine.detail.startswith("tiny/1 ")
    assert "in openvino" in engine.detail
    assert budget.level == "OK"
    assert budget.detail.startswith("1 crops a unit take")


def test_the_budget_counts_every_cell_of_a_unit(tmp_path, make_engine):
    make_engine(tmp_path / "tiny" / "1")
    region = {"name": "a", "rect": (0, 0, 64, 64), "engine": "tiny"}
    grids = tuple(
        Region.model_validate({**region, "name": name, "grid": {"rows": 64, "columns": 64}})
        for name in ("a", "b")
    )
    *_, budget = check_engines.engines(station(tmp_path, regions=grids, latency_budget_ms=0.01))
    assert budget.level == "FAIL"
    assert budget.detail.startswith("8192 crops a unit take")


def named_station(folder, make_engine, **changes):
    """A station whose region has the tiny engine and the tiny classifier."""
    make_engine(folder / "tiny" / "1")
    write_class_engine(folder / "kinds" / "1")
    engines = {name: folder / name / "1" for name in ("tiny", "kinds")}
    region = {"name": "a", "rect": (0, 0, 64, 64), "engine": "tiny", "classifier": "kinds"}
    regions = ({**region, "grid": {"rows": 2, "columns": 2}, **changes.pop("region", {})},)
    return station(folder, engines=engines, regions=regions, **changes)


def test_a_classifier_counts_for_one_crop_of_a_unit_or_for_all(tmp_path, make_engine):
    seldom = named_station(tmp_path / "seldom", make_engine)
    always = named_station(tmp_path / "always", make_engine, region={"classify": "always"})
    assert list(check_engines.engines(seldom))[-1].detail.startswith("5 crops a unit")
    assert list(check_engines.engines(always))[-1].detail.startswith("8 crops a unit")


def test_classes_without_a_number_are_warned_about_where_a_controller_reads_numbers(
    tmp_path, make_engine
):
    gate = ({"type": "assured", "endpoint": "tcp://127.0.0.1:5571"},)
    coded = named_station(tmp_path / "a", make_engine, sinks=gate, defect_classes=("dark",))
    found = only(check_engines.classifiers(coded))
    assert found.level == "WARN"
    assert found.detail.startswith("bright, unknown have no number, so line controllers get 0")
    whole = ("dark", "bright", "unknown")
    all_of_them = named_station(tmp_path / "b", make_engine, sinks=gate, defect_classes=whole)
    watched = named_station(tmp_path / "c", make_engine)
    for one in (all_of_them, watched):
        assert only(check_engines.classifiers(one)) == Finding(
            "OK", "classifiers", "they name bright, dark, unknown"
        )


def test_an_anomaly_engine_cannot_stand_in_for_a_classifier(tmp_path, make_engine):
    found = only(
        check_engines.classifiers(
            named_station(tmp_path, make_engine, region={"classifier": "tiny"})
        )
    )
    assert found.level == "FAIL"
    assert "classifier 'tiny' is an anomaly engine" in found.detail


def test_a_station_without_classifiers_hears_nothing_of_them(tmp_path, make_engine):
    make_engine(tmp_path / "tiny" / "1")
    assert list(check_engines.classifiers(station(tmp_path))) == []


def test_a_flipped_bit_of_an_engine_fails(tmp_path, make_engine):
    folder = make_engine(tmp_path / "tiny" / "1")
    model = bytearray((folder / "model.onnx").read_bytes())
    model[100] ^= 1
    (folder / "model.onnx").write_bytes(model)
    found = only(check_engines.engines(station(tmp_path)))
    assert found.level == "FAIL"
    assert "model.onnx: sha256 is" in found.detail


def test_an_engine_that_scores_its_challenge_otherwise_fails(tmp_path, make_engine):
    make_engine(tmp_path / "tiny" / "1")
    found = only(check_engines.engines(station(tmp_path, workers=Workers(backends=("fake",)))))
    assert found.level == "FAIL"
    assert "challenge crop scores" in found.detail


def test_a_missing_engine_fails(tmp_path):
    assert "is this an engine's folder?" in only(check_engines.engines(station(tmp_path))).detail


def test_an_engine_that_the_recipe_was_not_calibrated_with_fails(tmp_path, make_engine):
    make_engine(tmp_path / "tiny" / "1")
    other = calibration(engines={"tiny": "0" * 64})
    _, mismatch, _ = check_engines.engines(station(tmp_path, calibration=other))
    assert mismatch.level == "FAIL"
    assert "calibrated with digest 0000000000000000" in mismatch.detail


def test_another_backend_than_calibrated_is_warned_about(tmp_path, make_engine):
    digest = open_engine(make_engine(tmp_path / "tiny" / "1")).digest
    other = calibration(engines={"tiny": digest}, backend="onnxruntime")
    _, mismatch, _ = check_engines.engines(station(tmp_path, calibration=other))
    assert mismatch.level == "WARN"


def test_auto_may_take_another_runtime_of_the_same_precision(tmp_path, make_engine):
    digest = open_engine(make_engine(tmp_path / "tiny" / "1")).digest
    for known in ("openvino", "onnxruntime"):
        made_in = calibration(engines={"tiny": digest}, backend=known)
        asked = Workers(backends=("auto",))
        found = check_engines.engines(station(tmp_path, calibration=made_in, workers=asked))
        assert levels(found) == ["OK", "OK"]


def test_another_precision_than_calibrated_fails(tmp_path, make_engine):
    folder = write_eight_bits(make_engine(tmp_path / "tiny" / "1"))
    known = calibration(engines={"tiny": open_engine(folder).digest}, backend="openvino:int8")
    found = only(check_engines.engines(station(tmp_path, calibration=known)))
    assert found.level == "FAIL"
    assert "calibrated in int8, openvino runs it in float32" in found.detail


def test_a_missing_alignment_picture_or_rules_file_fails(tmp_path):
    template = Template(method="template", image=tmp_path / "no.png", position=(0, 0))
    found = check.parts(station(tmp_path, alignment={"main": template}))
    assert levels(found) == ["FAIL"]


def test_a_code_without_the_package_that_reads_it_fails(tmp_path, monkeypatch):
    code = Region(name="id", rect=(0, 0, 9, 9), code="data-matrix")
    monkeypatch.setitem(sys.modules, "zxingcpp", None)
    found = only(check.parts(station(tmp_path, regions=(REGION, code))))
    assert (found.level, found.subject) == ("FAIL", "codes")
    assert "pip install 'edge-inspector[codes]'" in found.detail


def test_the_disk_is_timed_and_left_as_it_was(tmp_path):
    found = only(check.disk(station(tmp_path)))
    assert found.level in {"OK", "WARN"}
    assert "a commit takes" in found.detail
    assert not list(tmp_path.iterdir())
