"""
Frames of a station into a recorded folder, beside its running daemon or in its place.

Beside a daemon the frames are copies that its workers hand on; without one the station's sources
are opened by an ingest process, as the daemon would, and nothing is judged.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_inspector import clock
from edge_inspector.errors import DocumentError, Misuse, StoreFault
from edge_inspector.ingest import IngestConfig
from edge_inspector.outbox.log import Lock
from edge_inspector.recipe import load_recipe
from edge_inspector.settings import Settings, load_settings
from edge_inspector.studies.record_taking import Report, Taking, Tick
from edge_inspector.studies.record_ways import Alone, Beside
from edge_inspector.studies.recorded import GIB, RESERVE_BYTES, Recording
from edge_inspector.wire.plain import EVERY

QUOTA_GIB = 20.0
PATIENCE_S = 60.0
PULSE_S = 0.09


def default_folder(station: Path) -> Path:
    """Where the frames of a station go unless told otherwise."""
    return station.resolve().parent / "recorded"


def record_station(
    station: Path,
    out: Path,
    units: int,
    *,
    quota_gib: float = QUOTA_GIB,
    reserve_bytes: int = RESERVE_BYTES,
    patience_s: float = PATIENCE_S,
    tick: Tick = lambda _: None,
) -> Report:
    """
    Record until `units` units are in `out`, those of before counted; `tick` is called per frame.

    SIGINT and SIGTERM end it early with what is there. Raises `Misuse` when no frame comes for
    `patience_s`, `DataError` at the quota, `Breakage` when the disk is full.
    """
    if units < 1 or quota_gib <= 0:
        raise Misuse(f"{units} units, {quota_gib:g} GiB; record 1 unit or more, above 0 GiB")
    settings = load_settings(station)
    config = _config(settings)
    cameras = [camera for camera in config.cameras if camera != EVERY]
    quota = round(quota_gib * GIB)
    with Recording(out, units, quota_bytes=quota, reserve_bytes=reserve_bytes) as recording:
        taking = Taking(recording, cameras, config.max_pixels, tick)
        if recording.whole(cameras):
            return taking.report(beside=False)
        with _lock(settings) as lock:
            beside = lock is None
            work = Beside(settings) if beside else Alone(settings, config)
            asyncio.run(_record(taking, work, patience_s))
        return taking.report(beside=beside)


async def _record(taking: Taking, work: Beside | Alone, patience_s: float) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, taking.interrupt)
    await work.start(taking)
    try:
        while not taking.over:
            await asyncio.sleep(PULSE_S)
            work.beat()
            now_ns = clock.now_ns()
            taking.rest(now_ns)
            if not taking.over and now_ns - taking.heard_ns > patience_s * 1e9:
                why = f"; last trouble: {taking.last_fault}" if taking.last_fault else ""
                taking.end(Misuse(f"no frame to keep came for {patience_s:g} s {work.where}{why}"))
    finally:
        await work.stop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _config(settings: Settings) -> IngestConfig:
    """What the station's recipe says of its cameras; where there is none yet, every name goes."""
    try:
        recipe = load_recipe(settings.recipe)
    except DocumentError:
        if settings.recipe.exists():
            raise
        cameras = dict.fromkeys(source.camera for source in settings.sources)
        return IngestConfig(
            station=settings.station,
            recipe="none",
            cameras=(*cameras, EVERY),
            recipes=("none", EVERY),
            sources=tuple(source.model_dump() for source in settings.sources),
            slot_bytes=settings.frames.max_bytes,
            max_pixels=settings.frames.max_pixels,
        )
    return IngestConfig.of(settings, recipe)


@contextmanager
def _lock(settings: Settings) -> Iterator[Lock | None]:
    """The station's store, so that no daemon starts meanwhile; None where one runs."""
    settings.store.mkdir(parents=True, exist_ok=True)
    try:
        lock = Lock(settings.store)
    except StoreFault:
        yield None
        return
    try:
        yield lock
    finally:
        lock.release()
