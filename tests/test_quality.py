"""Frame quality: what a camera does to a whole frame is measured, what a defect does is not."""

import cv2
import numpy as np
import pytest

from edge_inspector import clock
from edge_inspector.quality import WORDS, cause, measure, placement
from edge_inspector.recipe import Measure
from edge_inspector.records import Pose
from edge_inspector.simulator import package, second
from edge_inspector.simulator.defects import DEFECTS
from edge_inspector.simulator.parts import compose
from edge_inspector.studies.calibrate_quality import LEAST_ROOM, learn

WHOLE = [(0, 0, 256, 256)]
MEASURE_MS = 0.1
UNITS = 60


def first(seed, kind="good"):
    return compose(package.parts(), np.random.default_rng(seed), defect=kind).pixels


def other(seed, kind="good"):
    return second.compose(second.rendered(), np.random.default_rng(seed), defect=kind).pixels


@pytest.fixture(scope="module", params=[(first, DEFECTS), (other, second.KINDS)], ids=["1", "2"])
def product(request):
    """What draws a unit, the kinds that it knows, and the limits of its good units."""
    make, kinds = request.param
    limits = learn([measure(make([1, number]), WHOLE) for number in range(UNITS)])
    return make, kinds, limits


def gain(pixels, level):
    return np.clip(np.rint(pixels * level), 0, 255).astype(np.uint8)


def blurred(pixels, sigma):
    return cv2.GaussianBlur(pixels, (0, 0), sigma)


def fogged(pixels, share):
    return np.rint(pixels * (1 - share) + 170 * share).astype(np.uint8)


def test_good_units_are_within_the_limits_of_good_units(product):
    make, _, limits = product
    causes = [cause(measure(make([2, number]), WHOLE), limits) for number in range(UNITS)]
    assert [text for text in causes if text] == []


def test_no_defect_is_taken_for_a_fault_of_the_camera(product):
    make, kinds, limits = product
    for kind in kinds:
        for seed in range(3):
            assert cause(measure(make([3, seed], kind), WHOLE), limits) is None, kind


@pytest.mark.parametrize(
    ("spoil", "level", "names"),
    [
        (gain, 0.8, ("mean",)),
        (gain, 0.2, ("mean", "black")),
        (gain, 1.3, ("mean", "saturated")),
        (blurred, 1.8, ("sharpness",)),
        (fogged, 0.4, ("mean", "contrast")),
    ],
)
def test_what_happens_to_a_whole_frame_is_named_with_value_and_limit(product, spoil, level, names):
    make, _, limits = product
    for seed in range(4):
        text = cause(measure(spoil(make([4, seed]), level), WHOLE), limits)
        assert text is not None
        assert text.split(" is ")[0] in names
        assert "good units have" in text


@pytest.mark.parametrize("level", [0, 255])
def test_a_black_and_a_white_frame_are_refused(product, level):
    assert cause(measure(np.full((256, 256), level, np.uint8), WHOLE), product[2]) is not None


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_a_frame_that_came_in_part_is_refused(product, share):
    make, _, limits = product
    for seed in range(4):
        pixels = make([6, seed])
        pixels[int(256 * (1 - share)) :] = 0
        assert cause(measure(pixels, WHOLE), limits) is not None


def test_a_black_frame_is_black_and_a_white_one_saturated():
    black, white = (
        measure(np.full((64, 64), level, np.uint8), [(0, 0, 64, 64)]) for level in (0, 255)
    )
    assert (black["black"], black["saturated"], black["mean"]) == (1, 0, 0)
    assert (white["black"], white["saturated"], round(white["mean"], 3)) == (0, 1, 255)


def test_sharpness_falls_with_blur_and_not_with_contrast():
    rng = np.random.default_rng(1)
    steps = np.kron(rng.integers(60, 200, (32, 32)), np.ones((8, 8))).astype(np.uint8)
    sharp = measure(steps, WHOLE)["sharpness"]
    blurs = [measure(blurred(steps, sigma), WHOLE)["sharpness"] for sigma in (0.6, 1.0, 1.5, 2.5)]
    assert [sharp, *blurs] == sorted([sharp, *blurs], reverse=True)
    assert sharp == pytest.approx(0.5, abs=0.03)
    assert blurs[-1] < 0.3
    assert measure(gain(steps, 0.5), WHOLE)["sharpness"] == pytest.approx(sharp, abs=0.01)


