"""What comes from a publisher, camera or folder, seen through the very sources that the line uses."""

from __future__ import annotations

import itertools
import statistics
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import zmq
from pydantic import TypeAdapter

from edge_inspector import clock
from edge_inspector.channel import Answer
from edge_inspector.errors import Breakage, Misuse, WireError
from edge_inspector.importer import choose
from edge_inspector.protocols import Source
from edge_inspector.records import Reason
from edge_inspector.settings import SourceSettings
from edge_inspector.sources import SOURCES
from edge_inspector.sources.arrival import Arrival, Surroundings
from edge_inspector.sources.zap import AddressLists
from edge_inspector.studies.probe_peer import appears, connecting, listens
from edge_inspector.wire.layout import announced
from edge_inspector.wire.plain import EVERY, Identity

NAME = "line"
MAX_BYTES = 256 * 1024 * 1024
MAX_PIXELS = 2**28
MAX_SEEN = 100_000
FITTING: dict[str, dict[str, Any]] = {
    "PUSH": {"type": "zmq-pull"},
    "REQ": {"type": "zmq-rep"},
    "PUB": {"type": "zmq-sub", "bind": True},
    "XPUB": {"type": "zmq-sub", "bind": True},
    "SUB": {"type": "zmq-sub"},
}
"""What to open for one that connects; SUB stands for ourselves."""
EVERYONE = ("0.0.0.0/0", "::/0")
STREAMS = ("/dev/", "rtsp://", "rtsps://", "http://", "https://", "gst:", "v4l2://")
_SOURCE: TypeAdapter[SourceSettings] = TypeAdapter(SourceSettings)


class Seen(NamedTuple):
    """What is kept of one frame; the pixels are not."""

    arrived_ns: int
    size: int
    form: str
    identity: Identity
    camera: str
    incumbent: bool
    age_ms: float | None


class Probed(msgspec.Struct, frozen=True, kw_only=True):
    """What came within the time given; the share of `ids` is of all frames, 1 being every one."""

    uri: str
    source: dict[str, Any]
    frames: int
    rate_hz: float | None
    interval_ms: dict[str, float]
    formats: dict[str, int]
    largest_bytes: int
    mib_per_s: float
    cameras: dict[str, int]
    ids: dict[str, float]
    missed: int
    age_ms: float | None
    faults: dict[str, int]
    fault_detail: str


def probe(uri: str, seconds: float, kind: str | None = None) -> Probed:
    """
    Listen to `uri` for `seconds`; `kind` is a type of source where it shall not be found out.

    Raises `Misuse` for what is no URI, `Breakage` when nothing comes.
    """
    if seconds <= 0:
        raise Misuse(f"{seconds:g} s; listen for longer")
    until_ns = clock.now_ns() + round(seconds * 1e9)
    source = _source(uri, kind, until_ns)
    heard = Heard() if source is None else _listen(source, until_ns)
    if source is None or not heard.seen:
        raise Breakage(_nothing(uri, seconds, heard))
    return _summary(uri, source, heard)


class Heard:
    """Everything that a source offered; `over` is set by the last thing."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.faults: Counter[str] = Counter()
        self.detail = ""
        self.over = threading.Event()

    def __call__(self, arrival: Arrival) -> None:
        """Called by the source's thread."""
        if arrival.reply is not None:
            arrival.reply(Answer(0, "OK"))
        if arrival.fault is not None or arrival.pixels is None:
            self.faults[arrival.fault.value if arrival.fault else "no_image"] += 1
            self.detail = arrival.detail
            if arrival.fault is Reason.CAMERA_FAULT:
                self.over.set()
        elif len(self.seen) < MAX_SEEN:
            self.seen.append(_seen(arrival, arrival.pixels))


def _listen(values: dict[str, Any], until_ns: int) -> Heard:
    """A source in a thread of its own, until it ends or the time is over."""
    settings, heard = _SOURCE.validate_python(values), Heard()
    with ExitStack() as stack:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        stack.callback(context.destroy, linger=0)
        around = Surroundings(
            context=context,
            recipe="none",
            cameras=frozenset({EVERY, "main"}),
            recipes=frozenset({EVERY, "none"}),
            max_bytes=MAX_BYTES,
            max_pixels=MAX_PIXELS,
            count=lambda source, event: None,
        )
        if "allow" in values:
            stack.callback(AddressLists(context, {NAME: EVERYONE}).close)
        opened: Source = choose(SOURCES, settings.type, "source")(settings, around)

        def run() -> None:
            opened.run(heard)
            heard.over.set()

        thread = threading.Thread(target=run, name="probe", daemon=True)
        thread.start()
        heard.over.wait(_left_s(until_ns))
        opened.stop()
        thread.join(timeout=0.3)  # one that hangs in a driver is left behind
        if thread.is_alive():
            stack.pop_all()
    return heard


