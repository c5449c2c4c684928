"""36 parameters, each with a meaning and a unit; a wrong file says where and what."""

from pathlib import Path

import pytest

from edge_inspector.errors import DocumentError
from edge_inspector.rules.parameters import (
    BodyParameters,
    FindParameters,
    GridParameters,
    LimitParameters,
    load_rules,
)

SHIPPED = Path(__file__).resolve().parents[2] / "edge_inspector" / "rules" / "bga_simulated.toml"


def fields():
    for table in (GridParameters, BodyParameters, FindParameters, LimitParameters):
        yield from table.model_fields.items()


def test_there_are_36_as_in_the_paper():
    assert len(list(fields())) == 36


@pytest.mark.parametrize("name", [name for name, _ in fields()])
def test_each_is_described_with_its_unit(name):
    text = dict(fields())[name].description
    units = (
        "px.",
        "count.",
        "grey levels.",
        "degrees.",
        "share",
        "area",
        "Share",
        "contrast",
        "balls.",
    )
    assert len(text) > 20
    assert any(unit in text for unit in units), text


def test_an_unknown_parameter_is_named_with_its_line_and_the_nearest(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text(SHIPPED.read_text().replace("pitch_x_px", "pitch_xpx"))
    with pytest.raises(DocumentError, match="pitch_x") as caught:
        load_rules(path)
    assert caught.value.line


def test_balls_that_reach_beyond_the_crop_are_refused(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text(SHIPPED.read_text().replace("block_rows = 13", "block_rows = 20"))
    with pytest.raises(DocumentError, match="the crop is 256 px"):
        load_rules(path)


def test_a_ball_map_of_another_grid_is_refused(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text(SHIPPED.read_text() + "\n[ball_map]\ndx_px = [0.1, 0.2]\n")
    with pytest.raises(DocumentError, match="2 entries, the grid has 78 balls"):
        load_rules(path)
