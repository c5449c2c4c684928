"""`[alignment.CAMERA]` of `recipe.toml`: how the product is found in the frame."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from edge_inspector.documents import Document

Point = tuple[float, float]
"""x, y in px of the reference frame."""


class Outline(Document):
    """The package is found as the one dark (or bright) body, cropped and resized to `size` px."""

    method: Literal["outline"]
    polarity: Literal["dark", "bright"] = "dark"
    level: int | None = Field(default=None, ge=1, le=254)
    size: tuple[int, int] = (256, 256)
    margin_px: int = 0
    min_area_fraction: float = Field(default=0.1, gt=0, lt=1)
    max_angle_deg: float = Field(default=10.0, gt=0, le=45)


class Template(Document):
    """A patch of a good frame is searched for, in translation and rotation, to sub-pixel accuracy."""

    method: Literal["template"]
    image: Path
    position: Point
    """Top left corner of the patch in the reference frame, px."""
    search_px: int = Field(default=64, ge=1)
    max_angle_deg: float = Field(default=3.0, ge=0, le=45)
    min_score: float = Field(default=0.7, gt=0, le=1)


class Fiducials(Document):
    """Two or more round marks of the reference frame are found and a rigid pose fitted."""

    method: Literal["fiducials"]
    image: Path
    """Patch of one mark, cut from a good frame; its middle is the mark's centre."""
    positions: tuple[Point, ...] = Field(min_length=2)
    search_px: int = Field(default=32, ge=1)
    min_score: float = Field(default=0.7, gt=0, le=1)
    max_residual_px: float = Field(default=1.0, gt=0)


Alignment = Annotated[Outline | Template | Fiducials, Field(discriminator="method")]
