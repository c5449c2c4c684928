"""What a probe found, for a person, and as a `station.toml` to start from."""

from __future__ import annotations

from collections.abc import Iterator

import tomlkit

from edge_inspector.studies.probe import Probed

PLAUSIBLE_MS = (-2.0, 2000.0)
"""Ages of frames from a publisher whose clock is this box's, or kept with it."""
MIB = 2**20
LINES = {
    "zmq-sub": "a publisher (PUB)",
    "zmq-pull": "a publisher that pushes (PUSH)",
    "zmq-rep": "a publisher that waits for an answer (REQ, imagezmq)",
    "camera": "a camera or stream",
    "folder": "files",
}


def found(probed: Probed) -> Iterator[str]:
    """What came, a sentence a line."""
    yield f"{probed.uri}: {LINES[str(probed.source['type'])]}, {probed.frames} frames"
    if probed.rate_hz is not None:
        gaps = probed.interval_ms
        yield (
            f"{probed.rate_hz:.4g} frames a second, {probed.mib_per_s:.3g} MiB/s; from one to the "
            f"next {gaps['p50']:.4g} ms (median), {gaps['p99']:.4g} ms (99th percentile)"
        )
    for form, count in probed.formats.items():
        yield f"{count} x {form}"
    yield f"at most {probed.largest_bytes / MIB:.3g} MiB; cameras: {', '.join(probed.cameras)}"
    there = [f"{name} in {share:.0%}" for name, share in probed.ids.items() if share]
    yield f"ids and clocks: {', '.join(there) or 'none'}"
    if probed.age_ms is not None:
        yield f"{probed.age_ms:.4g} ms from capture to here, by the publisher's clock"
    if probed.missed:
        yield f"{probed.missed} frames were lost on the way, by their numbers"
    for cause, count in probed.faults.items():
        yield f"{count} frames could not be used ({cause}), as: {probed.fault_detail}"


def missing(probed: Probed) -> Iterator[str]:
    """What keeps these frames from moving an actuator, the worst first."""
    ids, kind = probed.ids, str(probed.source["type"])
    named = max(ids["unit_id"], ids["trigger_id"])
    if not named:
        yield (
            "ADVISORY: no frame has a trigger_id or unit_id, so nothing ties a verdict to a part, "
            "one lost frame would shift every verdict after it, and none may open a gate; send the "
            "line's part counter as trigger_id"
        )
    elif named < 1:
        yield f"{1 - named:.1%} of the frames have no id: their verdicts are advisory; name each one"
    if kind == "folder":
        yield "a folder has no rate and no clock of its own: good for trying out, not for a line"
        return
    if not ids["trigger_id"] and ids["unit_id"]:
        yield "no trigger_id: a unit whose frame is lost goes unnoticed; send the part counter"
    if not ids["seq"] and kind != "camera":
        yield "no seq: a frame that is lost before it arrives goes unnoticed; number them"
    yield from _clock(probed, kind)
    if kind.startswith("zmq"):
        yield (
            "PLAIN tier: what is lost on the way is lost; a source of the ASSURED tier "
            "(edge_inspector.client.FrameSource) gets a recorded verdict for each frame it offers"
        )


def _clock(probed: Probed, kind: str) -> Iterator[str]:
    low, high = PLAUSIBLE_MS
    if kind == "camera":
        yield "no capture time: a deadline counts from arrival"
    elif probed.age_ms is None:
        yield "no captured_ns: a frame that waited in a queue looks new; send UTC of capture in ns"
    elif not low <= probed.age_ms <= high:
        yield (
            f"captured_ns is {probed.age_ms / 1000:.4g} s off this box's clock; the limits are "
            f"{low / 1000:g} to {high / 1000:g} s; set both by PTP or NTP"
        )


def station_toml(probed: Probed) -> str:
    """A station that `check` takes, up to its recipe."""
    document = tomlkit.document()
    document.add(tomlkit.comment(f"from edge-inspector probe {probed.uri}"))
    document["station"] = "station1"
    document["recipe"] = "recipe.toml"
    document["store"] = "state"
    sources = tomlkit.aot()
    sources.append(_source(probed))
    document["sources"] = sources
    sinks = tomlkit.aot()
    sink = tomlkit.table()
    sink["type"] = "zmq"
    sink["endpoint"] = "tcp://127.0.0.1:5572"
    sink.comment("edge-inspector listen shows what goes here; it drives nothing")
    sinks.append(sink)
    document["sinks"] = sinks
    frames = tomlkit.table()
    frames["max_bytes"] = max(1, -(-2 * probed.largest_bytes // MIB)) * MIB
    document["frames"] = frames
    archive = tomlkit.table()
    archive["path"] = "rejects"
    document["archive"] = archive
    return tomlkit.dumps(document)


def _source(probed: Probed) -> tomlkit.items.Table:
    table, kind = tomlkit.table(), str(probed.source["type"])
    for key in ("type", "name", "endpoint", "bind", "uri"):
        if key in probed.source:
            table[key] = probed.source[key]
    table["camera"] = max(probed.cameras, key=lambda name: probed.cameras[name])
    if kind == "folder":
        table["rate_hz"] = 10.0
    if kind.startswith("zmq"):
        low, high = PLAUSIBLE_MS
        own = str(probed.uri).startswith(("ipc://", "tcp://127.", "tcp://localhost"))
        if probed.age_ms is not None and low <= probed.age_ms <= high:
            table["clock"] = "same-host" if own else "ptp"
        if "allow" in probed.source:
            table["allow"] = list(probed.source["allow"])
            table["allow"].comment("narrow this to the publisher's address")
    return table
