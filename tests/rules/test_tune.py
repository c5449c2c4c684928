"""Tuning looks at good images only, and brings wrong geometry and limits to where they belong."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tomlkit

from edge_inspector.errors import DataError
from edge_inspector.rules.bga import RuleScorer
from edge_inspector.rules.parameters import RuleParameters, load_rules
from edge_inspector.rules.tune import overkill_of, to_toml, tune
from edge_inspector.simulator import package
from edge_inspector.simulator.parts import compose

SHIPPED = Path(__file__).resolve().parents[2] / "edge_inspector" / "rules" / "bga_simulated.toml"


def images(seed, count, kind="good"):
    made = (
        compose(package.parts(), np.random.default_rng([seed, n]), defect=kind)
        for n in range(count)
    )
    return [m.pixels for m in made]


@pytest.fixture(scope="module")
def tuned():
    start = load_rules(SHIPPED).model_dump()
    start["grid"] |= {"first_x_px": 63.0, "first_y_px": 27.0, "ball_diameter_px": 9.0}
    start["limits"] |= {"pitch_px": 0.1, "small_share": 0.01}
    return tune(RuleParameters.model_validate(start), images(1, 40), images(2, 80))


def test_geometry_is_measured(tuned):
    assert tuned.grid.first_x_px == pytest.approx(package.COLUMNS_PX[0], abs=0.4)
    assert tuned.grid.first_y_px == pytest.approx(package.FIRST_ROW_PX, abs=0.4)
    assert tuned.grid.pitch_y_px == pytest.approx(package.ROW_PITCH_PX, abs=0.05)


def test_good_units_that_it_has_not_seen_pass_and_missing_balls_do_not(tuned):
    assert overkill_of(tuned, images(3, 100)) <= 0.04
    scorer = RuleScorer(tuned)
    worst = [max(v.ratio for v in scorer.violations(i)) for i in images(4, 20, "missing")]
    assert min(worst) >= 1


def test_what_was_tuned_can_be_written_and_read(tuned, tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text(to_toml(tuned, "made by a test"))
    assert load_rules(path) == tuned
    assert "# made by a test" in path.read_text()


def test_a_ball_map_holds_what_the_regular_grid_cannot():
    parts = package.parts()
    moved = parts.centres.copy()
    moved[7] += (1.5, -1.0)
    odd = replace(parts, centres=moved)
    made = [compose(odd, np.random.default_rng([5, n])).pixels for n in range(80)]
    start = load_rules(SHIPPED)
    mapped = tune(start, made[:40], made[40:], ball_map=True)
    entries = np.hypot(mapped.ball_map.dx_px, mapped.ball_map.dy_px)
    assert entries.max() == pytest.approx(np.hypot(1.5, 1.0), abs=0.35)
    assert np.median(entries) < 0.3
    assert mapped.limits.pitch_px < tune(start, made[:40], made[40:]).limits.pitch_px
    assert RuleParameters.model_validate(tomlkit.parse(to_toml(mapped, "")).unwrap()) == mapped


def test_too_few_images_are_refused():
    with pytest.raises(DataError, match="tuning needs 20 of each"):
        tune(load_rules(SHIPPED), images(1, 3), images(2, 30))
