import numpy as np
import pytest

from edge_inspector.records import FrameHead, FrameKey
from edge_inspector.studies.recorded import Recording
from edge_inspector.wire.incumbent import read_incumbent
from tests.training.conftest import unit

SIDE = 96
STATION = """station = "t"
recipe = "recipe.toml"
[[sources]]
name = "s"
type = "zmq-pull"
endpoint = "tcp://127.0.0.1:5574"
"""
RECIPE = """product = "four"
version = 1
latency_budget_ms = 100
[engines]
cell = "engines/cell/1"
[[regions]]
name = "all"
rect = [2, 2, 92, 92]
grid = { rows = 2, columns = 2 }
engine = "cell"
"""


def picture(rng, defect=False, side=SIDE):
    """A unit of four balls, larger than those that training is tested with."""
    return unit(rng, defect, side, near=26, radius=9)


def record(folder, pictures, said=None, cameras=("main",)):
    """A recorded folder; `said` gives what the incumbent said of unit number n."""
    with Recording(folder, len(pictures), quota_bytes=1 << 30, reserve_bytes=0) as recording:
        for number, pixels in enumerate(pictures):
            for place, camera in enumerate(cameras):
                word = said(number) if said else None
                head = FrameHead(
                    key=FrameKey("s", "1", 2 * number + place),
                    station="t",
                    camera=camera,
                    recipe="",
                    arrived_ns=0,
                    time_zero_ns=number,
                    unit_id=f"u{number}",
                    incumbent=read_incumbent(word) if word else None,
                )
                recording.add(head, pixels)
    return folder


@pytest.fixture(scope="session")
def recorded_units(tmp_path_factory):
    """
    100 recorded units with a station and a recipe beside them.

    The first three lack a ball and nobody noticed; every tenth lacks one and the incumbent failed it.
    """
    folder = tmp_path_factory.mktemp("line")
    rng = np.random.default_rng(3)
    pictures = [picture(rng, defect=n < 3 or n % 10 == 9) for n in range(100)]
    record(folder / "recorded", pictures, lambda n: "fail:missing" if n % 10 == 9 else "pass")
    (folder / "station.toml").write_text(STATION, encoding="utf-8")
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return folder


@pytest.fixture
def draw():
    return picture


@pytest.fixture
def recording():
    return record
