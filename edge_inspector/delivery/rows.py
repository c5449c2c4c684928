"""Verdicts ready to be sent: from memory where core has just said them, else from the log."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edge_inspector.channel import Row
from edge_inspector.errors import StoreFault
from edge_inspector.outbox import Log
from edge_inspector.records import Outcome, Reason
from edge_inspector.wire.assured import Truncated
from edge_inspector.wire.codes import NO_CLASS, Flag, Type, code_of
from edge_inspector.wire.header import Header, digest, pack

RING = 4096
PAGE = 64
PAGES = 64
"""Rows read at once, and how many such reads are kept until their rest is asked for."""
_U16 = 2**16 - 1
_U32 = 2**32 - 1
_STATION = _RECIPE = 1


class _Facts(msgspec.Struct, frozen=True):
    """What the header of a verdict says of its body."""

    outcome: Outcome
    reason: Reason | None = None
    defect_class: str | None = None
    trigger_id: int | None = None
    latency_us: int = 0
    settled_utc_ns: int = 0
    rois: tuple[msgspec.Raw, ...] = ()
    rois_omitted: int = 0
    degraded: tuple[str, ...] = ()


_FACTS = msgspec.msgpack.Decoder(_Facts)
_DAMAGED = _Facts(outcome=Outcome.UNINSPECTED, reason=Reason.STORE_FAULT)


class Letter(msgspec.Struct, frozen=True):
    """A verdict's stored bytes, and the header that every consumer gets but for time and flags."""

    vseq: int
    header: Header
    body: bytes

    def parts(self, flags: int, now_ns: int) -> list[bytes]:
        """The message as it leaves now."""
        header = msgspec.structs.replace(
            self.header, flags=self.header.flags | flags, t_mono_ns=now_ns
        )
        return [pack(header), self.body]


class Rows:
    """
    The log as delivery sees it: `head` is the newest number known to be committed.

    Raises `StoreFault` when the log cannot be read.
    """

    def __init__(self, log: Log, classes: Sequence[str]) -> None:
        self._log = log
        self._classes = {name: number for number, name in enumerate(classes, 1)}
        self._ring: dict[int, Letter] = {}
        self._pages: dict[int, list[tuple[int, bytes, int]]] = {}
        self.oldest, self.head = log.bounds()

    def add(self, row: Row) -> None:
        """Core says that this verdict is on disk."""
        self._ring[row.vseq] = self._letter(row.vseq, row.body, row.chain)
        if len(self._ring) > RING:
            del self._ring[next(iter(self._ring))]
        self.head = max(self.head, row.vseq)

    def look(self) -> None:
        """Ask the log itself where it begins and ends."""
        self.oldest, head = self._log.bounds()
        self.head = max(self.head, head)

    def take(self, first: int, limit: int) -> list[Letter]:
        """Up to `limit` verdicts without a gap; they begin above `first` where that is gone."""
        letters: list[Letter] = []
        while len(letters) < limit and (letter := self._ring.get(first + len(letters))):
            letters.append(letter)
        return letters or [self._letter(*row) for row in self._read(first, limit)]

    def gone(self, first: int) -> Truncated | None:
        """What retention took from `first` on, None where that is kept."""
        self.look()
        if first >= self.oldest:
            return None
        try:
            chain = self._log.chain_before(self.oldest)
        except StoreFault:  # retention went on between the two reads: asked again soon
            return None
        return Truncated(first, self.oldest - 1, chain)

    def chain_before(self, vseq: int) -> int:
        """The chain value that `vseq` builds on, 0 where retention took it."""
        try:
            return self._log.chain_before(vseq)
        except StoreFault:
            return 0

    def cursor(self, consumer: str) -> int:
        """The last verdict that a consumer said it holds, as far as core has written it."""
        return self._log.cursor(consumer)

    def run(self) -> int:
        """The run in which trigger ids count."""
        return self._log.run()

    def _read(self, first: int, limit: int) -> list[tuple[int, bytes, int]]:
        """Rows of the log; what was read beyond them waits for the next call."""
        page = self._pages.pop(first, None) or self._log.rows(first, PAGE)
        rows, rest = page[:limit], page[limit:]
        if rest:
            self._pages[rest[0][0]] = rest
        if len(self._pages) > PAGES:
            del self._pages[next(iter(self._pages))]
        return rows

    def _letter(self, vseq: int, body: bytes, chain: int) -> Letter:
        """A body that cannot be read still goes out, as a reject: its lane has no other way on."""
        facts = _facts(body)
        code = code_of(facts.outcome, facts.reason)
        named = facts.defect_class is not None
        header = Header(
            type=Type.VERDICT,
            flags=Flag.DEGRADED if facts.degraded else 0,
            meta_len=len(body),
            seq=vseq,
            trigger_id=facts.trigger_id or 0,
            t_utc_ns=facts.settled_utc_ns,
            budget_us=min(facts.latency_us, _U32),
            width=self._classes.get(facts.defect_class or "", 0) if named else NO_CLASS,
            stride_16=min(len(facts.rois) + facts.rois_omitted, _U16),
            pixel_format=code,
            codec=code ^ 0xFF,
            camera=_STATION,
            recipe=_RECIPE,
            digest=digest(body),
            offset=chain,
        )
        return Letter(vseq, header, body)


def _facts(body: bytes) -> _Facts:
    try:
        facts = _FACTS.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _DAMAGED
    unexplained = facts.outcome is Outcome.UNINSPECTED and facts.reason is None
    return _DAMAGED if unexplained else facts
