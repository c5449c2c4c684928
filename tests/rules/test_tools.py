"""Tools measure what is there to parts of a px, and say which part is off and by how much."""

from __future__ import annotations

import re
from functools import cache

import cv2
import numpy as np
import pytest

from edge_inspector.errors import DocumentError, Uninspectable
from edge_inspector.records import Crop, Roi
from edge_inspector.rules import open_rules
from edge_inspector.rules.tool_scorer import MISSING, ToolScorer
from edge_inspector.rules.tools import load_tools
from edge_inspector.studies.learn_tools import learn_tools, write_tools
from edge_inspector.verdict import explained

cv2.setNumThreads(1)
SIDE, PITCH, RADIUS = 96, 20, 4.0
DOWN, ACROSS = np.mgrid[:SIDE, :SIDE]


def board(rng, *, level=200.0, ground=40.0, rows=4, columns=4, noise=2.0, shift=(0.0, 0.0), **off):
    """A grid of balls drawn to parts of a px; `off` moves, grows or removes ball (row, column)."""
    picture = np.full((SIDE, SIDE), ground, np.float64)
    for row in range(rows):
        for column in range(columns):
            if (row, column) == off.get("without"):
                continue
            dx, dy = off["moved"][1:] if off.get("moved", (None,))[0] == (row, column) else (0, 0)
            radius = off["grown"][1] if off.get("grown", (None,))[0] == (row, column) else RADIUS
            x = 18 + PITCH * column + shift[0] + dx
            y = 18 + PITCH * row + shift[1] + dy
            ball = np.clip(radius + 0.5 - np.hypot(ACROSS - x, DOWN - y), 0, 1)
            picture += (level - ground) * ball
    if "extra" in off:
        cv2.circle(picture, off["extra"], 3, level, -1)
    return np.clip(picture + rng.normal(0, noise, picture.shape), 0, 255).astype(np.uint8)


def jittered(rng):
    light = rng.uniform(0.9, 1.1)
    shift = tuple(rng.uniform(-1, 1, 2))
    return board(rng, level=200 * light, ground=40 * light, shift=shift)


@cache
def tools():
    rng = np.random.default_rng(1)
    return learn_tools([jittered(rng) for _ in range(60)], "ball")


def scored(pixels, mm_per_px=None, box=(0, 0, SIDE, SIDE)):
    crop = Crop(Roi("U12", "main", box), pixels, box)
    return explained(ToolScorer(tools(), mm_per_px).score([crop])[0], "U12", "tools", None)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_all_tools_that_repeat_are_learned_and_the_parts_are_named_by_row_and_column():
    found = tools()
    assert {"count", "extra_px2", "position_px", "pitch_px", "area_share"} <= set(found.used)
    assert found.blobs.names[5] == "row 2 col 2"
    assert found.blobs.polarity == "bright"
    assert found.limits.position_px < 0.4


def test_good_crops_stay_below_the_limits(rng):
    raw = np.array([scored(jittered(rng)).anomaly_score for _ in range(100)])
    assert np.mean(raw >= 1) <= 0.03


@pytest.mark.parametrize("off_px", [0.8, 1.5])
def test_a_ball_off_its_place_is_measured_in_mm_beside_the_limit_learned(rng, off_px):
    moved = board(rng, moved=((1, 2), off_px, 0.0), shift=(0.6, -0.4))
    found = scored(moved, {"main": 0.1})
    assert found.detail.startswith("row 2 col 3: ball ")
    off = re.search(r"ball ([\d.]+) mm off its place \(limit learned ([\d.]+)\)", found.detail)
    assert off is not None
    told, limit = (float(number) for number in off.groups())
    assert told == pytest.approx(0.1 * off_px, abs=0.012)
    assert found.anomaly_score >= told / limit * 0.97
    assert found.defect_class == "position"
    assert found.box[0] <= 18 + 40 <= found.box[0] + found.box[2]


