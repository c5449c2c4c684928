"""The recipe that is taught: the station's own, or one proposed from its recorded frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_inspector import clock
from edge_inspector.errors import Breakage, Misuse
from edge_inspector.inspector import Inspector
from edge_inspector.recipe import Recipe, load_recipe
from edge_inspector.studies.calibrate_recipe import file_frame
from edge_inspector.studies.propose import propose_cameras
from edge_inspector.training.teach_units import Unit

LOOKED_AT = 24
"""Units that a proposal is made from: more tell no more."""
PROPOSED_MS = 250.0
"""What the crops of a unit may cost where nobody said how much time there is."""
REST_MS = 60.0
"""Of a latency budget, for everything but the regions."""
TIMED = 8


@dataclass(frozen=True, slots=True)
class Draft:
    """A recipe to teach, paths absolute; `why` is empty where a person wrote it."""

    recipe: Recipe
    why: tuple[str, ...] = ()

    @property
    def budget_ms(self) -> float:
        """Time for a unit; generous where it was not given but proposed."""
        return 2 * PROPOSED_MS if self.why else self.recipe.latency_budget_ms


def draft(path: Path, product: str, units: Sequence[Unit], cameras: Sequence[str]) -> Draft:
    """
    The recipe at `path` as the next version where there is one, else a proposal.

    Raises `Misuse` where that is another product's or has nothing to teach, `DataError` where
    nothing can be proposed.
    """
    if not path.exists():
        return _proposed(path.resolve().parent, product, units, cameras)
    recipe = load_recipe(path)
    if recipe.product != product:
        raise Misuse(
            f"{path} is the recipe of '{recipe.product}', not of '{product}'; give --product "
            f"{recipe.product}, or name another file as 'recipe' in the station's settings"
        )
    if not any(region.engine for region in recipe.regions):
        raise Misuse(
            f"{path} has no region with an engine, so there is nothing to teach; give a region "
            'engine = "NAME" and list it under [engines]'
        )
    return Draft(
        recipe.model_copy(
            update={"version": recipe.version + 1, "calibration": None, "quality": {}}
        )
    )


def classifiers_of(recipe: Recipe) -> dict[str, Path]:
    """Engines that name defects, which nobody can teach from good units: they stay as they are."""
    names = (region.classifier for region in recipe.regions)
    return {name: recipe.engines[name] for name in names if name is not None}


def _proposed(folder: Path, product: str, units: Sequence[Unit], cameras: Sequence[str]) -> Draft:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Breakage(f"{folder} cannot be made: {error.strerror}") from error
    chosen = units[:: -(-len(units) // LOOKED_AT)]
    frames = {
        camera: [unit.frames[number].pixels() for unit in chosen]
        for number, camera in enumerate(cameras)
    }
    found = propose_cameras(frames, product, folder)
    why = tuple(f"{camera}: {'; '.join(words)}" for camera, words in found.why.items())
    return Draft(found.recipe, why)


def with_budget(drafted: Draft, recipe: Recipe, inspector: Inspector, unit: Unit) -> Recipe:
    """
    A proposed recipe with a latency budget that holds a unit twice; one that was given stays.

    Processor time is taken: teaching gives way, so its wall time says nothing about the line's.
    """
    if not drafted.why:
        return recipe
    frames = [file_frame(f.pixels(), f.camera, recipe.product) for f in unit.frames]
    taken_ms = []
    for _ in range(TIMED):
        begun = clock.cpu_ns()
        for frame in frames:
            inspector.inspect(frame)
        taken_ms.append((clock.cpu_ns() - begun) / clock.NS_PER_MS)
    needed = 10 * math.ceil((REST_MS + 2 * float(np.median(taken_ms))) / 10)
    return recipe.model_copy(
        update={"latency_budget_ms": max(float(needed), recipe.latency_budget_ms)}
    )
