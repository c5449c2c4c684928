"""Pictures of units that passed here and that the incumbent failed, at once or a little later."""

import msgspec
import pytest

from edge_inspector.records import Baseline, Inspection, Outcome, RegionVerdict
from edge_inspector.sinks.archive import HELD, RejectArchive
from tests.sinks.test_archive import HEAD, crops, reject, scores

PASS = Inspection(
    outcome=Outcome.PASS, regions=(RegionVerdict("whole", Outcome.PASS, 0.1),), anomaly_score=0.1
)


def head(unit_id, incumbent=None):
    said = None if incumbent is None else Baseline(incumbent)
    return msgspec.structs.replace(HEAD, unit_id=unit_id, incumbent=said)


def see(archive, unit_id, incumbent=None, inspection=PASS):
    archive.see(head(unit_id, incumbent), inspection, crops("whole"), scores(1))


def kept(folder):
    return sorted(file.name.split("-")[1] for file in folder.glob("*.png"))


@pytest.fixture
def archive(tmp_path):
    opened = RejectArchive(tmp_path, 100, observe=True)
    yield opened
    opened.close()


def test_a_pass_that_the_incumbent_failed_in_the_same_breath_is_kept(archive, tmp_path):
    see(archive, "a", Outcome.FAIL)
    see(archive, "b", Outcome.PASS)
    archive.close()
    assert kept(tmp_path) == ["u_s_a"]


def test_a_pass_that_the_incumbent_fails_later_is_kept_then(archive, tmp_path):
    see(archive, "a")
    see(archive, "b")
    archive.keep("u:s/a")
    archive.keep("u:s/a")
    archive.close()
    assert kept(tmp_path) == ["u_s_a"]


def test_an_incumbent_that_is_faster_is_remembered(archive, tmp_path):
    archive.keep("u:s/a")
    see(archive, "a")
    see(archive, "b")
    archive.close()
    assert kept(tmp_path) == ["u_s_a"]


def test_pictures_are_held_for_a_bounded_number_of_units(archive, tmp_path):
    for number in range(HELD + 10):
        see(archive, f"n{number}")
    archive.keep("u:s/n0")
    archive.keep("u:s/n10")
    archive.close()
    assert kept(tmp_path) == ["u_s_n10"]


def test_large_pictures_are_held_for_fewer_units(archive, tmp_path, monkeypatch):
    one = crops("whole")[0].pixels.nbytes + 16 * 16
    monkeypatch.setattr("edge_inspector.sinks.archive.HELD_BYTES", 3 * one)
    for number in range(5):
        see(archive, f"n{number}")
    for number in range(5):
        archive.keep(f"u:s/n{number}")
    archive.close()
    assert kept(tmp_path) == ["u_s_n2", "u_s_n3", "u_s_n4"]


def test_a_station_that_does_not_observe_keeps_rejects_alone(tmp_path):
    archive = RejectArchive(tmp_path, 100)
    see(archive, "a", Outcome.FAIL)
    see(archive, "b")
    archive.keep("u:s/b")
    see(archive, "c", inspection=reject("whole"))
    archive.close()
    assert kept(tmp_path) == ["u_s_c"]
