"""The engines of a recipe: verified, challenged, and the ones that it was calibrated with."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from edge_inspector import parity
from edge_inspector.backends import open_first
from edge_inspector.bundle import Engine, open_engine
from edge_inspector.errors import EngineRefused
from edge_inspector.protocols import Scorer, Session
from edge_inspector.recipe import Recipe
from edge_inspector.records import Crop, Pixels, Roi
from edge_inspector.rules import rules_digest
from edge_inspector.scorers.anomaly import AnomalyScorer
from edge_inspector.scorers.classifier import ClassifierScorer


@dataclass(frozen=True, slots=True)
class Engines:
    """What is open: scorers by the recipe's names, and which of them take squares."""

    scorers: dict[str, Scorer]
    square: frozenset[str]
    challenges: dict[str, tuple[Crop, Crop]]
    """Good and bad, by name."""
    digest: str
    """The first 16 hex digits of each, in the recipe's order."""
    backend: str


def open_engines(
    recipe: Recipe, backends: Sequence[str], threads: int, stack: ExitStack
) -> Engines:
    """
    Open all engines of a recipe; `stack` closes them.

    Raises `DocumentError`, `EngineRefused` for one that the recipe was not calibrated with, or
    `BackendMissing`.
    """
    scorers: dict[str, Scorer] = {}
    square: set[str] = set()
    challenges: dict[str, tuple[Crop, Crop]] = {}
    digests: list[str] = []
    backend = ""
    for name, folder in recipe.engines.items():
        engine = open_engine(folder)
        _same_engine(recipe, name, engine.digest)
        backend, session = open_first(backends, engine.model, threads)
        stack.callback(session.close)
        parity.challenge(session, engine)
        scorers[name] = scorer_of(session, engine)
        if engine.manifest.input.square:
            square.add(name)
        digests.append(engine.digest[:16])
        challenges[name] = whole(engine.good), whole(engine.bad)
    _same_rules(recipe)
    return Engines(scorers, frozenset(square), challenges, "-".join(digests), backend)


def scorer_of(session: Session, engine: Engine) -> AnomalyScorer | ClassifierScorer:
    """What turns crops into evidence with this engine; raises `EngineRefused`."""
    if engine.manifest.kind == "classifier":
        return ClassifierScorer(session, engine.manifest)
    return AnomalyScorer(session, engine.manifest)


def whole(pixels: Pixels) -> Crop:
    """A crop that is a picture of its own, such as a challenge crop."""
    height, width = pixels.shape[:2]
    return Crop(Roi("challenge", "main", (0, 0, width, height)), pixels, (0, 0, width, height))


def _same_engine(recipe: Recipe, name: str, digest: str) -> None:
    if recipe.calibration is None:
        return
    calibrated = recipe.calibration.engines.get(name)
    if calibrated != digest:
        known = f"with {calibrated[:16]}" if calibrated else "without engine of that name"
        raise EngineRefused(
            f"engine '{name}' has digest {digest[:16]}, but recipe '{recipe.product}' was calibrated "
            f"{known}; run 'edge-inspector calibrate' again"
        )


def _same_rules(recipe: Recipe) -> None:
    known = recipe.calibration.rules if recipe.calibration else {}
    for name, calibrated in known.items():
        digest = rules_digest(recipe.rules[name]) if name in recipe.rules else "gone"
        if digest != calibrated:
            raise EngineRefused(
                f"rules '{name}' have digest {digest[:16]}, but recipe '{recipe.product}' was "
                f"calibrated with {calibrated[:16]}; run 'edge-inspector calibrate' again"
            )
