"""A file of measuring tools: what good crops of a region look like, and limits learned from them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
from pydantic import Field, model_validator

from edge_inspector.documents import Document, load
from edge_inspector.errors import DocumentError
from edge_inspector.records import Pixels

MAX_PARTS = 512
Floats = Annotated[tuple[float, ...], Field(max_length=MAX_PARTS)]
Ints = Annotated[tuple[int, ...], Field(max_length=MAX_PARTS)]


class Blobs(Document):
    """Separate bright or dark parts: one entry of each list per part, in reading order."""

    polarity: Literal["bright", "dark"]
    blob_grey: float = Field(description="Grey level of a part.")
    ground_grey: float = Field(description="Grey level around the parts.")
    names: tuple[str, ...] = Field(min_length=1, max_length=MAX_PARTS)
    x_px: Floats
    y_px: Floats
    area_px2: Floats
    slack: Floats
    """How much more than most a part varies on good crops, 1 or more: its limits are so much wider."""

    @model_validator(mode="after")
    def _entries_match(self) -> Blobs:
        lists = (self.x_px, self.y_px, self.area_px2, self.slack)
        if any(len(entries) != len(self.names) for entries in lists):
            raise ValueError("the lists of [blobs] differ in length; learn again")
        if not abs(self.blob_grey - self.ground_grey) >= 1 or not (
            min(self.area_px2) > 0 and min(self.slack) >= 1
        ):
            raise ValueError("blobs without contrast or area cannot be measured; learn again")
        return self


class Calipers(Document):
    """
    Pairs of edges that face each other; one entry of each list per pair.

    A pair of axis "x" is looked for along x, in the mean of the rows from `band` on, `band_px` of
    them; `rise` is 1 where its first edge goes from dark to bright, else -1.
    """

    band_px: int = Field(ge=1)
    axis: tuple[Literal["x", "y"], ...] = Field(min_length=1, max_length=MAX_PARTS)
    band: Ints
    first_px: Floats
    second_px: Floats
    rise: Ints
    step_grey: Floats
    """Half the height of the weaker of the two edges, where an edge counts as gone."""

    @model_validator(mode="after")
    def _entries_match(self) -> Calipers:
        lists = (self.band, self.first_px, self.second_px, self.rise, self.step_grey)
        if any(len(entries) != len(self.axis) for entries in lists):
            raise ValueError("the lists of [calipers] differ in length; learn again")
        return self


class Patches(Document):
    """Parts that must look as in the template, whatever the light: their boxes there, in px."""

    names: tuple[str, ...] = Field(min_length=1, max_length=MAX_PARTS)
    boxes: tuple[tuple[int, int, int, int], ...]

    @model_validator(mode="after")
    def _entries_match(self) -> Patches:
        if len(self.boxes) != len(self.names):
            raise ValueError("'names' and 'boxes' differ in length; learn again")
        return self


Limit = Annotated[float, Field(gt=0)]


class Limits(Document):
    """What good crops stay below; a tool without a limit is not used. Missing parts have none."""

    extra_px2: Limit | None = Field(None, description="Largest blob where none belongs, px².")
    place_px: Limit | None = Field(None, description="Largest shift of all blobs together, px.")
    position_px: Limit | None = Field(None, description="Largest distance from its place, px.")
    pitch_px: Limit | None = Field(None, description="Largest change between neighbours, px.")
    joint_share: Limit | None = Field(None, description="Most material between neighbours, share.")
    area_share: Limit | None = Field(None, description="Largest lack or excess of area, share.")
    width_px: Limit | None = Field(None, description="Largest change between two edges, px.")
    mismatch: Limit | None = Field(None, description="1 less the correlation with the template.")


class Tools(Document):
    """All tools of a region; crops are (height, width) px, grey."""

    kind: Literal["tools"] = "tools"
    word: str = Field("blob", min_length=1, max_length=40)
    """What a blob is called in sentences."""
    height: int = Field(ge=8, le=2048)
    width: int = Field(ge=8, le=2048)
    crops: int = Field(ge=1)
    """Good crops that the limits were learned from."""
    blobs: Blobs | None = None
    calipers: Calipers | None = None
    patches: Patches | None = None
    limits: Limits = Field(default_factory=Limits)
    left_out: dict[str, str] = Field(default_factory=dict)
    """Tools that good crops gave no use for, and why."""
    template: str
    """The median good crop: a PNG in base64."""

    @property
    def used(self) -> tuple[str, ...]:
        """Names of the tools that judge."""
        count = ("count",) if self.blobs else ()
        return count + tuple(self.limits.model_dump(exclude_none=True))

    def pixels(self) -> Pixels:
        """The template, uint8 (height, width); raises `ValueError`."""
        try:
            raw = np.frombuffer(base64.b64decode(self.template, validate=True), np.uint8)
            picture = cv2.imdecode(raw, cv2.IMREAD_GRAYSCALE) if raw.size else None
        except (ValueError, cv2.error):
            picture = None
        if picture is None or picture.shape != (self.height, self.width):
            raise ValueError(
                f"'template' is no PNG of {self.width}x{self.height} px; learn the tools again"
            )
        return np.asarray(picture, np.uint8)


def encoded(pixels: Pixels) -> str:
    """Pixels as `Tools.template` holds them."""
    return base64.b64encode(cv2.imencode(".png", pixels)[1].tobytes()).decode()


def load_tools(path: Path) -> Tools:
    """Read and check a tools file; raises `DocumentError`."""
    tools = load(Tools, path)
    try:
        tools.pixels()
    except ValueError as error:
        raise DocumentError(str(path), None, str(error)) from error
    if not tools.used:
        raise DocumentError(str(path), None, "judges nothing; learn it from crops that are alike")
    return tools
