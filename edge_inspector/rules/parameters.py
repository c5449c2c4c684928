"""The 36 preset parameters of the rule-based inspector of ball grid arrays, and their TOML file."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from edge_inspector.documents import Document, load


class GridParameters(Document):
    """Where balls belong: blocks side by side, each of equal columns and rows."""

    blocks: int = Field(ge=1, le=16, description="Blocks of balls side by side, count.")
    block_columns: int = Field(ge=1, le=64, description="Columns of balls in a block, count.")
    block_rows: int = Field(ge=2, le=64, description="Rows of balls in a block, count.")
    first_x_px: float = Field(ge=0, description="Middle of the top left ball from the left, px.")
    first_y_px: float = Field(ge=0, description="Middle of the top left ball from the top, px.")
    pitch_x_px: float = Field(gt=2, description="Step from column to column of a block, px.")
    pitch_y_px: float = Field(gt=2, description="Step from row to row, px.")
    block_step_px: float = Field(ge=0, description="Step from block to block, px.")
    ball_diameter_px: float = Field(gt=2, description="Diameter of a good ball, px.")


class BodyParameters(Document):
    """Where the package body lies in the crop, and which of it is judged."""

    crop_side_px: int = Field(ge=64, le=1024, multiple_of=2, description="Side of the crop, px.")
    left_px: int = Field(ge=0, description="Left edge of the body, px.")
    top_px: int = Field(ge=0, description="Top edge of the body, px.")
    width_px: int = Field(ge=32, description="Width of the body, px.")
    height_px: int = Field(ge=32, description="Height of the body, px.")
    margin_px: int = Field(ge=0, le=64, description="Rim of the body that is not judged, px.")
    mark_px: int = Field(ge=0, description="Side of the pin-1 corner, which is not judged, px.")
    window_left_px: int = Field(ge=0, description="Left edge of the textured window, px.")
    window_width_px: int = Field(ge=0, description="Width of the window, 0 for none, px.")


class FindParameters(Document):
    """How balls are told from the body and the grid is found."""

    min_contrast_grey: float = Field(gt=0, description="Least ball minus body, grey levels.")
    ball_edge: float = Field(gt=0, lt=0.5, description="Share of the contrast where a ball begins.")
    blob_area_ratio: float = Field(gt=1, description="Blobs within 1/r..r ball areas are balls.")
    inlier_px: float = Field(gt=0, description="Largest misfit of a ball that steers the grid, px.")
    min_found: float = Field(gt=0, le=1, description="Least share of balls to find the grid by.")
    max_shift_px: float = Field(gt=0, description="Largest shift of the grid that passes, px.")
    max_turn_deg: float = Field(gt=0, description="Largest turn of the grid that passes, degrees.")
    erase_px: float = Field(ge=0, description="Rim around balls that is not judged as body, px.")


class LimitParameters(Document):
    """What is still good; a violation divided by its limit is the anomaly score."""

    missing_fill: float = Field(gt=0, lt=1, description="A ball below this share of area is none.")
    pitch_px: float = Field(gt=0, description="Largest distance of a ball from its place, px.")
    small_share: float = Field(gt=0, le=1, description="Largest lack of a ball's area, share.")
    large_share: float = Field(gt=0, description="Largest excess of a ball's area, share.")
    elongation: float = Field(gt=0, description="Largest difference of a ball's axes, share.")
    extra_fill: float = Field(gt=0, description="Most material off the balls, ball areas.")
    bridge_contrast: float = Field(gt=0, description="Brightest gap of neighbours, of contrast.")
    scratch_grey: float = Field(gt=0, description="Strongest line on the body, grey levels.")
    window_grey: float = Field(gt=0, description="Strongest line in the window, grey levels.")
    stain_grey: float = Field(gt=0, description="Strongest spot on the body, grey levels.")


class BallMap(Document):
    """
    Where each ball lies off the regular grid, as a product drawing says; measured, never preset.

    Column by column from the top left, as many as there are balls; empty for a regular grid.
    """

    dx_px: tuple[float, ...] = ()
    dy_px: tuple[float, ...] = ()


class RuleParameters(Document):
    """All preset parameters, in four tables, and the product's ball map where it has one."""

    grid: GridParameters
    body: BodyParameters
    find: FindParameters
    limits: LimitParameters
    ball_map: BallMap = Field(default_factory=BallMap)

    @model_validator(mode="after")
    def _maps_every_ball(self) -> RuleParameters:
        balls = self.grid.blocks * self.grid.block_columns * self.grid.block_rows
        for entries in (self.ball_map.dx_px, self.ball_map.dy_px):
            if len(entries) not in (0, balls):
                raise ValueError(
                    f"[ball_map] has {len(entries)} entries, the grid has {balls} balls; "
                    "tune again, or leave [ball_map] out"
                )
        return self

    @model_validator(mode="after")
    def _fits_the_crop(self) -> RuleParameters:
        grid, body = self.grid, self.body
        across = (grid.blocks - 1) * grid.block_step_px + (grid.block_columns - 1) * grid.pitch_x_px
        right = grid.first_x_px + across + grid.ball_diameter_px / 2
        bottom = grid.first_y_px + (grid.block_rows - 1) * grid.pitch_y_px
        bottom += grid.ball_diameter_px / 2
        ends = (right, bottom, body.left_px + body.width_px, body.top_px + body.height_px)
        if max(ends) > body.crop_side_px:
            raise ValueError(
                f"balls or body reach {max(ends):.1f} px, the crop is {body.crop_side_px} px; "
                "mend [grid], [body] or crop_side_px"
            )
        return self


def load_rules(path: Path) -> RuleParameters:
    """Read and check a rules file; raises `DocumentError` with file, line and nearest key."""
    return load(RuleParameters, path)
