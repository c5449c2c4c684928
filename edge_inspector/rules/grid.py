"""The ball grid: its nodes, neighbours, and the robust fit to blobs. Places are complex, x + iy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_inspector.rules.parameters import BallMap, GridParameters

Places = NDArray[np.complex128]
Ints = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the grid lies: `place = turn * node + offset`, turn a complex number near 1."""

    turn: complex
    offset: complex

    def of(self, nodes: Places) -> Places:
        """Places of the nodes in the crop."""
        return self.turn * nodes + self.offset

    @property
    def turn_deg(self) -> float:
        """Turn of the grid in degrees."""
        return float(np.degrees(np.angle(self.turn)))


def nodes(grid: GridParameters, ball_map: BallMap) -> Places:
    """Nominal places of all balls, column by column: the regular grid, moved as the map says."""
    block = np.arange(grid.blocks) * grid.block_step_px
    column = np.arange(grid.block_columns) * grid.pitch_x_px
    x = grid.first_x_px + (block[:, None] + column).ravel()
    y = grid.first_y_px + np.arange(grid.block_rows) * grid.pitch_y_px
    regular = (x[:, None] + 1j * y).ravel()
    for entries, axis in ((ball_map.dx_px, 1), (ball_map.dy_px, 1j)):
        if entries:
            regular += axis * np.array(entries)
    return regular


def neighbours(grid: GridParameters) -> tuple[Ints, Ints]:
    """Numbers of the two balls on either side of every gap, across and down, within blocks."""
    count = grid.blocks * grid.block_columns * grid.block_rows
    number = np.arange(count).reshape(grid.blocks, grid.block_columns, grid.block_rows)
    first = np.concatenate([number[:, :-1].ravel(), number[:, :, :-1].ravel()])
    second = np.concatenate([number[:, 1:].ravel(), number[:, :, 1:].ravel()])
    return first, second


def fit(ideal: Places, found: Places, inlier_px: float) -> Placement:
    """
    Similarity of least squares, twice without the balls that misfit by more than `inlier_px`.

    Starts from the median shift, so that neither a defect nor a foreign blob pulls it.
    """
    shift = found - ideal
    middle = complex(np.median(shift.real), np.median(shift.imag))
    placement = Placement(1.0, middle)
    for reach in (2 * inlier_px, inlier_px, inlier_px):
        near = np.abs(found - placement.of(ideal)) <= reach
        if np.count_nonzero(near) < 4:
            return placement
        placement = _similarity(ideal[near], found[near])
    return placement


def _similarity(ideal: Places, found: Places) -> Placement:
    """Closed form: the complex number that turns and scales centred nodes onto centred places."""
    from_mean, to_mean = ideal.mean(), found.mean()
    centred = ideal - from_mean
    turn = np.vdot(centred, found - to_mean) / np.vdot(centred, centred).real
    return Placement(complex(turn), complex(to_mean - turn * from_mean))
