import numpy as np
import pytest

from edge_inspector.errors import DataError
from edge_inspector.scorers.unknown import oddness
from edge_inspector.studies.openset import drift_figures, operating_point

CLASSES = ("normal", "dent", "stain")


def known(count: int, seed: int):
    """Labels, probabilities, novelty and anomaly of crops that are told right, more or less surely."""
    rng = np.random.default_rng(seed)
    truth = np.arange(count) % 3
    sure = 1 - 0.4 * rng.beta(1, 8, count)
    probabilities = np.repeat(((1 - sure) / 2)[:, None], 3, axis=1)
    probabilities[np.arange(count), truth] = sure
    anomaly = np.where(truth > 0, 12.0, 0.0) + rng.normal(size=count)
    return [CLASSES[t] for t in truth], probabilities, rng.exponential(1.0, count), anomaly


def drift(count: int):
    """Crops that look like a good unit, far from all that was shown."""
    probabilities = np.tile([0.6, 0.3, 0.1], (count, 1))
    return ["crack"] * count, probabilities, np.full(count, 9.0), np.full(count, 8.0)


def both(first, second):
    return first[0] + second[0], *(
        np.concatenate(pair) for pair in zip(first[1:], second[1:], strict=True)
    )


def test_limits_refuse_the_shares_of_known_crops_that_were_allowed():
    labels, probabilities, novelty, anomaly = known(3000, seed=1)
    limits = operating_point(
        labels, CLASSES, probabilities, novelty, anomaly, refused_good=0.01, refused_defects=0.1
    )

    assert limits.good is not None
    assert limits.defects is not None
    assert limits.good.refused == pytest.approx(0.01, abs=0.001)
    assert limits.defects.refused == pytest.approx(0.1, abs=0.001)
    assert (limits.good.crops, limits.defects.crops) == (1000, 2000)


def test_limits_hold_on_other_known_crops():
    labels, probabilities, novelty, anomaly = known(3000, seed=1)
    limits = operating_point(labels, CLASSES, probabilities, novelty, anomaly)
    labels, probabilities, novelty, anomaly = known(3000, seed=2)

    refused = oddness(limits, CLASSES, probabilities, novelty, anomaly) >= 1

    defects = np.array(labels) != "normal"
    assert refused[~defects].mean() < 0.015
    assert 0.03 < refused[defects].mean() < 0.07


def test_a_kind_never_shown_is_found_at_limits_that_never_saw_it():
    labels, probabilities, novelty, anomaly = known(900, seed=1)
    limits = operating_point(labels, CLASSES, probabilities, novelty, anomaly)
    tested = both(known(900, seed=2), drift(300))

    found = drift_figures(limits, "crack", tested[0], CLASSES, *tested[1:])

    assert found["recall"] == 1.0
    assert found["f1"] > 0.9
    assert found["count"] == 300
    assert found["looked_like"] == {"normal": 300, "dent": 0, "stain": 0}
    assert found["best_f1_possible"] >= found["f1"]
    assert found["recall_at_refused"]["0.005"] == 1.0


def test_more_refused_known_crops_never_find_less_of_the_unknown():
    labels, probabilities, novelty, anomaly = known(900, seed=1)
    limits = operating_point(labels, CLASSES, probabilities, novelty, anomaly)
    other = known(300, seed=3)
    seen = (["crack"] * 300, other[1], other[2] + 2, other[3])
    tested = both(known(900, seed=2), seen)

    curve = drift_figures(limits, "crack", tested[0], CLASSES, *tested[1:])["recall_at_refused"]

    found = list(curve.values())
    assert found == sorted(found)
    assert 0 < found[0] < found[-1] < 1


def test_the_anomaly_engine_finds_what_looks_good_and_usual_to_the_classifier():
    labels, probabilities, novelty, anomaly = known(900, seed=1)
    seen = (
        ["crack"] * 50,
        np.tile([0.97, 0.02, 0.01], (50, 1)),
        np.full(50, 0.9),
        np.full(50, 12.0),
    )
    tested = both(known(900, seed=2), seen)
    alone = operating_point(labels, CLASSES, probabilities, novelty)
    beside = operating_point(labels, CLASSES, probabilities, novelty, anomaly)

    without = drift_figures(alone, "crack", tested[0], CLASSES, *tested[1:3])
    together = drift_figures(beside, "crack", tested[0], CLASSES, *tested[1:])

    assert without["recall"] == 0.0
    assert together["recall"] == 1.0


def test_evidence_that_never_varies_makes_no_limit_that_rounding_crosses():
    labels = ["normal"] * 40 + ["dent"] * 40
    probabilities = np.zeros((80, 3))
    probabilities[:40, 0] = probabilities[40:, 1] = 1.0
    limits = operating_point(labels, CLASSES, probabilities, np.zeros(80))

    odd = oddness(limits, CLASSES, probabilities - 1e-7, np.full(80, 1e-7), None)

    assert odd.max() < 1


def test_few_crops_of_one_kind_leave_it_without_a_limit():
    labels, probabilities, novelty, _ = known(90, seed=1)
    good = np.array(labels) == "normal"
    kept = good | (np.cumsum(~good) <= 5)
    limits = operating_point(
        [label for label, keep in zip(labels, kept, strict=True) if keep],
        CLASSES,
        probabilities[kept],
        novelty[kept],
    )

    assert limits.good is not None
    assert limits.defects is None


def test_too_few_validation_crops_are_refused_with_their_numbers():
    labels, probabilities, novelty, _ = known(15, seed=1)

    with pytest.raises(DataError, match=r"5 good validation .* 10 defective .* needs 20"):
        operating_point(labels, CLASSES, probabilities, novelty)


@pytest.mark.parametrize(("label", "why"), [("dent", "is a class"), ("crack", "has no image")])
def test_a_drift_that_is_none_is_refused(label, why):
    labels, probabilities, novelty, _ = known(90, seed=1)
    limits = operating_point(labels, CLASSES, probabilities, novelty)

    with pytest.raises(DataError, match=f"'{label}' {why}"):
        drift_figures(limits, label, labels, CLASSES, probabilities, novelty)