def test_without_a_scale_lengths_are_px_of_the_reference_frame(rng):
    moved = board(rng, moved=((1, 2), 1.5, 0.0))
    found = scored(moved, box=(0, 0, 2 * SIDE, 2 * SIDE))
    told = float(found.detail.split("ball ")[1].split(" px")[0])
    assert told == pytest.approx(3.0, abs=0.25)


def test_a_missing_ball_is_named_and_counts_more_than_any_measure(rng):
    found = scored(board(rng, without=(3, 0)))
    assert found.anomaly_score >= MISSING
    assert (found.detail, found.defect_class) == ("row 4 col 1: ball missing", "missing")


def test_an_empty_crop_misses_all_of_them():
    found = scored(np.full((SIDE, SIDE), 40, np.uint8))
    assert found.detail == "row 1 col 1: ball missing, 16 of 16 in all"


def test_material_where_none_belongs_is_measured(rng):
    found = scored(board(rng, extra=(28, 48)))
    assert found.defect_class == "extra"
    assert "px² where no ball belongs" in found.detail
    assert (found.box[0] < 28 < found.box[0] + found.box[2]) is True


def test_two_balls_that_are_joined_are_both_named(rng):
    bridged = board(rng)
    bridged[37:40, 38:58] = 200
    found = scored(bridged)
    assert found.defect_class == "bridge"
    assert found.detail.startswith("row 2 col 2 to row 2 col 3: ")
    assert "of the gap is filled (limit learned 0.4)" in found.detail


def test_a_ball_too_large_says_its_area_and_the_usual_one(rng):
    found = scored(board(rng, grown=((2, 2), 5.2)))
    assert found.defect_class == "size"
    assert found.detail.startswith("row 3 col 3: ball of ")
    numbers = re.findall(r" ([\d.]+)(?: px²|\))", found.detail)
    area, usual, limit = (float(number) for number in numbers)
    assert area / usual == pytest.approx((5.2 / RADIUS) ** 2, rel=0.1)
    assert usual == pytest.approx(np.pi * RADIUS**2, rel=0.1)
    assert usual < limit < area


def test_light_alone_changes_nothing(rng):
    dim = scored(board(rng, level=130.0, ground=26.0))
    assert dim.anomaly_score < 1


def test_a_crop_of_another_size_is_not_measured():
    with pytest.raises(Uninspectable, match=r"crop is uint8 \(32, 32\), the tools take"):
        scored(np.zeros((32, 32), np.uint8))


def test_a_file_gives_back_what_was_learned_and_opens_as_rules(tmp_path, rng):
    path = tmp_path / "cells.toml"
    write_tools(tools(), path)
    assert load_tools(path) == tools()
    scorer = open_rules(path, {"main": 0.1})
    assert scorer.kind == "tools"
    moved = board(rng, moved=((0, 0), 1.5, 0.0))
    crop = Crop(Roi("U12", "main", (0, 0, SIDE, SIDE)), moved, (0, 0, SIDE, SIDE))
    (found,), same = scorer.score([crop]), scored(moved, {"main": 0.1})
    assert (found.anomaly_score, found.findings) == (same.anomaly_score, same.findings)


@pytest.mark.parametrize(
    ("was", "becomes", "words"),
    [
        ('template = "', 'template = "A', "template"),
        ("kind = ", "kinds = ", "unknown key 'kinds'"),
        ("position_px = ", "position_px = -", "position_px"),
        ("slack = [1.", "slack = [0.", "blobs"),
        ("height = 96", "height = 95", "no PNG of 96x95 px"),
    ],
)
def test_a_damaged_file_says_where(tmp_path, was, becomes, words):
    path = tmp_path / "cells.toml"
    write_tools(tools(), path)
    text = path.read_text()
    assert was in text
    path.write_text(text.replace(was, becomes, 1))
    with pytest.raises(DocumentError, match=words):
        load_tools(path)
