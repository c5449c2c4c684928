"""
`recipe.toml`: the product. Regions, their alignment, their engines or rules, and the threshold.

Thresholds live here and nowhere else. A region's raw score is normalised as
`(score - center) / spread` with the figures of good units; a unit's score is the largest of its
regions, and `calibration.threshold` is compared with that.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from edge_inspector.documents import Document, NameStr, line_of, nearest, read_toml, validate
from edge_inspector.errors import DocumentError
from edge_inspector.recipe_alignment import Alignment, Fiducials, Point, Template
from edge_inspector.records import Outcome

PAGE_VERSION = 1
"""Of the pages that `recipe` writes; raised when what they save must no longer be read."""

Rect = tuple[int, int, Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]


class Grid(Document):
    """Cuts a region into equal cells, named `<region>-r<row>c<column>`, rows and columns from 1."""

    rows: int = Field(ge=1, le=64)
    columns: int = Field(ge=1, le=64)


Fuse = Literal["either", "both"]
Symbology = Literal["data-matrix", "qr-code", "code-128", "any"]


class Region(Document):
    """
    A named area in reference px, scored by an engine, by rules or by both; or the unit's code.

    With both, `fuse` says when the region fails: where either kind of evidence says so, or where
    both do. A region with `code` is read, not judged: its text is the unit's serial.

    A `classifier`, an engine as well, names the defect where the region's engine rejects it. With
    `classify = "always"` it also says what it sees in regions that pass, which changes no outcome.
    """

    name: NameStr
    rect: Rect
    camera: NameStr = "main"
    grid: Grid | None = None
    engine: str | None = None
    rules: str | None = None
    fuse: Fuse = "either"
    classifier: str | None = None
    classify: Literal["rejected", "always"] = "rejected"
    code: Symbology | None = None
    unreadable: Literal["uninspected", "unnamed"] = "uninspected"
    """What becomes of a unit whose code cannot be read: not passed, or judged without a serial."""
    ignore: tuple[tuple[Point, ...], ...] = ()
    """Polygons in reference px that are not to be judged."""

    @model_validator(mode="after")
    def _has_a_task(self) -> Region:
        judged = self.engine is not None or self.rules is not None
        if judged == (self.code is not None):
            raise ValueError(
                f"region '{self.name}' needs 'engine', 'rules' or both, or else 'code'"
            )
        if self.code is not None and (self.grid is not None or self.ignore):
            raise ValueError(f"region '{self.name}' with 'code' takes no 'grid' and no 'ignore'")
        if self.fuse == "both" and (self.engine is None or self.rules is None):
            raise ValueError(f"region '{self.name}': fuse = \"both\" needs 'engine' and 'rules'")
        return self

    @model_validator(mode="after")
    def _has_something_to_name(self) -> Region:
        if self.classifier is not None and self.engine is None:
            raise ValueError(
                f"region '{self.name}': 'classifier' names what an engine rejects, so it needs "
                "'engine'; rules name what they find themselves"
            )
        if self.classifier is None and self.classify == "always":
            raise ValueError(f"region '{self.name}': classify = \"always\" needs 'classifier'")
        return self


Measure = Literal[
    "saturated",
    "black",
    "mean",
    "contrast",
    "sharpness",
    "tint",
    "x_px",
    "y_px",
    "angle_deg",
    "scale",
    "match",
]


class FrameQuality(Document):
    """What frames an engine was calibrated for; one beyond it is a camera's fault, not a pass."""

    refuse_repeats: bool = False
    """Whether a frame with exactly the pixels of one of the last 32 means a frozen camera."""
    limits: dict[Measure, tuple[float, float]] = Field(default_factory=dict)
    """Lowest and highest, as `calibrate` found them on good units; see `quality.WORDS`."""

    @model_validator(mode="after")
    def _in_order(self) -> FrameQuality:
        for name, (low, high) in self.limits.items():
            if not low <= high:
                raise ValueError(f"limits of '{name}': {low:g} is not below {high:g}")
        return self


class Scale(Document):
    """Median and spread (1.4826 × median absolute deviation) of a region's raw score on good units."""

    center: float
    spread: float = Field(gt=0)


class Calibration(Document):
    """The threshold and the promise it was set with."""

    threshold: float
    overkill: float = Field(gt=0, lt=1)
    """Unit overkill rate that was asked for."""
    promised_overkill: float = Field(gt=0, le=1)
    """Upper bound on the unit overkill rate at `confidence`."""
    confidence: float = Field(default=0.95, gt=0, lt=1)
    units: int = Field(ge=1)
    set_aside: int = Field(default=0, ge=0)
    provisional: bool = False
    backend: str
    engines: dict[str, str]
    """Engine name -> digest (sha256 of the manifest)."""
    rules: dict[str, str] = Field(default_factory=dict)
    """Name of a rules file whose scores share the threshold -> digest (sha256 of the file)."""
    regions: dict[str, Scale] = Field(default_factory=dict)
    """By region for its engine; `<region> rules` for its rules or tools."""


class Golden(Document):
    """A unit whose verdict is fixed: its picture is judged at start, and must be judged as here."""

    unit: NameStr
    picture: Path
    camera: NameStr = "main"
    expect: Outcome
    defect_class: NameStr | None = None


class Step(Document):
    """
    What judges a unit where there is not time for the whole recipe, and not for the steps before.

    Another recipe of the product, which looks at the same places by its own calibration.
    """

    name: NameStr
    recipe: Path


