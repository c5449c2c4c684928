"""
What is wrong with a station, said before the line does: each function looks at one thing.

They yield findings and raise nothing; `FAIL` keeps the station from being run, `WARN` does not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import zmq

from edge_inspector import wiring
from edge_inspector.align import open_alignment
from edge_inspector.codes import open_codes
from edge_inspector.errors import EdgeInspectorError
from edge_inspector.importer import load
from edge_inspector.inspector import RULES
from edge_inspector.ladder import load_steps
from edge_inspector.outbox import measure_sync
from edge_inspector.settings import (
    AssuredSink,
    AssuredSource,
    CameraSource,
    PluginSink,
    PluginSource,
    ZmqSource,
)
from edge_inspector.settings import ZmqSink as ZmqSinkSettings
from edge_inspector.studies.check_engines import classifiers, engines, golden
from edge_inspector.studies.check_gateways import gateways
from edge_inspector.studies.check_observe import incumbent, observing, shadow
from edge_inspector.studies.check_relays import relays
from edge_inspector.studies.findings import Check, Finding, Station
from edge_inspector.wire import sockets

SYNC_LIMIT_MS = 10.0
"""Above this 99th percentile of a commit, the disk alone may cost a tight budget its deadline."""


def findings(station: Station) -> Iterator[Finding]:
    """Everything that can be said about a station, in the order of `CHECKS`."""
    for check in CHECKS:
        yield from check(station)


def wires(station: Station) -> Iterator[Finding]:
    """Documents that contradict each other."""
    told = f"station and recipe agree on cameras {', '.join(station.recipe.cameras)}"
    documents = (station.settings, station.recipe)
    yield _attempt("station", told, wiring.check_station, *documents)


def folders(station: Station) -> Iterator[Finding]:
    """Folders that verdicts and pictures go to."""
    archive = station.settings.archive
    wanted = {"store": station.settings.store, **({"archive": archive.path} if archive else {})}
    for name, folder in wanted.items():
        try:
            with tempfile.TemporaryFile(dir=_existing(folder)):
                yield Finding("OK", name, f"{folder} can be written")
        except OSError as error:
            detail = f"{folder} cannot be written: {error.strerror}; give the service the right to"
            yield Finding("FAIL", name, detail)


def ports(station: Station) -> Iterator[Finding]:
    """Endpoints that are bound: allowed, and free now; a running daemon of this station holds them."""
    wanted = [
        (f"source {source.name}", source.endpoint, source.allow)
        for source in station.settings.sources
        if isinstance(source, ZmqSource) and _binds(source)
    ]
    settings = station.settings
    sources = [one for one in settings.sources if isinstance(one, AssuredSource)]
    sinks = [one for one in settings.sinks if isinstance(one, (ZmqSinkSettings, AssuredSink))]
    wanted += [(f"source {source.name}", source.endpoint, ()) for source in sources]
    wanted += [(f"sink {sink.type}", sink.endpoint, ()) for sink in sinks]
    with zmq.Context() as context, ExitStack() as held:
        for name, endpoint, allow in wanted:
            if endpoint.startswith("ipc://"):
                yield _attempt(name, endpoint, sockets.check_bind, endpoint, allow)
            else:
                socket = held.enter_context(sockets.open_socket(context, zmq.PULL, hwm=1))
                told = f"{endpoint} can be bound"
                yield _attempt(name, told, sockets.bind, socket, endpoint, allow)


def plugins(station: Station) -> Iterator[Finding]:
    """Packages that sinks and sources of the user's own need."""
    for sink in station.settings.sinks:
        if isinstance(sink, PluginSink):
            yield _attempt(f"sink {sink.type}", "is installed", load, sink.type)
    for source in station.settings.sources:
        if isinstance(source, PluginSource):
            told = f"{source.type} is installed"
            yield _attempt(f"source {source.name}", told, load, source.type)