def test_a_mark_on_a_fortieth_of_the_frame_is_no_fault_of_the_camera():
    make, limits = first, learn([measure(first([1, n]), WHOLE) for n in range(UNITS)])
    for seed in range(4):
        pixels = make([5, seed])
        pixels[60:100, 90:130] = 230
        assert cause(measure(pixels, WHOLE), limits) is None


def test_depth_and_colour_change_no_grey_measure():
    pixels = first(1)
    grey = measure(pixels, WHOLE)
    deep = measure(pixels.astype(np.uint16) * 257, WHOLE)
    colour = measure(np.dstack([pixels] * 3), WHOLE)
    assert deep == pytest.approx(grey, abs=0.02)
    assert colour.pop("tint") == 0.0
    assert colour == grey


def test_tint_tells_warm_light_from_cold():
    pixels = np.dstack([first(1)] * 3).astype(float)
    warm, cold = (
        measure((pixels * factors * 0.8).astype(np.uint8), WHOLE)["tint"]
        for factors in ((0.9, 1, 1.1), (1.1, 1, 0.9))
    )
    assert warm == pytest.approx(0.067, abs=0.01)
    assert cold == pytest.approx(-0.067, abs=0.01)


def test_only_the_window_of_the_regions_is_looked_at():
    pixels = np.zeros((300, 400), np.uint8)
    pixels[20:276, 100:356] = first(1)
    assert measure(pixels, [(100, 20, 128, 256), (228, 20, 128, 256)]) == measure(first(1), WHOLE)


@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (9, 3), (40, 7), (1200, 1600)])
def test_windows_of_any_size_are_measured(shape):
    pixels = np.random.default_rng(1).integers(0, 255, shape, np.uint8)
    measured = measure(pixels, [(0, 0, shape[1], shape[0])])
    assert all(np.isfinite(value) for value in measured.values())


def test_a_pose_is_measured_at_the_middle_of_the_regions():
    boxes = [(0, 0, 100, 40), (0, 60, 100, 40)]
    found = placement(Pose(dx=3.0, dy=-2.0, score=0.9), boxes)
    assert found == {"x_px": 3, "y_px": -2, "angle_deg": 0, "scale": 1, "match": 0.9}
    turned = placement(Pose(angle_deg=10.0, scale=1.0), [(-50, -50, 100, 100)])
    assert (turned["x_px"], turned["y_px"]) == pytest.approx((0, 0))


def test_the_measure_that_tells_most_is_the_cause_and_the_others_are_named():
    limits: dict[Measure, tuple[float, float]] = {
        "contrast": (60.0, 70.0),
        "mean": (90.0, 110.0),
        "sharpness": (0.4, 0.5),
    }
    good: dict[Measure, float] = {"contrast": 65.0, "mean": 100.0, "sharpness": 0.45}
    assert cause(good, limits) is None
    assert cause({**good, "mean": 150.0}, limits) == (
        "mean is 150, good units have 90 to 110: too bright: lamp, exposure or stray light"
    )
    assert cause({**good, "contrast": 10.0, "sharpness": 0.1}, limits) == (
        "sharpness is 0.1, good units have 0.4 to 0.5: out of focus or moved while exposed, "
        "and contrast"
    )


@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_measure_that_cannot_be_taken_is_not_within_limits(value):
    measured: dict[Measure, float] = {} if value is None else {"match": value}
    assert "match is nan" in (cause(measured, {"match": (0.8, 1.0)}) or "")


def test_every_measure_has_its_words_and_its_room():
    assert set(WORDS) == set(LEAST_ROOM)


def test_a_region_is_measured_in_a_tenth_of_a_ms():
    pixels = first(1)
    rounds_ms = []
    for _ in range(20):
        started = clock.cpu_ns()
        for _ in range(20):
            measure(pixels, WHOLE)
        rounds_ms.append((clock.cpu_ns() - started) / 20 / clock.NS_PER_MS)
    assert min(rounds_ms) <= 2 * MEASURE_MS  # twice, for a core that others use too
