"""The library: a recipe is opened as a whole or not at all, and no frame makes it raise."""

import re

import msgspec
import numpy as np
import pytest

from edge_inspector.bundle import open_engine
from edge_inspector.errors import DocumentError, EngineCorrupt, EngineRefused
from edge_inspector.inspector import open_inspector
from edge_inspector.recipe import Recipe
from edge_inspector.records import Frame, FrameHead, FrameKey, Outcome, Reason
from edge_inspector.sinks.archive import RejectArchive
from tests.integration.conftest import write_recipe

LEVEL = 100
SPREAD = 0.005
"""Of the recipes of `write_recipe`; with their threshold of 3, a mean deviation of 3.825 fails."""
WHOLE = {"name": "whole", "rect": [0, 0, 32, 32], "engine": "tiny"}


def frame(pixels, camera="main", unit="u1"):
    head = FrameHead(
        key=FrameKey("line", "e", 1),
        station="s",
        camera=camera,
        recipe="tiny",
        arrived_ns=0,
        time_zero_ns=0,
        unit_id=unit,
    )
    return Frame(head, pixels)


def good(height=32, width=32):
    return np.full((height, width), LEVEL, np.uint8)


def marked(rows, columns, height=32, width=32):
    pixels = good(height, width)
    pixels[rows, columns] = 230
    return pixels


@pytest.fixture
def recipe(tiny_engine, tmp_path):
    """Writes a recipe on the tiny engine, with changes."""
    return lambda **changes: write_recipe(tmp_path, tiny_engine, changes)


@pytest.fixture
def inspector(recipe):
    with open_inspector(recipe()) as opened:
        yield opened


def cells(recipe, rows, columns, **changes):
    """A recipe whose region is a grid, calibrated cell by cell."""
    names = [f"whole-r{r}c{c}" for r in range(1, rows + 1) for c in range(1, columns + 1)]
    region = {
        **WHOLE,
        "rect": [0, 0, 64, 64],
        "grid": {"rows": rows, "columns": columns},
        **changes,
    }
    text = msgspec.toml.decode(recipe().read_text())
    scales = {name: {"center": 0.0, "spread": SPREAD} for name in names}
    return recipe(regions=[region], calibration={**text["calibration"], "regions": scales})


def test_a_good_frame_passes_with_its_score_and_threshold(inspector):
    found = inspector.inspect(frame(good()))
    assert (found.outcome, found.reason, found.defect_class) == (Outcome.PASS, None, None)
    assert (found.anomaly_score, found.threshold) == (0.0, 3.0)
    assert [region.name for region in found.regions] == ["whole"]


def test_a_bad_frame_fails_where_the_mark_is(inspector):
    found = inspector.inspect(frame(marked(slice(4, 12), slice(20, 28))))
    deviation = 130 * 64 / 1024 / 255
    assert found.outcome is Outcome.FAIL
    assert found.anomaly_score == pytest.approx(deviation / SPREAD, abs=0.01)
    assert (found.defect_class, found.regions[0].box) == ("unknown", (20, 4, 8, 8))
    assert "'whole' at x 20, y 4" in found.detail


