"""Reference source of the ASSURED tier: every frame offered gets exactly one recorded verdict."""

from __future__ import annotations

import re
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from numpy.typing import NDArray

from edge_inspector import clock
from edge_inspector.client.frames import Draft, Given, Settlement, draft
from edge_inspector.client.held import Shown
from edge_inspector.client.link import Link
from edge_inspector.client.offers import HOLD_BYTES, Offers
from edge_inspector.client.source_thread import SourceThread
from edge_inspector.errors import Breakage, Misuse
from edge_inspector.wire import assured

BUDGET_MS = 500.0
DRAIN_S = 2.0
KEEP_RECORDS = 10_000


class FrameSource:
    """
    Offers frames to a daemon and keeps each until its verdict is in the daemon's log.

    `cameras` are the names this source offers under, the first one where none is named. A frame
    has `budget_ms` from its trigger; up to `hold_bytes` of pixels wait when the daemon is slow or
    away, what does not fit becomes a reject on record. `on_settled` is called by the thread of
    this source. Any thread may call the methods; none but `wait`, `wait_all` and `close` block.

        with FrameSource("ipc:///run/edge-inspector/frames.sock", name="top") as source:
            seq = source.offer(image, trigger_id=17)
            settled = source.wait(seq, timeout_ms=500)
            print(settled.outcome.value if settled else "not settled yet")
    """

    def __init__(
        self,
        endpoint: str,
        *,
        name: str,
        cameras: Sequence[str] = ("main",),
        budget_ms: float = BUDGET_MS,
        hold_bytes: int = HOLD_BYTES,
        on_settled: Callable[[Settlement], None] | None = None,
        keep_records: int = KEEP_RECORDS,
    ) -> None:
        for given in (name, *cameras):
            if not re.fullmatch(assured.NAME, given):
                raise Misuse(f"name '{given}'; use 1 to 64 of A-Z a-z 0-9 _ . -")
        if not 1 <= len(cameras) <= assured.MAX_NAMES:
            raise Misuse(f"{len(cameras)} cameras; a source has 1 to {assured.MAX_NAMES}")
        self.name = name
        self.cameras = tuple(cameras)
        self.budget_ms = budget_ms
        self.epoch = uuid.uuid4()
        self._offers = Offers(self.epoch.bytes, hold_bytes=hold_bytes)
        self._changed = threading.Condition()
        self._shown = Shown()
        self._closed = False
        self._io = SourceThread(
            Link(endpoint),
            self._offers,
            self._changed,
            name=name,
            cameras=self.cameras,
            on_settled=on_settled,
            keep_records=keep_records,
        )
        self._io.start()

    def offer(
        self,
        pixels: NDArray[Any] | bytes,
        *,
        trigger_id: int | None = None,
        unit_id: str | None = None,
        camera: str | None = None,
        recipe: str | None = None,
        age_ms: float = 0.0,
        budget_ms: float | None = None,
        pixel_format: str | None = None,
        incumbent: str | None = None,
        lot: str | None = None,
        copy: bool = True,
    ) -> int:
        """
        Offer one frame and return its number; never waits for the daemon.

        Pixels are an array (h, w[, c]) of uint8 or uint16, in BGR order unless `pixel_format` says
        otherwise, or JPEG or PNG bytes. `age_ms` is trigger to now; `incumbent` is what another
        inspector said: `pass`, `fail`, `fail:CLASS` or `uninspected`; `lot` is counted. With `copy=False` the array
        must not change until the frame is settled. Raises `Misuse` for what cannot be sent or a
        source that the daemon refuses, `Breakage` when too many frames wait for a daemon.
        """
        return self._give(
            draft(
                pixels,
                trigger_id=trigger_id,
                unit_id=unit_id,
                camera=self._camera(camera),
                recipe=recipe,
                age_ms=age_ms,
                budget_ms=self.budget_ms if budget_ms is None else budget_ms,
                pixel_format=pixel_format,
                incumbent=incumbent,
                lot=lot,
                copy=copy,
            )
        )

    def tombstone(
        self,
        why: Given,
        *,
        trigger_id: int | None = None,
        unit_id: str | None = None,
        camera: str | None = None,
        age_ms: float = 0.0,
    ) -> int:
        """Report a frame that the camera did not give; its unit is recorded as a reject."""
        return self._give(
            draft(
                None,
                trigger_id=trigger_id,
                unit_id=unit_id,
                camera=self._camera(camera),
                recipe=None,
                age_ms=age_ms,
                budget_ms=self.budget_ms,
                why=why,
            )
        )

    def wait(self, seq: int, timeout_ms: float | None = None) -> Settlement | None:
        """
        Wait until frame `seq` is settled; None when it is not in time.

        Raises `Misuse` for a number never given, one whose record has gone (the newest
        `keep_records` are kept), and a source that is closed or that the daemon refuses.
        """
        with self._changed:
            if not 1 <= seq < self._offers.next_seq:
                raise Misuse(
                    f"frame {seq} was not offered; the last is {self._offers.next_seq - 1}"
                )
            self._changed.wait_for(
                lambda: seq not in self._offers or self._io.ended or self._io.refused,
                _seconds(timeout_ms),
            )
            if seq in self._offers:
                self._check_serving()
                return None
            if seq not in self._io.records:
                raise Misuse(f"the record of frame {seq} has gone; raise keep_records")
            return self._io.records[seq]

    def wait_all(self, timeout_ms: float | None = None) -> bool:
        """Wait until nothing is unsettled; False when something is, in the end."""
        with self._changed:
            self._changed.wait_for(
                lambda: not self._offers.unsettled or self._io.ended, _seconds(timeout_ms)
            )
            return not self._offers.unsettled

    @property
    def unsettled(self) -> int:
        """Frames that have a number and no verdict yet."""
        return self._offers.unsettled

    @property
    def counts(self) -> Counter[str]:
        """
        What happened so far, a copy.

        offered, sent, resent, accepted, settled, released (settled, outcome not heard), tombstones
        and each cause of one, nack_<why>, reconnects, unknown (replies about frames not held),
        unreadable (messages that do not follow the protocol).
        """
        with self._changed:
            return Counter(self._offers.counts)

    @property
    def link(self) -> str:
        """The daemon's name of this connection, empty while there is none."""
        return self._offers.terms.link if self._offers.linked else ""

    @property
    def state(self) -> str:
        """What the daemon last said of itself, empty before it did."""
        return self._io.state

    def records(self) -> dict[int, Settlement]:
        """Number -> settlement of the newest `keep_records` frames that are settled, a copy."""
        with self._changed:
            return dict(self._io.records)

    def close(self, drain_s: float = DRAIN_S) -> None:
        """Take no more, wait up to `drain_s` for what is unsettled, and leave."""
        with self._changed:
            self._closed = True
        self.wait_all(drain_s * 1000)
        self._io.stop()

    def __enter__(self) -> FrameSource:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _camera(self, camera: str | None) -> int:
        if camera is not None and camera not in self.cameras:
            raise Misuse(f"camera '{camera}'; this source has {', '.join(self.cameras)}")
        return 0 if camera is None else self.cameras.index(camera) + 1

    def _give(self, new: Draft) -> int:
        with self._changed:
            if self._closed:
                raise Misuse(f"source '{self.name}' is closed; open another")
            self._check_serving()
            new = msgspec.structs.replace(new, repeat=self._shown.again(new.header, new.unit_id))
            seq = self._offers.offer(new, clock.now_ns())
            self._io.wake()
        return seq

    def _check_serving(self) -> None:
        if self._io.ended and self._closed:
            raise Misuse(f"source '{self.name}' was closed before this frame was settled")
        if self._io.ended:
            raise Breakage(f"source '{self.name}' broke, its thread said why; open another")
        if self._io.refused is not None:
            raise Misuse(f"source '{self.name}' is refused: {self._io.refused}")


def _seconds(timeout_ms: float | None) -> float | None:
    return None if timeout_ms is None else timeout_ms / 1000
