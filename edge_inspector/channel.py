"""
Core's line to its children: a Unix socketpair that keeps message boundaries.

Messages are msgpack of the structs below; a closed peer reads as `None`. Pixels never travel here.
"""

from __future__ import annotations

import socket
from typing import Literal

import msgspec

from edge_inspector.errors import EdgeInspectorError, EngineRefused, Misuse, WireError
from edge_inspector.records import Baseline, FrameHead, Inspection

MAX_MESSAGE = 192 * 1024


class Grant(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Core to ingest: these shared-memory slots are yours to fill."""

    slots: tuple[int, ...]


class Arrived(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Ingest to core: a frame is in its slot, or came with a fault."""

    head: FrameHead


class Answer(msgspec.Struct, frozen=True, gc=False):
    """
    What the sender of a frame waits for.

    A request-mode publisher gets one `text`; an assured source gets `accepted` and then, when it
    is `final`, `settled` with the verdict's number, outcome code and latency, or `conflict`.
    """

    ticket: int
    text: str = ""
    kind: Literal["text", "accepted", "settled", "conflict"] = "text"
    final: bool = True
    vseq: int = 0
    code: int = 0
    latency_us: int = 0
    chain: int = 0


class Answers(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Core to ingest: what is known at once, one for each ticket."""

    answers: tuple[Answer, ...]


class Pulse(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Core to ingest and delivery, each 100 ms while core and store live: how the station is."""

    head_vseq: int
    oldest_vseq: int
    state: Literal["starting", "ready", "degraded", "fault", "stopping"]
    toggle: bool


class Row(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Core to delivery: this verdict is on disk; one that is not said can be read from the log."""

    vseq: int
    body: bytes
    chain: int


class RunBegan(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Core to delivery: trigger ids count in this run from now on."""

    run: int


class RunWanted(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Delivery to core: a line controller's part counter starts again."""


class ExpectWanted(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Delivery to core: a line controller says that this unit is on its way."""

    trigger_id: int


class IncumbentSaid(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Delivery or the poller to core: the inspection that was there before judged this unit."""

    said: Baseline
    trigger_id: int | None = None
    unit_id: str | None = None


class Remark(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Child to core: something for the log."""

    event: str
    detail: str


class KeepPicture(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Core to worker: if you still have the picture of this unit, keep it."""

    unit_key: str


class Acked(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Delivery to core: this consumer holds every verdict up to this one."""

    consumer: str
    upto: int


class Job(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Core to worker: inspect this frame."""

    head: FrameHead
    deadline_ns: int


class Done(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Worker to core: the answer for the frame of one slot; the slot may be used again."""

    head: FrameHead
    inspection: Inspection


class Ready(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Child to core: started and able to work; `detail` is one line for the log."""

    detail: str = ""


class Alive(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Child to core: counters that moved since the last one, by name; proof of progress."""

    counters: dict[str, int] = msgspec.field(default_factory=dict)


class Failed(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Child to core: it cannot start, and why; `refused` when the user must mend something."""

    detail: str
    refused: bool = False

    @classmethod
    def of(cls, error: EdgeInspectorError, place: str = "") -> Failed:
        """What the error says, after the place where it came up."""
        return cls(f"{place}{error}", refused=isinstance(error, (Misuse, EngineRefused)))


class Recheck(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Core to worker: judge the golden samples again, when no job waits."""


class Rechecked(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Worker to core: how the golden samples were judged; `halted` while nothing may pass."""

    detail: str
    halted: bool


class Stop(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Core to child: finish what is in hand and leave."""


Message = (
    Grant | Arrived | Answers | Job | Done | Ready | Alive | Failed | Stop
    | Pulse | Row | RunBegan | RunWanted | ExpectWanted | Acked
    | IncumbentSaid | Remark | KeepPicture | Recheck | Rechecked
)  # fmt: skip
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Message)


class WorkerConfig(msgspec.Struct, frozen=True):
    """What core tells a worker on its command line, as JSON."""

    recipe: str
    backends: tuple[str, ...]
    threads: int
    slot_bytes: int
    memory_mib: int
    max_pixels: int
    archive: str | None = None
    archive_quota_mib: int = 1024
    store: str | None = None
    """The station's folder: who records frames of the line listens there, choices are kept there."""
    cpus: tuple[int, ...] = ()
    """Processors to keep to; none: any."""
    observe: bool = False
    """Whether pictures of units that passed are held for a while, in case the incumbent objects."""


class DeliveryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What core tells delivery on its command line, as JSON."""

    station: str
    endpoint: str
    store: str
    classes: tuple[str, ...] = ()
    history_hz: int = 5500
    observe: bool = False
    """Whether every verdict is flagged `test`, so that no gate opens."""


class Channel:
    """One end of the line; `send` and `receive` block, `fileno` is for event loops."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    @classmethod
    def from_fd(cls, fd: int) -> Channel:
        """Take over an inherited descriptor."""
        return cls(socket.socket(fileno=fd))

    def fileno(self) -> int:
        """The descriptor, readable when a message waits or the peer is gone."""
        return self._socket.fileno()

    def set_blocking(self, blocking: bool) -> None:
        """Whether `receive` waits; without, an empty line raises `BlockingIOError`."""
        self._socket.setblocking(blocking)

    def send(self, message: Message) -> bool:
        """Send one message; False when the peer is gone. Raises `BlockingIOError` when it is full."""
        raw = _ENCODER.encode(message)
        if len(raw) > MAX_MESSAGE:
            raise WireError(
                f"message of {len(raw)} bytes; the limit between processes is {MAX_MESSAGE}"
            )
        try:
            self._socket.send(raw)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def try_send(self, message: Message) -> bool:
        """Send one message without waiting; False when the line is full or the peer is gone."""
        try:
            return self.send(message)
        except BlockingIOError:
            return False

    def receive(self) -> Message | None:
        """The next message, or None when the peer is gone and all that it said was read."""
        try:
            raw = self._socket.recv(MAX_MESSAGE)
        except ConnectionResetError:  # said once, before what still waits to be read
            raw = self._socket.recv(MAX_MESSAGE)
        return _DECODER.decode(raw) if raw else None

    def close(self) -> None:
        """Let go of the descriptor."""
        self._socket.close()


def pair() -> tuple[Channel, socket.socket]:
    """Core's end, and the socket to hand to a child process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1024 * 1024)
    return Channel(ours), theirs