def test_the_threshold_itself_fails_and_just_below_it_passes(inspector):
    limit = 3.0 * SPREAD * 255 * 1024  # summed deviation, grey levels
    pixels = good()
    pixels.flat[: int(limit) // 100] += 100
    assert inspector.inspect(frame(pixels)).outcome is Outcome.PASS
    pixels.flat[1000] += 100
    assert inspector.inspect(frame(pixels)).outcome is Outcome.FAIL


def test_stage_times_engine_and_version_are_there(inspector, tiny_engine):
    found = inspector.inspect(frame(good()))
    assert set(found.stages_us) == {"cut", "infer", "decide"}
    assert all(0 <= time_us < 1_000_000 for time_us in found.stages_us.values())
    assert found.engine == open_engine(tiny_engine).digest[:16]
    assert found.recipe_version == 3
    assert inspector.backend in ("openvino", "onnxruntime")


def test_a_grid_names_the_cell_and_places_the_mark_in_the_frame(recipe):
    with open_inspector(cells(recipe, 2, 2)) as opened:
        found = opened.inspect(frame(marked(slice(40, 48), slice(8, 16), 64, 64)))
    outcomes = {region.name: region.outcome.value for region in found.regions}
    assert outcomes == {
        "whole-r1c1": "pass",
        "whole-r1c2": "pass",
        "whole-r2c1": "fail",
        "whole-r2c2": "pass",
    }
    assert found.regions[2].box == (8, 40, 8, 8)


def test_two_engines_may_judge_one_place_and_the_larger_normalised_score_decides(
    recipe, tiny_engine
):
    text = msgspec.toml.decode(recipe().read_text())
    digest = text["calibration"]["engines"]["tiny"]
    both = recipe(
        engines={"tiny": str(tiny_engine), "other": str(tiny_engine)},
        regions=[WHOLE, {**WHOLE, "name": "again", "engine": "other"}],
        calibration={
            **text["calibration"],
            "engines": {"tiny": digest, "other": digest},
            "regions": {
                "whole": {"center": 0.0, "spread": SPREAD},
                "again": {"center": 0.0, "spread": SPREAD / 2},
            },
        },
    )
    with open_inspector(both) as opened:
        found = opened.inspect(frame(marked(slice(4, 9), slice(20, 25))))
    alone, larger = (region.score for region in found.regions)
    assert alone < 3.0
    assert found.outcome is Outcome.FAIL
    assert found.anomaly_score == larger == pytest.approx(2 * alone)
    assert "'again' at x 20, y 4" in found.detail


def test_what_the_recipe_masks_is_not_judged(recipe):
    masked = cells(recipe, 2, 2, ignore=[[[36, 4], [60, 4], [60, 28], [36, 28]]])
    with open_inspector(masked) as opened:
        inside = opened.inspect(frame(marked(slice(10, 20), slice(42, 52), 64, 64)))
        outside = opened.inspect(frame(marked(slice(10, 20), slice(10, 20), 64, 64)))
    assert inside.outcome is Outcome.PASS
    assert outside.outcome is Outcome.FAIL


def test_a_whole_recipe_object_does_as_well_as_a_file(tiny_engine):
    recipe = Recipe.model_validate(
        {
            "product": "p",
            "version": 1,
            "latency_budget_ms": 10,
            "engines": {"tiny": tiny_engine},
            "regions": [WHOLE | {"rect": (0, 0, 32, 32)}],
        }
    )
    with open_inspector(recipe) as opened:
        found = opened.inspect(frame(good()))
    assert (found.outcome, found.reason) == (Outcome.UNINSPECTED, Reason.MODEL_FAULT)
    assert "calibrate" in found.detail


def test_without_rules_nothing_watches(inspector):
    pixels = frame(good())
    found = inspector.inspect(pixels)
    assert inspector.watch(pixels, found) is found
    assert found.baseline is None


def test_warming_up_changes_no_answer(inspector):
    before = inspector.inspect(frame(marked(slice(0, 8), slice(0, 8))))
    inspector.warm_up()
    after = inspector.inspect(frame(marked(slice(0, 8), slice(0, 8))))
    assert before.regions == after.regions
    assert len(inspector.challenges) == 2


def test_seen_holds_a_crop_and_a_score_for_each_region(recipe, tmp_path):
    bad = frame(marked(slice(40, 48), slice(8, 16), 64, 64))
    with open_inspector(cells(recipe, 2, 2)) as opened:
        seen = opened.look(bad)
        archive = RejectArchive(tmp_path / "rejects", 10)
        archive.add(bad.head, seen.inspection, seen.crops, seen.scores)
        archive.close()
    assert [crop.roi.name for crop in seen.crops] == [r.name for r in seen.inspection.regions]
    assert len(seen.scores) == 4
    (picture,) = (tmp_path / "rejects").glob("*whole-r2c1.png")
    assert picture.with_suffix(".json").is_file()


UNFIT = {
    "an unknown camera": (frame(good(), camera="nobody"), Reason.BAD_INPUT, "nobody.*knows main"),
    "a region outside": (frame(good(20, 32)), Reason.BAD_INPUT, "whole"),
    "no pixel at all": (frame(np.empty((0, 0), np.uint8)), Reason.BAD_INPUT, "0"),
    "samples that are floats": (frame(np.zeros((32, 32))), Reason.BAD_INPUT, "float64"),
    "an answer that is not a number": (
        frame(np.full((32, 32), 255, np.uint8)),
        Reason.MODEL_FAULT,
        "whole.*nan",
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_frame_that_cannot_be_judged_says_why_and_lets_nothing_through(name, inspector):
    given, reason, words = UNFIT[name]
    found = inspector.inspect(given)
    assert (found.outcome, found.reason, found.regions) == (Outcome.UNINSPECTED, reason, ())
    assert found.engine
    assert re.search(words, found.detail)


def test_a_product_that_is_not_found_is_not_judged(recipe):
    with open_inspector(recipe(alignment={"main": {"method": "outline", "size": [32, 32]}})) as it:
        found = it.inspect(frame(np.full((64, 64), 250, np.uint8)))
    assert (found.outcome, found.reason) == (Outcome.UNINSPECTED, Reason.BAD_INPUT)
    assert len(found.detail) > 10


def test_an_engine_that_was_not_calibrated_is_refused(recipe):
    text = msgspec.toml.decode(recipe().read_text())
    for engines, words in (({"tiny": "0" * 64}, "calibrated with 0000"), ({}, "without engine")):
        changed = recipe(calibration={**text["calibration"], "engines": engines})
        with pytest.raises(EngineRefused, match=words), open_inspector(changed):
            pass


def test_a_flipped_bit_in_the_model_is_refused(recipe, tiny_engine):
    path = recipe()
    model = tiny_engine / "model.onnx"
    raw = bytearray(model.read_bytes())
    raw[len(raw) // 2] ^= 1
    model.write_bytes(raw)
    with pytest.raises(EngineCorrupt, match=r"model\.onnx"), open_inspector(path):
        pass


def test_an_engine_folder_that_is_not_there_is_named(recipe, tmp_path):
    path = recipe()
    path.write_text(path.read_text().replace(str(tmp_path / "tiny"), str(tmp_path / "gone")))
    with pytest.raises(DocumentError, match=r"gone/1/manifest\.toml"), open_inspector(path):
        pass