class Recipe(Document):
    """One product."""

    product: NameStr
    version: int = Field(ge=1)
    latency_budget_ms: float = Field(gt=0, le=600_000)
    max_queue: int = Field(default=8, ge=1, le=10_000)
    engines: dict[NameStr, Path] = Field(default_factory=dict)
    rules: dict[NameStr, Path] = Field(default_factory=dict)
    alignment: dict[NameStr, Alignment] = Field(default_factory=dict)
    """By camera; a camera without one is taken as it comes."""
    regions: tuple[Region, ...] = Field(min_length=1)
    baseline: str | None = None
    """Rules that judge the same regions and only watch."""
    shadow: Path | None = None
    """Another recipe of this product, with its engines and threshold, that only watches."""
    ladder: tuple[Step, ...] = Field(default=(), max_length=4)
    """After leaving out the classifier, and before `uninspected`."""
    defect_classes: tuple[NameStr, ...] = ()
    """Names that have a number for line controllers, from 1 as listed; others are 0."""
    calibration: Calibration | None = None
    quality: dict[NameStr, FrameQuality] = Field(default_factory=dict)
    """By camera; the frames of a camera without it are taken as they come."""
    mm_per_px: dict[NameStr, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """By camera: millimetres that one px of the reference frame shows."""
    observe: bool = False
    """Whether the product is judged and nothing is driven, until `promote`."""
    golden: tuple[Golden, ...] = ()
    page: int | None = None
    """Version of the page it was saved by, where one saved it."""

    @field_validator("page")
    @classmethod
    def _page_is_ours(cls, page: int | None) -> int | None:
        if page not in (None, PAGE_VERSION):
            raise ValueError(
                f"saved by a page of version {page}, this version reads {PAGE_VERSION}; write a new "
                "page (`edge-inspector recipe edit`) and save again, or check the regions by eye "
                "(`recipe show`) and remove the key"
            )
        return page

    @property
    def cameras(self) -> tuple[str, ...]:
        """Cameras whose frames make up one unit, in order of first mention."""
        return tuple(dict.fromkeys(region.camera for region in self.regions))

    @property
    def budget_us(self) -> int:
        """Latency budget in microseconds."""
        return round(self.latency_budget_ms * 1000)


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe; relative paths in it start at its folder."""
    values, text = read_toml(path)
    recipe = validate(Recipe, values, path, text)
    base = path.resolve().parent
    _check_names(recipe, path, text)
    _check_cameras(recipe, path, text)
    _check_golden(recipe, path, text)
    alignment = {
        camera: _under(base, a, "image") if isinstance(a, (Template, Fiducials)) else a
        for camera, a in recipe.alignment.items()
    }
    return recipe.model_copy(
        update={
            "engines": {name: base / folder for name, folder in recipe.engines.items()},
            "shadow": None if recipe.shadow is None else base / recipe.shadow,
            "rules": {name: base / file for name, file in recipe.rules.items()},
            "alignment": alignment,
            "ladder": tuple(_under(base, step, "recipe") for step in recipe.ladder),
            "golden": tuple(_under(base, sample, "picture") for sample in recipe.golden),
        }
    )


def _under(base: Path, table: Document, key: str) -> Document:
    """The table with the path of this key made absolute."""
    return table.model_copy(update={key: base / getattr(table, key)})


def _check_names(recipe: Recipe, path: Path, text: str) -> None:
    names = [region.name for region in recipe.regions]
    for number, region in enumerate(recipe.regions):
        problem = None
        if region.name in names[:number]:
            problem = f"two regions are named '{region.name}'"
        elif region.engine is not None and region.engine not in recipe.engines:
            problem = _absent(f"region '{region.name}'", "engine", region.engine, recipe.engines)
        elif region.classifier is not None and region.classifier not in recipe.engines:
            problem = _absent(
                f"region '{region.name}'", "engine", region.classifier, recipe.engines
            )
        elif region.rules is not None and region.rules not in recipe.rules:
            problem = _absent(f"region '{region.name}'", "rules", region.rules, recipe.rules)
        if problem is not None:
            raise DocumentError(str(path), line_of(text, ["regions", number]), problem)
    if recipe.baseline is not None and recipe.baseline not in recipe.rules:
        problem = _absent("baseline", "rules", recipe.baseline, recipe.rules)
        raise DocumentError(str(path), line_of(text, ["baseline"]), problem)


def _check_cameras(recipe: Recipe, path: Path, text: str) -> None:
    judged = {region.camera for region in recipe.regions if region.code is None}
    if idle := [camera for camera in recipe.cameras if camera not in judged]:
        problem = f"camera '{idle[0]}' only reads a code; give it a region with engine or rules too"
        raise DocumentError(str(path), line_of(text, ["regions"]), problem)
    for camera in set(recipe.quality) - set(recipe.cameras):
        problem = f"[quality.{camera}]: no region has this camera{nearest(camera, recipe.cameras)}"
        raise DocumentError(str(path), line_of(text, ["quality", camera]), problem)


def _check_golden(recipe: Recipe, path: Path, text: str) -> None:
    for number, sample in enumerate(recipe.golden):
        named = [(one.unit, one.camera) for one in recipe.golden[:number]]
        problem = None
        if sample.camera not in recipe.cameras:
            known = nearest(sample.camera, recipe.cameras)
            problem = (
                f"golden sample '{sample.unit}': no region has camera '{sample.camera}'{known}"
            )
        elif (sample.unit, sample.camera) in named:
            problem = f"two golden samples are named '{sample.unit}' of camera '{sample.camera}'"
        if problem is not None:
            raise DocumentError(str(path), line_of(text, ["golden", number]), problem)


def _absent(place: str, what: str, name: str, known: Mapping[str, Path]) -> str:
    table = what.removesuffix("s") + "s"
    return f"{place}: no {what} '{name}' under [{table}]{nearest(name, known)}"
