"""A FRAME message to what ingest takes: names, layout, deadline; pure, `WireError` for what is bad."""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace

from edge_inspector import clock
from edge_inspector.errors import WireError
from edge_inspector.records import Baseline, Reason
from edge_inspector.sources.arrival import Arrival, Offered, Surroundings
from edge_inspector.sources.link import Link, Partial
from edge_inspector.wire.assured import FrameFacts
from edge_inspector.wire.codes import CODECS, PIXEL_FORMATS, TOMBSTONES, Flag, Refusal, Why
from edge_inspector.wire.header import Header, digest
from edge_inspector.wire.incumbent import read_incumbent
from edge_inspector.wire.layout import FORMATS, Layout, announced, encoded_layout, within_cap
from edge_inspector.wire.plain import EVERY, Identity

MAX_AGE_US = 7 * 24 * 3600 * 1_000_000
"""An older frame is said to be this old: late by any budget, and a number that every record holds."""


class Reader:
    """What one ASSURED source may send, and how it is read."""

    def __init__(self, around: Surroundings, camera: str, recipe: str) -> None:
        self._around = around
        self._camera = camera
        self._recipe = recipe
        self.recipes = [around.recipe, *sorted(around.recipes - {around.recipe, EVERY})]

    def tombstone(self, link: Link, header: Header, facts: FrameFacts, now_ns: int) -> Arrival:
        """A frame that its source gave up; raises `Refusal`."""
        if facts.why is None or header.payload_len:
            raise Refusal(Why.BAD_HEADER, "a tombstone has a 'why' and no payload")
        reason, detail = TOMBSTONES[facts.why], f"given up at the source: {facts.why}"
        try:
            said = _incumbent(facts)
        except WireError as error:
            raise Refusal(Why.BAD_HEADER, str(error)) from None
        arrival = self._arrival(link, header, facts, now_ns)
        return replace(arrival, fault=reason, detail=detail, incumbent=said)

    def whole(
        self,
        link: Link,
        header: Header,
        facts: FrameFacts,
        pixels: bytes | bytearray | memoryview,
        now_ns: int,
    ) -> Arrival:
        """A frame whose pixels are all there; one that cannot be inspected carries its fault."""
        arrival = self._arrival(link, header, facts, now_ns)
        try:
            camera, recipe = self._names(link, header)
            _check_facts(facts, len(pixels))
            layout, body, told = self._pixels(header, memoryview(pixels))
            said = _incumbent(facts)
        except WireError as error:
            return replace(arrival, fault=Reason.BAD_INPUT, detail=str(error))
        assert arrival.offered is not None
        offered = replace(arrival.offered, digest=told)
        return replace(
            arrival,
            camera=camera,
            recipe=recipe,
            layout=layout,
            pixels=body,
            offered=offered,
            incumbent=said,
        )

    def faulty(self, link: Link, part: Partial, reason: Reason, detail: str) -> Arrival:
        """A frame of which some chunks came, and no more will."""
        arrival = self._arrival(link, part.header, part.facts, part.arrived_ns)
        return replace(arrival, fault=reason, detail=detail)

    def due_ns(self, link: Link, header: Header, facts: FrameFacts, now_ns: int) -> int:
        """When the verdict of this frame is due."""
        budget_us = min(header.budget_us or self._around.budget_us, self._around.budget_us)
        return _time_zero_ns(link, facts, now_ns) + budget_us * clock.NS_PER_US

    def _arrival(self, link: Link, header: Header, facts: FrameFacts, now_ns: int) -> Arrival:
        try:
            camera, _ = self._names(link, header)
        except WireError:
            camera = self._camera
        if facts.age_us < 0:
            self._around.count(link.hello.name, "negative_age")
        return Arrival(
            arrived_ns=now_ns,
            epoch=link.epoch.hex(),
            identity=Identity(
                facts.unit_id if facts.unit_id and facts.unit_id.isprintable() else None,
                header.trigger_id or None,
                header.seq,
                lot=facts.lot or "",
            ),
            camera=camera,
            recipe=self._recipe,
            offered=Offered(
                source=link.hello.name,
                time_zero_ns=_time_zero_ns(link, facts, now_ns),
                budget_us=header.budget_us or None,
                digest=header.digest,
                tombstone=header.has(Flag.TOMBSTONE),
                repeat=facts.repeat,
            ),
        )

    def _names(self, link: Link, header: Header) -> tuple[str, str]:
        camera = _numbered("camera", header.camera, link.hello.cameras, self._camera)
        return camera, _numbered("recipe", header.recipe, self.recipes, self._recipe)

    def _pixels(self, header: Header, pixels: memoryview) -> tuple[Layout, memoryview, int]:
        """Layout, tight bytes and their digest."""
        if header.codec not in CODECS:
            raise WireError(f"codec {header.codec}; known are {', '.join(CODECS.values())}")
        if CODECS[header.codec] != "raw":
            layout = encoded_layout(pixels, None, self._around.max_pixels)
            _check_encoded(header, pixels)
            return layout, pixels, header.digest
        if header.pixel_format not in PIXEL_FORMATS:
            raise WireError(
                f"pixel format {header.pixel_format}; known are {', '.join(PIXEL_FORMATS.values())}"
            )
        name = PIXEL_FORMATS[header.pixel_format]
        sample, channels = FORMATS[name]
        within_cap(header.height, header.width, self._around.max_pixels)
        layout = Layout("raw", name, header.height, header.width, channels)
        row = header.width * channels * sample
        if header.stride:
            return layout, *_tight(header, pixels, row)
        _check_size(header, row * header.height, pixels.nbytes)
        return layout, pixels, header.digest