def identity(station: Station) -> Iterator[Finding]:
    """Frames without an id must not drive an actuator: one lost frame shifts every later verdict."""
    actuating = [sink.type for sink in station.settings.sinks if sink.actuates]
    for source in station.settings.sources:
        subject = f"source {source.name}"
        if isinstance(source, CameraSource) and actuating:
            detail = (
                f"its frames carry no unit_id and no trigger_id, so they are advisory, and sink "
                f"{actuating[0]} actuates; publish frames with ids, or set actuates = false"
            )
            yield Finding("FAIL", subject, detail)
        elif isinstance(source, ZmqSource) and actuating and source.msg_is != "unit_id":
            detail = (
                "frames without unit_id or trigger_id in their metadata are advisory, and sink "
                f"{actuating[0]} must not act on those; make sure that each one has an id"
            )
            yield Finding("WARN", subject, detail)


def clocks(station: Station) -> Iterator[Finding]:
    """Sources whose frames look young however long they waited in the publisher's queue."""
    for source in station.settings.sources:
        if isinstance(source, ZmqSource) and source.clock == "none" and source.max_age_ms is None:
            detail = (
                "a frame that waited in the publisher's queue counts as new on arrival; set "
                "clock = 'same-host' or 'ptp', or max_age_ms"
            )
            yield Finding("WARN", f"source {source.name}", detail)


def promise(station: Station) -> Iterator[Finding]:
    """What the recipe's threshold rests on."""
    recipe = station.recipe
    calibration = recipe.calibration
    if calibration is None:
        if any(region.engine for region in recipe.regions):
            detail = (
                "has no threshold, so every unit is uninspected; run 'edge-inspector calibrate'"
            )
            yield Finding("FAIL", "calibration", detail)
        return
    told = (
        f"overkill at most {calibration.promised_overkill:.3g} at {calibration.confidence:.0%} "
        f"confidence, from {calibration.units} good units; {calibration.overkill:.3g} was asked for"
    )
    if calibration.provisional:
        yield Finding("WARN", "calibration", f"provisional: {told}; calibrate with more good units")
    else:
        yield Finding("OK", "calibration", told)


def parts(station: Station) -> Iterator[Finding]:
    """Rules and alignment pictures that the recipe names."""
    for name, path in station.recipe.rules.items():
        yield _attempt(f"rules {name}", f"{path} is sound", _open_rules, path)
    for camera, spec in station.recipe.alignment.items():
        yield _attempt(f"alignment {camera}", f"by {spec.method}", open_alignment, spec)
    if steps := [step.name for step in station.recipe.ladder]:
        told = f"{', then '.join(steps)} where there is not time for the whole recipe"
        yield _attempt("ladder", told, load_steps, station.recipe)
    if codes := [region.name for region in station.recipe.regions if region.code is not None]:
        told = f"'{', '.join(codes)}' can be read"
        yield _attempt("codes", told, open_codes, station.recipe)


def _open_rules(path: Path) -> None:
    load(RULES)(path)


def disk(station: Station) -> Iterator[Finding]:
    """What one durable commit costs on the disk of the verdict log."""
    try:
        p50, p99 = measure_sync(_existing(station.settings.store))
    except (EdgeInspectorError, OSError) as error:
        yield Finding("FAIL", "disk", str(error))
        return
    told = f"a commit takes {p50:.2f} ms (median), {p99:.2f} ms (99th percentile)"
    if p99 > SYNC_LIMIT_MS:
        remedy = f"the limit is {SYNC_LIMIT_MS:g} ms; put the store on a faster disk"
        yield Finding("WARN", "disk", f"{told}; {remedy}")
    else:
        yield Finding("OK", "disk", told)


CHECKS: tuple[Check, ...] = (
    wires,
    folders,
    ports,
    plugins,
    identity,
    clocks,
    parts,
    engines,
    classifiers,
    golden,
    promise,
    observing,
    incumbent,
    shadow,
    gateways,
    relays,
    disk,
)


def _binds(source: ZmqSource) -> bool:
    return source.type != "zmq-sub" or bool(source.bind)


def _existing(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    return next(above for above in (folder, *folder.parents) if above.is_dir())


def _attempt(subject: str, told: str, call: Callable[..., object], *given: object) -> Finding:
    try:
        call(*given)
    except EdgeInspectorError as error:
        return Finding("FAIL", subject, str(error))
    return Finding("OK", subject, told)
