"""What repeats on good crops becomes a tool, what does not is left out, and a few bad crops do not matter."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge_inspector.errors import DataError, DocumentError
from edge_inspector.records import Crop, Roi
from edge_inspector.rules.tool_scorer import ToolScorer
from edge_inspector.rules.tools import load_tools
from edge_inspector.studies.learn_parts import find_blobs, find_calipers, name_parts
from edge_inspector.studies.learn_tools import learn_tools, write_tools

cv2.setNumThreads(1)


def traces(rng, *, width=6.0, noise=3.0, at=24.0, gone=False):
    """A dark trace down a bright crop, its edges drawn to parts of a px, and one across."""
    x = np.arange(64) + 0.5
    edges = np.clip(x - at, 0, 1) - np.clip(x - at - width, 0, 1)
    picture = 210.0 - 150.0 * np.tile(edges, (64, 1))
    if gone:
        picture[28:36, 20:34] = 210.0
    return np.clip(picture + rng.normal(0, noise, picture.shape), 0, 255).astype(np.uint8)


def dots(rng, places, radius=4.0):
    picture = np.full((64, 64), 60, np.uint8)
    for x, y in places:
        cv2.circle(picture, (round(16 * x), round(16 * y)), round(16 * radius), 200, -1, 16, 4)
    return np.clip(picture + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)


FOUR = ((16, 16), (44, 16), (16, 44), (44, 44))


def score(tools, pixels):
    box = (0, 0, tools.width, tools.height)
    return ToolScorer(tools).score([Crop(Roi("r", "main", box), pixels, box)])[0]


def test_a_trace_has_no_blobs_but_a_width_that_is_learned_and_measured():
    rng = np.random.default_rng(2)
    tools = learn_tools([traces(rng, at=24 + rng.uniform(-1, 1)) for _ in range(40)])
    assert "width_px" in tools.used
    assert tools.left_out["blobs"]
    narrow = score(tools, traces(rng, width=4.5))
    assert narrow.defect_class == "width"
    (width,) = (finding.words for finding in narrow.findings if finding.kind == "width")
    said, learned = (float(part.split(" ")[-1]) for part in width.split(" px")[:2])
    assert learned == pytest.approx(6.0, abs=0.1)
    assert said == pytest.approx(4.5, abs=0.25)
    assert narrow.anomaly_score > 1
    assert score(tools, traces(rng)).anomaly_score < 1.5


def test_an_edge_that_is_gone_is_said_to_be_gone():
    rng = np.random.default_rng(2)
    tools = learn_tools([traces(rng) for _ in range(40)])
    assert score(tools, traces(rng, gone=True)).anomaly_score > 2


def test_crops_with_nothing_in_common_give_no_tool_and_say_why(tmp_path):
    rng = np.random.default_rng(3)
    tools = learn_tools([rng.integers(0, 255, (48, 48)).astype(np.uint8) for _ in range(30)])
    assert tools.used == ()
    assert tools.left_out
    write_tools(tools, tmp_path / "none.toml")
    with pytest.raises(DocumentError, match="judges nothing"):
        load_tools(tmp_path / "none.toml")


def test_flat_crops_give_no_tool():
    tools = learn_tools([np.full((32, 32), 90, np.uint8)] * 25)
    assert (tools.used, set(tools.left_out)) == ((), {"blobs", "calipers", "patches"})


def test_three_defective_crops_in_a_hundred_move_no_limit_by_much():
    rng = np.random.default_rng(4)

    def good():
        return dots(rng, np.array(FOUR) + rng.normal(0, 0.1, (4, 2)))

    crops = [good() for _ in range(97)]
    clean = learn_tools(crops)
    bad = [dots(rng, FOUR[:3]), dots(rng, [(19, 16), *FOUR[1:]]), dots(rng, [*FOUR, (30, 30)])]
    spoilt = learn_tools([*crops[:50], *bad, *crops[50:]])
    assert spoilt.used == clean.used
    for name, limit in clean.limits.model_dump(exclude_none=True).items():
        assert getattr(spoilt.limits, name) <= 1.5 * limit
    assert all(score(spoilt, crop).anomaly_score > 1 for crop in bad)


def test_one_part_that_varies_widens_its_own_limits_and_not_those_of_the_others():
    rng = np.random.default_rng(12)

    def good(moved=0.0):
        places = np.array(FOUR) + rng.normal(0, 0.08, (4, 2))
        places[0] += rng.normal(0, 0.5, 2)
        places[3] += moved, 0
        return dots(rng, places)

    tools = learn_tools([good() for _ in range(80)])
    assert tools.blobs is not None
    assert tools.blobs.slack[0] > 2
    assert max(tools.blobs.slack[1:]) < 2
    assert np.mean([score(tools, good()).anomaly_score >= 1 for _ in range(60)]) <= 0.05
    found = score(tools, good(moved=1.5)).findings
    (position,) = (finding for finding in found if finding.kind == "position")
    assert position.raw > 1
    assert position.words.startswith("row 2 col 2: ")


def test_a_part_that_only_some_good_crops_have_is_no_part():
    rng = np.random.default_rng(5)
    crops = [dots(rng, FOUR if i % 2 else FOUR[:3]) for i in range(60)]
    tools = learn_tools(crops)
    assert tools.blobs is not None
    assert len(tools.blobs.names) <= 3
    assert all(score(tools, crop).defect_class != "missing" for crop in crops[:10])


def test_colour_crops_are_measured_by_their_grey():
    rng = np.random.default_rng(6)
    grey = [dots(rng, FOUR) for _ in range(25)]
    coloured = learn_tools([np.stack([crop] * 3, axis=2) for crop in grey])
    assert coloured.blobs == learn_tools(grey).blobs


def test_too_few_crops_or_several_sizes_are_refused():
    flat = np.zeros((32, 32), np.uint8)
    with pytest.raises(DataError, match="3 good crops; measuring tools are learned from 20"):
        learn_tools([flat] * 3)
    with pytest.raises(DataError, match=r"2 sizes \(32x32, 40x32\)"):
        learn_tools([flat] * 30 + [np.zeros((32, 40), np.uint8)])


def test_a_large_region_is_measured_shrunk():
    rng = np.random.default_rng(8)
    large = [cv2.resize(dots(rng, FOUR), (1280, 1280)) for _ in range(20)]
    tools = learn_tools(large)
    assert tools.blobs is not None
    assert (tools.width, tools.height, len(tools.blobs.names)) == (512, 512, 4)


def test_parts_are_named_by_rows_and_columns_only_where_they_form_a_grid():
    grid = np.array([x + 1j * y for y in (10, 30, 50) for x in (10, 30, 50)])
    names, order = name_parts(np.append(grid, 70 + 70j), np.array([50.0] * 9 + [400.0]))
    assert (names[0], names[5], names[-1]) == ("row 1 col 1", "row 2 col 3", "other 1")
    assert order.tolist() == list(range(10))
    loose, _ = name_parts(np.array([10 + 10j, 33 + 21j, 60 + 47j]), np.full(3, 50.0))
    assert loose == ["blob 1", "blob 2", "blob 3"]


def test_dark_parts_are_found_as_well_as_bright_ones():
    rng = np.random.default_rng(9)
    dark = find_blobs(255 - dots(rng, FOUR))
    assert dark is not None
    assert dark.polarity == "dark"
    assert find_blobs(np.full((32, 32), 7, np.uint8)) is None
    assert find_calipers(np.full((32, 32), 7, np.uint8)) is None