def _numbered(what: str, number: int, names: list[str], default: str) -> str:
    if number > len(names):
        raise WireError(f"{what} number {number}; there are {len(names)}: {', '.join(names)}")
    return names[number - 1] if number else default


def _time_zero_ns(link: Link, facts: FrameFacts, now_ns: int) -> int:
    """No clocks are compared: the age at sending and the shortest way here lie before the arrival."""
    age_us = min(max(0, facts.age_us), MAX_AGE_US)
    return now_ns - age_us * clock.NS_PER_US - link.round_trip_ns


def _incumbent(facts: FrameFacts) -> Baseline | None:
    return None if facts.incumbent is None else read_incumbent(facts.incumbent)


def _check_facts(facts: FrameFacts, size: int) -> None:
    if facts.unit_id is not None and not facts.unit_id.isprintable():
        raise WireError(f"unit_id {facts.unit_id[:80]!r}; send printable characters")
    if facts.total_len not in (None, size):
        raise WireError(f"total_len {facts.total_len}; {size} bytes came; send the frame whole")


def _check_encoded(header: Header, pixels: memoryview) -> None:
    """The header tells the codec, no pixel format, and the image's own size or none."""
    codec, height, width = announced(pixels)
    told = (CODECS[header.codec], header.pixel_format)
    if told != (codec, 0):
        raise WireError(f"the header tells {told[0]} of pixel format {told[1]}; it is {codec} of 0")
    if (header.width, header.height) not in ((0, 0), (width, height)):
        raise WireError(
            f"the header tells {header.width} x {header.height} pixels; "
            f"the {codec} has {width} x {height}"
        )


def _check_size(header: Header, needed: int, size: int) -> None:
    if needed != size or not needed:
        raise WireError(
            f"{header.width} x {header.height} pixels take {needed} bytes; {size} came; "
            "send the frame whole"
        )


def _tight(header: Header, pixels: memoryview, row: int) -> tuple[memoryview, int]:
    """Rows without what lies between them, once the bytes are those that were sent."""
    _check_size(header, header.stride * header.height, pixels.nbytes)
    if header.stride < row:
        raise WireError(f"stride of {header.stride} bytes; a row has {row}")
    if digest(pixels) != header.digest:
        raise WireError("the pixels are not those that the header's digest tells of")
    rows = np.frombuffer(pixels, np.uint8).reshape(header.height, header.stride)[:, :row]
    body = np.ascontiguousarray(rows).reshape(-1).data
    return body, digest(body)
