"""The engines of a recipe: verified, challenged, and the ones that it was calibrated with."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass

from edge_inspector.backends import REFERENCE, precision_of
from edge_inspector.bundle import Engine, open_engine
from edge_inspector.choice import Runtimes, open_runner
from edge_inspector.crops import expand_region
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
    """The runner; of several the first that is not of the reference's precision, else the first."""


def open_engines(recipe: Recipe, runtimes: Runtimes, stack: ExitStack) -> Engines:
    """
    Open all engines of a recipe; `stack` closes them.

    Raises `DocumentError`, `EngineRefused` for one that the recipe was not calibrated with, or not
    in this precision, or `BackendMissing`.
    """
    scorers: dict[str, Scorer] = {}
    square: set[str] = set()
    challenges: dict[str, tuple[Crop, Crop]] = {}
    digests: list[str] = []
    runners: list[str] = []
    precision: str | None = None
    for name, folder in recipe.engines.items():
        engine = open_engine(folder)
        _same_engine(recipe, name, engine.digest)
        runner, session = open_session(recipe, name, engine, runtimes, precision)
        stack.callback(session.close)
        if len(engine.models) > 1:  # one threshold is for the scores of all engines
            precision = precision_of(runner)[1]
        runners.append(runner)
        scorers[name] = scorer_of(session, engine)
        if engine.manifest.input.square:
            square.add(name)
        digests.append(engine.digest[:16])
        challenges[name] = whole(engine.good), whole(engine.bad)
    _same_rules(recipe)
    coarse = [runner for runner in runners if precision_of(runner)[1] != REFERENCE]
    backend = (coarse or runners or [""])[0]
    return Engines(scorers, frozenset(square), challenges, "-".join(digests), backend)


def crop_counts(recipe: Recipe) -> Counter[tuple[str, str]]:
    """How many crops of a frame go to each engine, by its name and the frame's camera."""
    counts: Counter[tuple[str, str]] = Counter()
    for region in recipe.regions:
        cells = len(expand_region(region))
        if region.engine is not None:
            counts[region.engine, region.camera] += cells
        if region.classifier is not None:  # a unit is seldom rejected in more than one region
            counts[region.classifier, region.camera] += cells if region.classify == "always" else 1
    return counts


def usual_runners(recipe: Recipe) -> tuple[str, ...]:
    """The CPU's runtimes, in the precision that the recipe was calibrated in where it says one."""
    usual = ("openvino", "onnxruntime")
    precision = precision_of(recipe.calibration.backend)[1] if recipe.calibration else REFERENCE
    if precision == REFERENCE:
        return usual
    return (*(f"{name}:{precision}" for name in usual), *usual)


def open_session(
    recipe: Recipe, name: str, engine: Engine, runtimes: Runtimes, precision: str | None = None
) -> tuple[str, Session]:
    """
    The runner that serves the recipe's engine `name` here, and its session, challenged.

    `auto` keeps to `precision`, or to that which the recipe was calibrated in. Raises
    `EngineRefused` for a runner whose scores the recipe's thresholds are not made for.
    """
    calibration = recipe.calibration
    wanted = precision_of(calibration.backend)[1] if calibration is not None else precision
    if wanted not in engine.models:  # an engine that has no other is judged in the reference's
        wanted = wanted and REFERENCE
    most = max((count for (one, _), count in crop_counts(recipe).items() if one == name), default=1)
    runner, session = open_runner(engine, runtimes, crops=most, precision=wanted)
    found = precision_of(runner)[1]
    if calibration is None or found == wanted:
        return runner, session
    session.close()
    raise EngineRefused(
        f"engine '{name}': recipe '{recipe.product}' was calibrated in {wanted}, {runner} runs it in "
        f"{found}; name a runner of {wanted} under workers.backends, or run 'edge-inspector "
        f"calibrate --backend {runner}'"
    )


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
