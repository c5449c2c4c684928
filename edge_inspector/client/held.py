"""One held frame: its state, its timer, the credit it needs, the message that carries it."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from edge_inspector.client.frames import Part
from edge_inspector.clock import NS_PER_US
from edge_inspector.errors import Misuse
from edge_inspector.wire.assured import FrameFacts, Welcome
from edge_inspector.wire.codes import Flag
from edge_inspector.wire.header import Header

Tombstone = Literal["no_credit", "camera_fault", "no_image", "expired"]
"""Why a frame goes without pixels."""

NO_TERMS = Welcome(
    version=0,
    link="",
    state="starting",
    credit_msgs=0,
    credit_bytes=0,
    settled_upto=0,
    max_part=0,
    max_payload=0,
    ttl_ms=0,
)
"""Before the first WELCOME: nothing may be sent, and no limit is known."""

UNKNOWN_RECIPE = 0xFFFF
"""A recipe that the daemon does not list; it records the frame as one that it cannot use."""


class Held(msgspec.Struct, kw_only=True):
    """One frame that is not settled; `at_ns` is when to look at it again, 0 for never."""

    header: Header
    unit_id: str | None
    recipe: str | None
    pixels: Part | None
    incumbent: str | None = None
    lot: str | None = None
    repeat: bool = False
    why: Tombstone | None = None
    deadline_ns: int
    timer_ns: int
    at_ns: int = 0
    queued: bool = True
    accepted: bool = False
    sent: bool = False
    tries: int = 0
    offset: int = 0

    @property
    def seq(self) -> int:
        """Its number."""
        return self.header.seq


class Shown:
    """The last picture of each camera, also of one whose frame was never sent."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[int, int, str | None]] = {}

    def again(self, header: Header, unit_id: str | None) -> bool:
        """Whether these are the pixels of the frame before, and that was of another unit."""
        if not header.digest:
            return False
        camera, unit = header.camera or 1, (header.trigger_id, unit_id)
        digest, *before = self._last.get(camera, (0, 0, None))
        self._last[camera] = (header.digest, *unit)
        return digest == header.digest and (unit == (0, None) or tuple(before) != unit)


class Sending(msgspec.Struct, frozen=True):
    """One FRAME message to put on the wire; tell `Offers.sent` once it is there."""

    held: Held
    header: Header
    facts: FrameFacts
    payload: Part = b""


class Credit:
    """Running totals since WELCOME: what may be sent against what was sent."""

    def __init__(self, msgs: int = 0, size: int = 0) -> None:
        self.msgs, self.bytes = msgs, size
        self.used_msgs = self.used_bytes = 0

    def grant(self, msgs: int, size: int) -> None:
        """A total is never taken back, so a repeat does no harm."""
        self.msgs, self.bytes = max(self.msgs, msgs), max(self.bytes, size)

    def covers(self, size: int) -> bool:
        """Whether one more message of `size` bytes may go."""
        return self.used_msgs < self.msgs and self.used_bytes + size <= self.bytes

    def use(self, size: int) -> None:
        """One message went."""
        self.used_msgs += 1
        self.used_bytes += size


class Timers:
    """One timer for each frame of `held`; setting it again voids the time before."""

    def __init__(self, held: Mapping[int, Held]) -> None:
        self._held = held
        self._heap: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def set(self, held: Held, at_ns: int) -> None:
        """Look at this frame then."""
        held.at_ns = at_ns
        heapq.heappush(self._heap, (at_ns, held.seq))
        if len(self._heap) > 1024 + 4 * len(self._held):
            self._heap = [(one.at_ns, one.seq) for one in self._held.values() if one.at_ns]
            heapq.heapify(self._heap)

    def due_ns(self) -> int | None:
        """No timer runs out before this."""
        return self._heap[0][0] if self._heap else None

    def fired(self, now_ns: int) -> Iterator[Held]:
        """The frames to look at now; their timers are off."""
        while self._heap and self._heap[0][0] <= now_ns:
            at_ns, seq = heapq.heappop(self._heap)
            held = self._held.get(seq)
            if held is not None and held.at_ns == at_ns:
                held.at_ns = 0
                yield held


def check_terms(size: int, recipe: str | None, terms: Welcome, hold_bytes: int) -> None:
    """Refuse what could never be sent, before it gets a number; raises `Misuse`."""
    limit = min(terms.max_payload or hold_bytes, hold_bytes)
    if size > limit:
        raise Misuse(
            f"frame of {size} bytes; the limit is {limit} (the daemon's max_payload or this "
            "source's hold_bytes); cut or compress it, or raise the limit"
        )
    if terms is not NO_TERMS and recipe is not None and recipe not in terms.recipes:
        known = ", ".join(terms.recipes) or "none by name"
        raise Misuse(f"recipe '{recipe}'; the daemon knows {known}")


def chunk(held: Held, terms: Welcome) -> memoryview:
    """The bytes of a frame that go next: all of them, or what one part may hold."""
    body = memoryview(held.pixels or b"")
    return body[held.offset : held.offset + (terms.max_part or len(body))]


def message(held: Held, terms: Welcome, now_ns: int) -> Sending:
    """The next FRAME message of a frame; its age is that of this moment."""
    recipe = 0
    if held.recipe is not None:
        known = held.recipe in terms.recipes
        recipe = terms.recipes.index(held.recipe) + 1 if known else UNKNOWN_RECIPE
    size = len(held.pixels or b"")
    payload = chunk(held, terms)
    flags = int(Flag.TOMBSTONE) if held.pixels is None else 0
    if held.offset + len(payload) == size:
        flags |= int(Flag.LAST)
    return Sending(
        held,
        msgspec.structs.replace(held.header, flags=flags, recipe=recipe, offset=held.offset),
        FrameFacts(
            unit_id=held.unit_id,
            total_len=size if len(payload) < size else None,
            age_us=(now_ns - held.header.t_mono_ns) // NS_PER_US,
            why=held.why,
            incumbent=held.incumbent,
            lot=held.lot,
            repeat=held.repeat,
        ),
        payload,
    )
