"""Measures all blobs of a crop at once: every px belongs to the nearest blob, sums are by owner."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.records import Pixels
from edge_inspector.rules.grid import Placement, Places, fit
from edge_inspector.rules.tools import Blobs

Floats = NDArray[np.float64]
MISSING_FILL = 0.2
"""A blob with less of its area than this is not there."""
LEAST_CONTRAST = 0.5
"""Of the learned contrast: with less, the blobs are taken as gone and not as badly lit."""
SOFT = 0.25
"""Share of the contrast where material begins; it is whole at one less this share."""
NEIGHBOUR = 1.25
"""Blobs as far apart as this many times the nearest ones are neighbours as well."""
SAMPLES = 4000


@dataclass(frozen=True, slots=True)
class Measured:
    """
    One entry per blob, but for `pitch_off` and `joint`, one per pair of neighbours.

    `fill` is area over learned area; `joint` the share of material midway between two blobs;
    `place_off` how far the pattern as a whole has moved; `extra` area and middle of the largest
    blob where none belongs.
    """

    there: NDArray[np.bool_]
    centre: Places
    fill: Floats
    usual_fill: float
    off: Floats
    pitch_off: Floats
    joint: Floats
    place_off: float
    extra: float
    extra_at: complex


class BlobGauge:
    """Finds the learned blobs in crops of their size; all tables are made once."""

    def __init__(self, blobs: Blobs, template: Pixels) -> None:
        self._sign = 1.0 if blobs.polarity == "bright" else -1.0
        self._levels = self._sign * blobs.ground_grey, self._sign * blobs.blob_grey
        self.nodes: Places = np.array(blobs.x_px) + 1j * np.array(blobs.y_px)
        self.areas = np.array(blobs.area_px2)
        self.pairs = neighbours(self.nodes)
        middle = (blobs.ground_grey + blobs.blob_grey) / 2
        white = np.asarray(template * self._sign > middle * self._sign, np.uint8)
        owner, distance = _owners(white, self.nodes)
        self.reach = _reach(owner, distance, self.areas)
        core = (white > 0) & (distance == 0)
        ring = (white == 0) & (distance > 1) & (distance <= self.reach + 1)
        self._core, self._ring = _sample(core), _sample(ring)
        self._pad = 2 * self.reach
        foreign = cv2.dilate(white, np.ones((2 * self.reach + 1,) * 2, np.uint8)) > 0
        self.zone = (owner > 0) & (distance <= self.reach)
        self._owned, self._y, self._x = self._numbered(self.zone)
        self._owner = owner[self._y, self._x]
        self._free, _, _ = self._numbered(~foreign & (distance > self.reach))

    def measure(self, pixels: Pixels) -> Measured:
        """All blobs of a crop, uint8 (h, w) of the template's size."""
        material = self._material(pixels)
        area, centre = self._sums(material, 0j)
        shift = self._shift(area, centre)
        if abs(shift) > 0.5:
            area, centre = self._sums(material, shift)
            shift = self._shift(area, centre)
        fill = area / self.areas
        there = fill >= MISSING_FILL
        placement = self._place(there, centre)
        at = placement.of(self.nodes)
        centre = np.where(there, centre, at)
        first, second = self.pairs
        apart = np.abs(centre[first] - centre[second])
        expected = np.abs(at[first] - at[second])
        both = there[first] & there[second]
        extra, extra_at = self._extra(material, shift)
        return Measured(
            there=there,
            centre=centre,
            fill=fill,
            usual_fill=float(np.median(fill[there])) if there.any() else 1.0,
            off=np.where(there, np.abs(centre - at), 0.0),
            pitch_off=np.where(both, np.abs(apart - expected), 0.0),
            joint=self._joint(material, (centre[first] + centre[second]) / 2),
            place_off=float(np.abs(at - self.nodes).max()),
            extra=extra,
            extra_at=extra_at,
        )

    def _numbered(
        self, mask: NDArray[np.bool_]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """Px of a mask: their numbers in padded material, their rows and their columns."""
        y, x = np.nonzero(mask)
        return (y + self._pad) * (mask.shape[1] + 2 * self._pad) + x + self._pad, y, x

    def _material(self, pixels: Pixels) -> NDArray[np.float32]:
        """
        How much of each px is blob, 0 to 1, with a rim of zeros.

        Levels are the crop's own where it has contrast, so that the light does not matter.
        """
        grey = pixels.astype(np.float32) * np.float32(self._sign)
        ground, blob = self._levels
        seen_ground = float(np.median(grey.ravel()[self._ring])) if self._ring.size else ground
        seen_blob = float(np.median(grey.ravel()[self._core])) if self._core.size else blob
        if seen_blob - seen_ground >= LEAST_CONTRAST * (blob - ground):
            ground, blob = seen_ground, seen_blob
        contrast = blob - ground
        scale = np.float32(1 / ((1 - 2 * SOFT) * contrast))
        material = np.clip((grey - np.float32(ground + SOFT * contrast)) * scale, 0, 1)
        return np.asarray(np.pad(material, self._pad), np.float32)

    def _step(self, material: NDArray[np.float32], shift: complex) -> tuple[int, int, int]:
        """The pattern's shift in whole px, down and across, and in numbers of padded material."""
        limit = self._pad
        across = int(np.clip(np.rint(shift.real), -limit, limit))
        down = int(np.clip(np.rint(shift.imag), -limit, limit))
        return down, across, down * material.shape[1] + across

    def _sums(self, material: NDArray[np.float32], shift: complex) -> tuple[Floats, Places]:
        down, across, step = self._step(material, shift)
        weight, count = material.ravel()[self._owned + step], self.nodes.size + 1
        area = np.asarray(np.bincount(self._owner, weight, count)[1:], np.float64)
        safe = np.maximum(area, 1e-6)
        x = np.bincount(self._owner, weight * self._x, count)[1:] / safe
        y = np.bincount(self._owner, weight * self._y, count)[1:] / safe
        return area, x + across + 1j * (y + down)

    def _shift(self, area: Floats, centre: Places) -> complex:
        there = area >= MISSING_FILL * self.areas
        off = (centre - self.nodes)[there]
        return complex(np.median(off.real), np.median(off.imag)) if off.size else 0j

    def _place(self, there: NDArray[np.bool_], centre: Places) -> Placement:
        ideal, found = self.nodes[there], centre[there]
        if ideal.size >= 5:
            return fit(ideal, found, max(1.0, self.reach / 2))
        off = found - ideal
        shift = complex(np.median(off.real), np.median(off.imag)) if off.size else 0j
        return Placement(1.0, shift)

    def _joint(self, material: NDArray[np.float32], middle: Places) -> Floats:
        """Share of material in the 3 x 3 px at each place."""
        high = np.array(material.shape)[:, None] - 2
        at = np.rint([middle.imag, middle.real]) + self._pad
        y, x = np.clip(at, 1, high).astype(np.intp)
        around = np.arange(-1, 2)
        near = material[y[:, None, None] + around[:, None], x[:, None, None] + around]
        return np.asarray(near.mean(axis=(1, 2)), np.float64)

    def _extra(self, material: NDArray[np.float32], shift: complex) -> tuple[float, complex]:
        """The largest blob off all places, and its middle."""
        places = self._free + self._step(material, shift)[2]
        places = places[material.ravel()[places] > 0.5]
        if not places.size:
            return 0.0, 0j
        seed = np.zeros(material.shape, np.uint8)
        seed.ravel()[places] = 1
        _, _, stats, middles = cv2.connectedComponentsWithStats(seed)
        worst = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
        middle = complex(*middles[worst]) - self._pad * (1 + 1j)
        return float(stats[worst, cv2.CC_STAT_AREA]), middle


def neighbours(nodes: Places) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Numbers of the two blobs of each pair that is about as near as blobs get."""
    apart = np.abs(nodes[:, None] - nodes)
    np.fill_diagonal(apart, np.inf)
    near = apart.min(axis=1) * NEIGHBOUR
    first, second = np.nonzero(np.triu(apart <= np.minimum(near[:, None], near)))
    return first, second


def _owners(white: Pixels, nodes: Places) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """By px, the number of the nearest learned blob from 1, and how far away it is."""
    count, labels, _, middles = cv2.connectedComponentsWithStats(white, connectivity=8)
    middle = middles @ np.array([1, 1j])
    number = np.zeros(count, np.intp)
    for place, node in enumerate(nodes, start=1):
        number[1 + int(np.abs(middle[1:] - node).argmin())] = place
    known = number[labels] > 0
    distance, zone = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    of_zone = np.zeros(int(zone.max()) + 1, np.intp)
    of_zone[zone[known]] = number[labels[known]]
    return of_zone[zone], np.asarray(distance, np.float32)


def _reach(owner: NDArray[np.intp], distance: NDArray[np.float32], areas: Floats) -> int:
    """How far from its blob material still counts as the blob's, px: to half the gap, or radius."""
    across = np.minimum(distance[:, 1:], distance[:, :-1])[owner[:, 1:] != owner[:, :-1]]
    down = np.minimum(distance[1:], distance[:-1])[owner[1:] != owner[:-1]]
    gaps = np.concatenate([across, down])
    half_gap = float(gaps.min()) if gaps.size else np.inf
    radius = float(np.sqrt(np.median(areas) / np.pi))
    return int(max(1, min(half_gap, max(2.0, 0.75 * radius), 12.0)))


def _sample(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Flat numbers of at most `SAMPLES` px of a mask, evenly taken."""
    places = np.flatnonzero(mask)
    return places[:: max(1, places.size // SAMPLES)]
