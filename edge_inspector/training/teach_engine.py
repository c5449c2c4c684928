"""One engine of a recipe: chosen, trained or found again, written as the next version."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edge_inspector import importer
from edge_inspector.bundle import MANIFEST
from edge_inspector.errors import DataError
from edge_inspector.manifest import load_manifest
from edge_inspector.training.checkpoint import FILE, load, part_of
from edge_inspector.training.data import GoodCrops
from edge_inspector.training.export import write_engine
from edge_inspector.training.plan import LOOPS, Plan, Trained
from edge_inspector.training.teach_choice import Choice

Tick = Callable[[int, float, float], None]


@dataclass(frozen=True, slots=True)
class TaughtEngine:
    """An engine that the recipe will use; `again` is True where the same crops had made it before."""

    name: str
    folder: Path
    choice: Choice
    crops: int
    again: bool
    steps: int = 0
    ended: str = ""
    sound: bool = True


def teach_engine(
    name: str, listed: Path, crops: GoodCrops, choice: Choice, wish: Plan, tick: Tick
) -> TaughtEngine:
    """
    Train into the next free version beside `listed`, or go on where a run was cut off.

    An engine of the same crops, model and seed is taken as it is. `wish` holds seed, bounds and
    threads. Raises what the loop and `write_engine` raise.
    """
    folder, there = version_folder(listed, crops, choice.model, wish.seed)
    count = len(crops.train)
    if there:
        return TaughtEngine(name, folder, choice, count, again=True)
    part = part_of(folder)
    plan = Plan(
        choice.model,
        seed=wish.seed,
        minutes=wish.minutes,
        steps=wish.steps if choice.model == "sensitive" else None,
        threads=wish.threads,
        part=part,
    )
    resume = _goes_on(part, plan.identity(crops.digest))
    trained: Trained = importer.choose(LOOPS, plan.model, "model")(
        replace(plan, resume=resume), crops, tick
    )
    write_engine(folder, trained, crops, model_name=plan.model, seed=plan.seed)
    shutil.rmtree(part, ignore_errors=True)
    return TaughtEngine(
        name, folder, choice, count, False, trained.steps, trained.ended, trained.sound
    )


def version_folder(listed: Path, crops: GoodCrops, model: str, seed: int) -> tuple[Path, bool]:
    """The version that these crops made already, and True; else the next free one, and False."""
    family = listed.parent if listed.name.isdigit() else listed.with_name(f"{listed.name}-taught")
    versions = sorted(_versions(family), key=lambda folder: int(folder.name))
    for folder in versions:
        if (folder / MANIFEST).exists() and _made_of(folder, crops, model, seed):
            return folder, True
    return family / str(int(versions[-1].name) + 1 if versions else 1), False


def _versions(family: Path) -> Sequence[Path]:
    return [f for f in family.iterdir() if f.name.isdigit()] if family.is_dir() else []


def _made_of(folder: Path, crops: GoodCrops, model: str, seed: int) -> bool:
    found = load_manifest(folder)
    made = (found.training_data_sha256, found.architecture, found.seed, found.input)
    return made == (crops.digest, model, seed, crops.shape)


def _goes_on(part: Path, identity: str) -> bool:
    """Whether a training of the same lies there; one of something else is removed."""
    try:
        state = load(part / FILE)
    except DataError:
        state = None
    if state is not None and state["identity"] == identity:
        return True
    shutil.rmtree(part, ignore_errors=True)
    return False
