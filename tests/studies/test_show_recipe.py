from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_inspector.errors import Misuse
from edge_inspector.recipe import Grid, Recipe, Region
from edge_inspector.recipe_alignment import Outline, Template
from edge_inspector.studies.show_recipe import COLOURS, OUTSIDE, reference_frame, show_recipe


def frame(dx: int = 0, dy: int = 0, size: tuple[int, int] = (600, 700)):
    pixels = np.full(size, 200, np.uint8)
    cv2.rectangle(pixels, (100 + dx, 80 + dy), (499 + dx, 379 + dy), 40, -1)
    cv2.putText(pixels, "R5", (200 + dx, 250 + dy), cv2.FONT_HERSHEY_SIMPLEX, 3, 150, 6)
    return pixels


def recipe(*regions: Region, **alignment: Outline | Template) -> Recipe:
    return Recipe(
        product="p",
        version=1,
        latency_budget_ms=50,
        engines={"e": Path("e")},
        alignment=alignment,
        regions=regions,
    )


def outlined(*regions: Region) -> Recipe:
    return recipe(*regions, main=Outline(method="outline", size=(400, 300)))


def test_regions_are_drawn_where_the_product_lies() -> None:
    region = Region(name="a", rect=(50, 40, 300, 200), grid=Grid(rows=1, columns=2), engine="e")
    for dx, dy in ((0, 0), (60, 90)):
        shown = show_recipe(outlined(region), frame(dx, dy), "main")
        green = (shown.picture == COLOURS[0]).all(axis=2)
        rows, columns = np.nonzero(green)
        assert (columns.min(), rows.min()) == pytest.approx((150 + dx, 120 + dy), abs=2)
        assert (columns.max(), rows.max()) == pytest.approx((450 + dx, 320 + dy), abs=2)
        between = np.ptp(shown.picture[200 + dy, 295 + dx : 306 + dx].astype(int), axis=1)
        assert between.max() > 50
        assert shown.outside == ()


def test_the_pose_is_told_in_words() -> None:
    region = Region(name="a", rect=(0, 0, 9, 9), engine="e")
    words = show_recipe(outlined(region), frame(30, 0), "main").words
    assert "found by its outline with a score of" in words
    assert "begins at x 130.0, y 80.0 px" in words
    plain = show_recipe(recipe(region), frame(), "main").words
    assert "no alignment, the frame of 700 x 600 px is taken as it comes" in plain


def test_a_region_that_leaves_the_frame_is_red_and_told_with_its_numbers() -> None:
    inside = Region(name="in", rect=(0, 0, 90, 90), engine="e")
    beyond = Region(name="out", rect=(300, 0, 200, 90), engine="e")
    shown = show_recipe(outlined(inside, beyond), frame(150, 0), "main")
    [problem] = shown.outside
    assert "'out' lies at x 550.0 to 750.0" in problem
    assert "leaves the frame of 700 x 600 px" in problem
    assert (shown.picture == OUTSIDE).all(axis=2).any()


def test_what_is_ignored_is_shaded() -> None:
    polygon = ((110.0, 110.0), (290.0, 110.0), (290.0, 290.0), (110.0, 290.0))
    plain = Region(name="a", rect=(100, 100, 200, 200), engine="e")
    shaded = plain.model_copy(update={"ignore": (polygon,)})
    one, two = (show_recipe(recipe(r), frame(), "main").picture[200, 200] for r in (plain, shaded))
    assert int(two[2]) - int(two[0]) > 40 + int(one[2]) - int(one[0])


def test_deep_and_coloured_and_small_frames_are_shown_too() -> None:
    region = Region(name="a", rect=(0, 0, 20, 20), engine="e")
    small = cv2.resize(frame(), (70, 60))
    assert show_recipe(recipe(region), small, "main").picture.shape == (480, 560, 3)
    deep = frame().astype(np.uint16) * 257
    assert show_recipe(recipe(region), deep, "main").picture[-1, -1].tolist() == [200, 200, 200]
    coloured = cv2.cvtColor(frame(), cv2.COLOR_GRAY2BGRA)
    assert show_recipe(recipe(region), coloured, "main").picture.shape == (600, 700, 3)


def test_an_unknown_camera_is_refused_with_the_known_ones() -> None:
    region = Region(name="a", rect=(0, 0, 20, 20), engine="e")
    with pytest.raises(Misuse, match="no region has camera 'side'; cameras: main"):
        show_recipe(recipe(region), frame(), "side")


def test_the_reference_is_the_frame_with_the_product_in_its_place() -> None:
    region = Region(name="a", rect=(0, 0, 20, 20), engine="e")
    still, moved = (reference_frame(outlined(region), frame(dx, 0), "main") for dx in (0, 77))
    assert still.shape == (300, 400)
    assert np.abs(still.astype(int) - moved).max() <= 2
