"""The same crops through two sessions, or through one and the scores that training noted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_inspector.backends import REFERENCE
from edge_inspector.bundle import Engine
from edge_inspector.errors import ParityError
from edge_inspector.manifest import Challenge, Quantised
from edge_inspector.protocols import Session
from edge_inspector.records import Pixels

PROBABILITY_AGREEMENT = 0.01
"""Largest difference of a class's probability between runtimes that counts as agreement."""


@dataclass(frozen=True, slots=True)
class Parity:
    """Largest differences of raw scores and of map values (0..255); `worst` is the crop's index."""

    max_score_difference: float
    max_map_difference: int
    worst: int
    max_probability_difference: float = 0.0
    """Of a classifier's classes."""


def compare(a: Session, b: Session, crops: Pixels) -> Parity:
    """
    How far two sessions disagree about crops, uint8 (n, h, w, c); NaN counts as infinitely far.

    Raises `ParityError` where their maps differ in shape.
    """
    left, right = a.run(crops), b.run(crops)
    scores = _distance(left["score"].astype(np.float64), right["score"].astype(np.float64))
    one, other = (found["anomaly_map"].astype(np.int32) for found in (left, right))
    if one.shape != other.shape:
        raise ParityError(f"the sessions give maps of {one.shape} and {other.shape}; one engine?")
    maps = np.abs(one - other)
    worst = int(np.argmax(scores))
    shares = 0.0
    if "probabilities" in left:
        shares = float(_distance(left["probabilities"], right["probabilities"]).max())
    return Parity(float(scores[worst]), int(maps.max()), worst, shares)


def challenge(session: Session, engine: Engine, precision: str = REFERENCE) -> None:
    """
    Raises `ParityError` when the challenge crops do not score as they did when it was made.

    `precision` is the session's; scores in eight bits are compared with those in eight bits.
    """
    said = stated(engine, precision)
    crops = np.stack([engine.good, engine.bad])
    found = session.run(crops)["score"].astype(np.float64)
    expected = np.array([said.good_score, said.bad_score])
    for name, value, wanted, difference in zip(
        ("good", "bad"), found, expected, _distance(found, expected), strict=True
    ):
        if difference > said.tolerance:
            raise ParityError(
                f"engine {engine.title}: the {name} challenge crop scores {value:.6g} here, "
                f"{wanted:.6g} in training; the limit of the difference is {said.tolerance:.3g}; "
                "choose another backend or export the engine again"
            )


def stated(engine: Engine, precision: str) -> Challenge | Quantised:
    """What the manifest says of the challenge crops' scores in one precision."""
    quantised = engine.manifest.int8 if precision != REFERENCE else None
    return quantised or engine.manifest.challenge


def noisy(engine: Engine, count: int) -> Pixels:
    """The challenge pair and copies of it with noise as of a camera, the same each time."""
    rng = np.random.default_rng(0)
    pair = np.stack([engine.good, engine.bad])
    copies = np.resize(pair, (count, *engine.good.shape)).astype(np.int16)
    copies[2:] += rng.normal(0, 4, copies[2:].shape).round().astype(np.int16)
    return np.clip(copies, 0, 255).astype(np.uint8)


def _distance(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    difference = np.abs(a - b)
    return np.where(np.isnan(difference), np.inf, difference)
