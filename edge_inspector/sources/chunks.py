"""Frames that come in chunks: gathered by their number, given up at their deadline. No socket."""

from __future__ import annotations

from edge_inspector.records import Reason
from edge_inspector.sources.arrival import Arrival, Surroundings
from edge_inspector.sources.frames import Reader
from edge_inspector.sources.link import Link, Partial
from edge_inspector.wire.assured import FrameFacts, Message
from edge_inspector.wire.codes import Flag, Refusal, Why
from edge_inspector.wire.header import Header


class Chunks:
    """
    What has come of the frames that are not whole yet.

    Holds no more than came, which credit bounds; that credit returns with the end of the frame.
    """

    def __init__(self, around: Surroundings, reader: Reader) -> None:
        self._around = around
        self._reader = reader

    def take(self, link: Link, message: Message, facts: FrameFacts, now_ns: int) -> Arrival | None:
        """The frame once its last chunk is there or it can never be whole; raises `Refusal`."""
        header, payload = message.header, message.payload
        if payload and not header.offset:
            self.forget(link, header.seq)
            due_ns = self._reader.due_ns(link, header, facts, now_ns)
            link.partials[header.seq] = Partial(header, facts, now_ns, due_ns)
        part = link.partials.get(header.seq)
        if part is None or not payload or header.offset != part.filled:
            link.give_back(1, len(payload))
            self._stray(link, header)
            return None
        part.pieces.append(payload)
        part.filled += len(payload)
        last = header.has(Flag.LAST)
        if fault := self._fault(part, last=last):
            return self._give_up(link, part, *fault)
        return self._whole(link, part) if last else None

    def overdue(self, link: Link, now_ns: int) -> list[Arrival]:
        """The frames that are not whole by their deadline."""
        late = [part for part in link.partials.values() if part.due_ns <= now_ns]
        return [
            self._give_up(
                link,
                part,
                Reason.NO_IMAGE,
                f"only {part.filled} of {part.facts.total_len} bytes came",
            )
            for part in late
        ]

    def forget(self, link: Link, seq: int) -> None:
        """Drop what came of this frame, if anything did, and return its credit."""
        part = link.partials.pop(seq, None)
        if part is not None:
            link.give_back(len(part.pieces), part.filled)
        if link.given_up == seq:
            link.given_up = 0

    def _whole(self, link: Link, part: Partial) -> Arrival:
        pixels = b"".join(part.pieces)
        arrival = self._reader.whole(link, part.header, part.facts, pixels, part.arrived_ns)
        self.forget(link, part.header.seq)
        return arrival

    def _give_up(self, link: Link, part: Partial, reason: Reason, detail: str) -> Arrival:
        self.forget(link, part.header.seq)
        link.given_up = part.header.seq
        return self._reader.faulty(link, part, reason, detail)

    def _fault(self, part: Partial, *, last: bool) -> tuple[Reason, str] | None:
        """Why this frame can never be whole, or in time."""
        total, limit = part.facts.total_len, self._around.max_bytes
        if total is None or not 1 <= total <= limit:
            return Reason.BAD_INPUT, (
                f"total_len {total}; the limits are 1 to {limit} bytes; raise frames.max_bytes"
            )
        if part.filled > total or (last and part.filled < total):
            return Reason.BAD_INPUT, f"chunks of {part.filled} bytes for a frame of {total}"
        if part.due_ns <= part.arrived_ns:
            return Reason.TIMEOUT, "its first chunk came after the deadline"
        return None

    def _stray(self, link: Link, header: Header) -> None:
        """Refuse a chunk that does not follow; those after it are of no use, and only counted."""
        if link.given_up == header.seq:
            self._around.count(link.hello.name, "stray_chunk")
            return
        link.given_up = header.seq
        raise Refusal(
            Why.BAD_HEADER,
            f"chunk at byte {header.offset} of frame {header.seq} is empty or out of order; "
            "send the frame again from its first byte",
        )