def _source(uri: str, kind: str | None, until_ns: int) -> dict[str, Any] | None:
    """The table of a source that fits the URI, None when nobody came by whom to tell."""
    path = Path(uri)
    if uri.startswith(("tcp://", "ipc://")):
        return _zmq_source(uri, kind, until_ns)
    if uri.startswith(STREAMS):
        return {"type": "camera", "name": NAME, "uri": uri.removeprefix("v4l2://")}
    if uri.startswith("file://") or path.exists():
        uri = uri if uri.startswith("file://") else path.resolve().as_uri()
        return {"type": "folder", "name": NAME, "uri": uri, "rate_hz": 1000.0}
    raise Misuse(
        f"'{uri}' is no file and starts with none of tcp://, ipc://, file://, {', '.join(STREAMS)}"
    )


def _zmq_source(uri: str, kind: str | None, until_ns: int) -> dict[str, Any] | None:
    source: dict[str, Any] = {"type": kind, "name": NAME, "endpoint": uri}
    if kind is None:
        peer = "SUB" if appears(uri, until_ns) else connecting(uri, until_ns)
        if peer is None:
            return None
        if peer not in FITTING:
            raise Breakage(
                f"a {peer} socket connects to {uri}; PUSH, REQ and PUB publish frames, a DEALER is "
                "a source of the ASSURED tier: give it a source of type 'assured'"
            )
        source |= FITTING[peer]
    if source["type"] != "zmq-sub" and not _near(uri):
        source["allow"] = EVERYONE
    return source


def _near(uri: str) -> bool:
    """Whether an endpoint can be reached from this box alone."""
    host = urlsplit(uri).hostname or ""
    return uri.startswith("ipc://") or host in ("localhost", "::1") or host.startswith("127.")


def _nothing(uri: str, seconds: float, heard: Heard) -> str:
    if heard.detail:
        return f"no frame from {uri} that can be used: {heard.detail}"
    if not uri.startswith(("tcp://", "ipc://")):
        return f"nothing came from {uri} within {seconds:g} s; check cable, power and address"
    if listens(uri):
        why = "somebody listens there but publishes nothing: a daemon that runs, or a line at rest"
    else:
        why = "nobody listens there, and nobody connects to it; is the publisher running?"
    return f"nothing came from {uri} within {seconds:g} s: {why}"


def _seen(arrival: Arrival, pixels: memoryview) -> Seen:
    layout, age_ms = arrival.layout, None
    height, width = layout.height, layout.width
    if layout.codec in ("jpeg", "png"):
        try:
            _, height, width = announced(pixels)
        except WireError:
            height = width = 0
    if arrival.identity.captured_ns is not None:
        age_ms = (clock.utc_ns() - arrival.identity.captured_ns) / clock.NS_PER_MS
    return Seen(
        arrived_ns=arrival.arrived_ns,
        size=pixels.nbytes,
        form=f"{width} x {height} {layout.pixel_format} {layout.codec}",
        identity=arrival.identity,
        camera=arrival.camera or "main",
        incumbent=arrival.incumbent is not None,
        age_ms=age_ms,
    )


def _summary(uri: str, source: dict[str, Any], heard: Heard) -> Probed:
    seen = list(heard.seen)
    count, paced = len(seen), source["type"] != "folder"
    gaps_ms = sorted(
        (b.arrived_ns - a.arrived_ns) / clock.NS_PER_MS for a, b in itertools.pairwise(seen)
    )
    span_s = sum(gaps_ms) / 1000
    rate_hz = round((count - 1) / span_s, 3) if paced and span_s else None
    bytes_each = sum(one.size for one in seen) / count
    ages = [one.age_ms for one in seen if one.age_ms is not None]
    ids = {
        "unit_id": sum(one.identity.unit_id is not None for one in seen),
        "trigger_id": sum(one.identity.trigger_id is not None for one in seen),
        "seq": sum(one.identity.seq is not None for one in seen),
        "captured_ns": len(ages),
        "incumbent": sum(one.incumbent for one in seen),
    }
    return Probed(
        uri=uri,
        source=source,
        frames=count,
        rate_hz=rate_hz,
        interval_ms={f"p{q}": _quantile(gaps_ms, q) for q in (50, 99)} if rate_hz else {},
        formats=dict(Counter(one.form for one in seen)),
        largest_bytes=max(one.size for one in seen),
        mib_per_s=round((rate_hz or 0) * bytes_each / 2**20, 3),
        cameras=dict(Counter(one.camera for one in seen)),
        ids={name: round(found / count, 4) for name, found in ids.items()},
        missed=_missed([one.identity.seq for one in seen if one.identity.seq is not None]),
        age_ms=round(statistics.median(ages), 3) if ages else None,
        faults=dict(heard.faults),
        fault_detail=heard.detail,
    )


def _missed(numbers: Sequence[int]) -> int:
    """Frames that the publisher numbered and nobody saw; a jump of 100 is a new start."""
    steps = (b - a for a, b in itertools.pairwise(numbers))
    return sum(step - 1 for step in steps if 1 < step <= 100)


def _quantile(ordered: Sequence[float], percent: int) -> float:
    return round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)], 3)


def _left_s(until_ns: int) -> float:
    return max(0.0, (until_ns - clock.now_ns()) / 1e9)
