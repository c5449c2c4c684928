"""Golden samples into a recipe: by a picture, or by the id of a recorded unit."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import tomlkit

from edge_inspector.documents import nearest, parse_toml, read_toml, validate
from edge_inspector.errors import DataError, Misuse
from edge_inspector.recipe import Golden, Recipe
from edge_inspector.records import Outcome
from edge_inspector.studies.dataset import read_image
from edge_inspector.studies.recipe_text import replace_text
from edge_inspector.studies.recorded import read_recorded

FOLDER = "golden"
"""Beside the recipe: where the pictures are kept."""


def read_expected(text: str) -> tuple[Outcome, str | None]:
    """`pass`, `uninspected`, `fail` or `fail:CLASS`; raises `Misuse`."""
    outcome, _, defect_class = text.partition(":")
    known = [one.value for one in Outcome]
    if outcome not in known or (defect_class and outcome != Outcome.FAIL.value):
        raise Misuse(f"--expect '{text}'; it must be one of {', '.join(known)}, or fail:CLASS")
    return Outcome(outcome), defect_class or None


def pictures_of(what: str, recorded: Path | None) -> list[tuple[str, str | None, Path]]:
    """
    Name, camera and file of what is to be a golden sample: one picture, or a recorded unit's.

    A unit goes by its id, key or trigger id; of several frames of one camera the last counts.
    Raises `Misuse` where neither is found.
    """
    if recorded is None:
        path = Path(what)
        if not path.is_file():
            raise Misuse(
                f"{what}: there is no such picture; for a unit by its id, name the folder that "
                "'edge-inspector record' wrote with --from"
            )
        return [(path.stem, None, path)]
    frames = read_recorded(recorded)
    found = [f for f in frames if what in (f.unit_id, f.unit_key, str(f.trigger_id))]
    if not found:
        ids = {frame.unit_id or frame.unit_key for frame in frames}
        raise Misuse(f"{recorded} has no unit '{what}'{nearest(what, ids)}")
    last = {frame.camera: frame for frame in found}
    return [(what, frame.camera, frame.path) for frame in last.values()]


def safe_name(text: str) -> str:
    """A unit's name as a recipe and a file system take it."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text)[:64] or "unit"


def sample_of(recipe: Recipe, name: str, camera: str | None, picture: Path, expect: str) -> Golden:
    """A golden sample of this recipe; raises `Misuse` for one that it cannot have."""
    outcome, defect_class = read_expected(expect)
    camera = camera or recipe.cameras[0]
    unit = safe_name(name)
    if camera not in recipe.cameras:
        raise Misuse(f"camera '{camera}' has no region{nearest(camera, recipe.cameras)}")
    if (unit, camera) in {(one.unit, one.camera) for one in recipe.golden}:
        raise Misuse(f"the recipe has a golden sample '{unit}' already; give another --unit")
    return Golden(
        unit=unit, picture=picture, camera=camera, expect=outcome, defect_class=defect_class
    )


def keep_picture(recipe: Path, sample: Golden) -> Golden:
    """The sample with its picture copied beside the recipe, as a PNG of the same pixels."""
    kept = recipe.resolve().parent / FOLDER / f"{sample.unit}-{sample.camera}.png"
    if sample.picture.resolve() == kept:
        raise Misuse(f"{kept} is the place of the copy; give a picture that lies elsewhere")
    kept.parent.mkdir(exist_ok=True)
    pixels = read_image(sample.picture)
    if sample.picture.suffix.lower() == ".png":
        shutil.copyfile(sample.picture, kept)
    elif not cv2.imwrite(str(kept), pixels):
        raise DataError(f"{kept} cannot be written; give the recipe's folder the right to")
    return sample.model_copy(update={"picture": kept})


def append(recipe: Path, samples: Iterable[Golden]) -> None:
    """Write samples whose pictures lie beside the recipe into it; comments stay."""
    document = tomlkit.parse(read_toml(recipe)[1])
    add_to(document, recipe, samples)
    text = tomlkit.dumps(document)
    validate(Recipe, parse_toml(text, recipe), recipe, text)
    replace_text(recipe, text)


def add_to(document: tomlkit.TOMLDocument, recipe: Path, samples: Iterable[Golden]) -> None:
    """Add samples to the `document` of `recipe`, beside which their pictures lie."""
    table = document.setdefault("golden", tomlkit.aot())
    for sample in samples:
        entry: dict[str, Any] = {
            "unit": sample.unit,
            "picture": str(sample.picture.relative_to(recipe.resolve().parent)),
            "camera": sample.camera,
            "expect": sample.expect.value,
        }
        if sample.defect_class:
            entry["defect_class"] = sample.defect_class
        table.append(tomlkit.item(entry))
