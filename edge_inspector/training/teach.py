"""
From recorded good units to a recipe in observe mode: read `teach` from top to bottom.

Whatever ends it early leaves the recipe in force untouched; run again, it goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from edge_inspector.errors import DataError
from edge_inspector.inspector import Inspector, open_inspector
from edge_inspector.recipe import Calibration, Recipe, load_recipe
from edge_inspector.studies.recipe_text import replace_text, write_recipe
from edge_inspector.training.plan import Plan
from edge_inspector.training.sensitive import STEPS
from edge_inspector.training.teach_choice import choose
from edge_inspector.training.teach_composed import Caught, caught
from edge_inspector.training.teach_crops import aligners, cut_good, places
from edge_inspector.training.teach_engine import TaughtEngine, teach_engine
from edge_inspector.training.teach_recipe import Draft, classifiers_of, draft, with_budget
from edge_inspector.training.teach_score import (
    Scored,
    outcomes,
    quality_of,
    score_units,
    with_threshold,
)
from edge_inspector.training.teach_sheet import SHOWN, write_sheet
from edge_inspector.training.teach_tools import with_tools
from edge_inspector.training.teach_units import Units, read_units

LEAST_MINUTES = 0.05
LITTLE = 0.25
"""Share of the steps that settle a network below which a person is told."""
MOST_FAILED = 200
"""Units that the incumbent failed which are judged, for a word on them."""
Tell = Callable[[str], None]
Show = Callable[[str, int, int], None]
"""Stage, done, total; total 0 where it is not known."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What to teach; `minutes` bounds the training of all engines together."""

    product: str
    overkill: float = 0.01
    minutes: float = 12.0
    seed: int = 0
    drop: tuple[str, ...] = ()
    steps: int | None = None
    threads: int = 1
    line_threads: int = 1
    """Of the line's workers, whose runtime sets the threshold."""
    backends: tuple[str, ...] = ("openvino", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Taught:
    """What was made and what it rests on; `dropped` are all units dropped so far."""

    recipe: Path
    version: int
    calibration: Calibration
    engines: tuple[TaughtEngine, ...]
    tools: dict[str, str]
    """Region -> what its tools measure, or why it has none."""
    units: dict[str, int]
    remarks: tuple[str, ...]
    skipped: dict[str, str]
    refused_frames: dict[str, tuple[int, int]]
    caught: tuple[Caught, ...]
    failed: dict[str, int]
    """What this recipe says of the units that the incumbent failed."""
    suspicious: tuple[tuple[str, float], ...]
    sheet: Path
    dropped: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Plain values for JSON; without the calibration's scales, which the recipe holds."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain["calibration"] = self.calibration.model_dump(mode="json", exclude={"regions"})
        plain["engines"] = [asdict(engine) for engine in self.engines]
        plain["caught"] = [asdict(one) for one in self.caught]
        values: dict[str, Any] = json.loads(json.dumps(plain, default=str))
        return values


def teach(recipe: Path, recorded: Path, wish: Wish, tell: Tell, show: Show) -> Taught:
    """
    Teach `wish.product` from the folder `recorded`, and put it in force as `recipe`, observing.

    Raises `Misuse` and `DataError` for what was given, `Breakage` for the box, `EngineRefused`
    where runtimes disagree; then the recipe in force is the one before.
    """
    told = _Folder(recipe.resolve().parent / "taught" / wish.product)
    dropped = tuple(dict.fromkeys([*told.dropped(), *wish.drop]))
    show("reading frames", 0, 0)
    units = read_units(recorded, drop=dropped, seed=wish.seed, overkill=wish.overkill)
    show("finding regions", 0, 0)
    drafted = draft(recipe, wish.product, units.train, units.cameras)
    seeing = [camera for camera in units.cameras if camera in drafted.recipe.cameras]
    units = units.seen_by(seeing or units.cameras)
    _tell_draft(drafted, units, tell)
    engines = _engines(drafted, units, wish, tell, show)
    folders = classifiers_of(drafted.recipe) | {engine.name: engine.folder for engine in engines}
    observed = drafted.recipe.model_copy(update={"engines": folders, "observe": True})
    observed, tools = with_tools(observed, recipe.resolve().parent / "tools", units.train, show)
    with _opened(observed, wish) as inspector:
        scored = _scored(inspector, units, wish, show)
        ready = with_threshold(observed, inspector, scored, wish.overkill)
        ready = with_budget(drafted, ready, inspector, units.calibrate[0])
        show("learning frame quality", 0, 0)
        tables, refused = quality_of(inspector, scored, repeats=units.repeats)
    ready = ready.model_copy(update={"quality": tables})
    assert ready.calibration is not None
    with _opened(ready, wish) as inspector:
        seen, failed = _seen(inspector, units, wish, show)
        write_sheet(told.sheet, inspector, scored.suspicious, ready.calibration.threshold)
    taught = Taught(
        recipe=recipe,
        version=ready.version,
        calibration=ready.calibration,
        engines=engines,
        tools=tools,
        units=_counts(units),
        remarks=units.remarks,
        skipped=dict(scored.skipped),
        refused_frames=refused,
        caught=tuple(seen),
        failed=failed,
        suspicious=tuple((u.name, round(score, 3)) for u, score in scored.suspicious[:SHOWN]),
        sheet=told.sheet,
        dropped=dropped,
    )
    _activate(ready, recipe)
    told.write(taught)
    return taught


def _tell_draft(drafted: Draft, units: Units, tell: Tell) -> None:
    for remark in (*units.remarks, *drafted.why):
        tell(remark)
    counts, recipe = _counts(units), drafted.recipe
    tell(
        f"{counts['train'] + counts['held_out']} units to learn from, {counts['calibrate']} for "
        f"the threshold; {len(recipe.regions)} regions, {len(recipe.engines)} engines, alignment "
        + (", ".join(f"{c} by {a.method}" for c, a in recipe.alignment.items()) or "none")
    )


def _engines(
    drafted: Draft, units: Units, wish: Wish, tell: Tell, show: Show
) -> tuple[TaughtEngine, ...]:
    """Each engine of the recipe; they share the minutes evenly."""
    recipe = drafted.recipe
    found, ready = aligners(recipe), []
    wanted = places(recipe, units.train)
    for name, place in wanted.items():
        stage = partial(show, f"cutting crops of '{name}'")
        crops = cut_good(found, place, units.train, units.held_out, stage)
        for remark in crops.remarks:
            tell(remark)
        share_ms = drafted.budget_ms / len(wanted)
        choice = choose(list(crops.train.numpy()), place.shape, len(place.rois), share_ms)
        tell(f"engine '{name}': {choice.model}, as {choice.why}")
        plan = Plan(
            choice.model,
            seed=wish.seed,
            minutes=max(wish.minutes / len(wanted), LEAST_MINUTES),
            steps=wish.steps,
            threads=wish.threads,
        )
        tick = _training_tick(name, plan, len(crops.train), show)
        engine = teach_engine(name, recipe.engines[name], crops, choice, plan, tick)
        tell(_word_on(engine))
        ready.append(engine)
    return tuple(ready)


def _training_tick(
    name: str, plan: Plan, crops: int, show: Show
) -> Callable[[int, float, float], None]:
    total = (plan.steps or STEPS) if plan.model == "sensitive" else min(crops, 800)
    return lambda step, loss, best: show(f"teaching '{name}'", step, total)


def _word_on(engine: TaughtEngine) -> str:
    if engine.again:
        return f"engine '{engine.name}': {engine.folder} was made of the same crops and is kept"
    warning = "" if engine.sound else "; ITS LOSS BROKE, look at the figures and try another --seed"
    if engine.choice.model == "sensitive" and engine.steps < LITTLE * STEPS:
        warning += f"; THAT IS LITTLE, {STEPS} would do, give more --minutes"
    return (
        f"engine '{engine.name}': {engine.folder}, {engine.crops} crops, {engine.steps} steps, "
        f"{engine.ended}{warning}"
    )


def _opened(recipe: Recipe, wish: Wish) -> Any:
    return open_inspector(recipe, backends=wish.backends, threads=wish.line_threads)


def _scored(inspector: Inspector, units: Units, wish: Wish, show: Show) -> Scored:
    return score_units(
        inspector, units, wish.overkill, lambda done, of: show("scoring good units", done, of)
    )


def _seen(
    inspector: Inspector, units: Units, wish: Wish, show: Show
) -> tuple[Sequence[Caught], dict[str, int]]:
    """Composed defects on units that set no threshold's top, and what the incumbent failed."""
    show("judging composed defects", 0, 0)
    seen = caught(inspector, units.calibrate, wish.seed)
    said = outcomes(
        inspector,
        units.failed[:MOST_FAILED],
        lambda done, of: show("judging what the incumbent failed", done, of),
    )
    return seen, {outcome.value: count for outcome, count in said.items()} if units.failed else {}


def _counts(units: Units) -> dict[str, int]:
    return {
        name: len(getattr(units, name)) for name in ("train", "held_out", "calibrate", "failed")
    }


def _activate(recipe: Recipe, path: Path) -> None:
    """The recipe in force from now on; the one before stays beside it."""
    if path.exists():
        before = load_recipe(path)
        kept = path.with_name(f"{path.stem}.v{before.version}{path.suffix}")
        replace_text(kept, path.read_text(encoding="utf-8"))
    write_recipe(recipe, path)


class _Folder:
    """What is told of a product beside its recipe: the report and the sheet."""

    def __init__(self, folder: Path) -> None:
        self.sheet = folder / "look.png"
        self._report = folder / "report.json"

    def dropped(self) -> tuple[str, ...]:
        """Units that were dropped before."""
        if not self._report.exists():
            return ()
        try:
            return tuple(json.loads(self._report.read_text(encoding="utf-8"))["dropped"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self._report}: is damaged: {error!r}; remove it") from error

    def write(self, taught: Taught) -> None:
        """Whole or not at all."""
        self._report.parent.mkdir(parents=True, exist_ok=True)
        replace_text(self._report, json.dumps(taught.document(), indent=2) + "\n")
