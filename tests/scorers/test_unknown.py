import numpy as np
import pytest

from edge_inspector.manifest import Strange, Tail, Unknown
from edge_inspector.scorers.unknown import certainty, is_unknown, oddness

CLASSES = ("good", "dent", "stain")
SURE, TORN = [0.01, 0.98, 0.01], [0.02, 0.53, 0.45]
LOOKS_GOOD = [0.98, 0.01, 0.01]


def strange(limit: float, **more: Tail) -> Strange:
    tails = {"doubt": Tail(usual=0.1, scale=0.2), "novelty": Tail(usual=1.0, scale=0.5)} | more
    return Strange(limit=limit, **tails)


LIMITS = Unknown(
    good=strange(4.0, anomaly=Tail(usual=0.0, scale=2.0)),
    defects=strange(3.0),
)


def test_a_sure_and_usual_defect_keeps_its_name():
    assert not is_unknown(LIMITS, CLASSES, SURE, 1.2, None)


def test_neither_doubt_nor_novelty_makes_a_defect_unknown_but_both_do():
    assert not is_unknown(LIMITS, CLASSES, TORN, 1.0, None)
    assert not is_unknown(LIMITS, CLASSES, SURE, 2.0, None)
    assert is_unknown(LIMITS, CLASSES, TORN, 2.0, None)


def test_novelty_alone_is_enough_when_it_is_large():
    assert is_unknown(LIMITS, CLASSES, SURE, 3.0, None)


def test_an_anomaly_counts_where_the_classifier_saw_a_good_unit():
    assert not is_unknown(LIMITS, CLASSES, LOOKS_GOOD, 2.5, 1.0)
    assert is_unknown(LIMITS, CLASSES, LOOKS_GOOD, 2.5, 4.0)
    assert not is_unknown(LIMITS, CLASSES, SURE, 1.0, 40.0)


def test_without_an_anomaly_engine_the_other_evidence_decides():
    assert is_unknown(LIMITS, CLASSES, LOOKS_GOOD, 3.0, None)
    assert not is_unknown(LIMITS, CLASSES, LOOKS_GOOD, 2.5, None)


def test_evidence_at_the_limit_is_unknown():
    assert is_unknown(LIMITS, CLASSES, [0.0, 0.9, 0.1], 2.5, None)
    assert not is_unknown(LIMITS, CLASSES, [0.0, 0.9, 0.1], 2.499, None)


def test_crops_without_a_limit_are_never_unknown():
    limits = LIMITS.model_copy(update={"good": None})

    assert not is_unknown(limits, CLASSES, LOOKS_GOOD, 1e6, 1e6)
    assert is_unknown(limits, CLASSES, SURE, 1e6, None)


def test_many_crops_are_judged_as_each_alone():
    probabilities = np.array([SURE, TORN, LOOKS_GOOD, TORN])
    novelty, anomaly = np.array([1.0, 2.0, 2.5, 1.0]), np.array([0.0, 0.0, 4.0, 9.0])

    odd = oddness(LIMITS, CLASSES, probabilities, novelty, anomaly)

    alone = [
        is_unknown(LIMITS, CLASSES, *crop)
        for crop in zip(probabilities, novelty, anomaly, strict=True)
    ]
    assert (odd >= 1).tolist() == alone == [False, True, True, False]


def test_certainty_grows_with_oddness_and_stays_below_one():
    shares = [certainty(odd) for odd in (0.0, 1.0, 2.0, 5.0)]

    assert shares == sorted(shares)
    assert shares[:2] == pytest.approx([0.0, 0.95])
    assert shares[-1] < 1
