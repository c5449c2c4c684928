"""The one place where a station is put together from its documents."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import structlog

from edge_inspector import gauge, slots
from edge_inspector.alarms import AlarmSink
from edge_inspector.channel import DeliveryConfig, WorkerConfig
from edge_inspector.children import Child
from edge_inspector.daemon import Daemon
from edge_inspector.docket import Docket
from edge_inspector.errors import Misuse
from edge_inspector.gateways.modbus import config_text
from edge_inspector.gauge import Gauge
from edge_inspector.importer import choose
from edge_inspector.ingest import IngestConfig
from edge_inspector.lots import LotSink
from edge_inspector.metrics import Metrics
from edge_inspector.observe.incumbents import Incumbents
from edge_inspector.observe.quiet import observing, quieted, told, watches
from edge_inspector.outbox import Outbox
from edge_inspector.parts import MakeChild, OnLost, OnMessage, Parts
from edge_inspector.protocols import Sink
from edge_inspector.recipe import Recipe, load_recipe
from edge_inspector.settings import (
    AssuredSink,
    AssuredSource,
    CameraSource,
    DiscreteSink,
    FolderSource,
    Incumbent,
    ModbusSink,
    PluginSink,
    Settings,
    SinkSettings,
    ZmqSource,
    load_settings,
    process_environment,
)
from edge_inspector.sinks import SINKS
from edge_inspector.wire import sockets


def run_station(path: Path, overrides: Mapping[str, Any] | None = None) -> int:
    """Run the daemon of a station until it is told to stop; its exit status."""
    settings = load_settings(path, overrides)
    recipe = load_recipe(settings.recipe)
    check_station(settings, recipe)
    log = structlog.get_logger("edge_inspector")
    if meaning := told(settings, recipe):
        log.warning("observing", product=recipe.product, meaning=meaning)
    with ExitStack() as stack:
        incumbents = None
        if watches(settings, recipe):
            incumbents = Incumbents(
                settings.store, lambda event, detail: log.warning(event, detail=detail)
            )
            stack.callback(incumbents.close)
        return asyncio.run(_serve(quieted(settings, recipe), recipe, incumbents))


def check_station(settings: Settings, recipe: Recipe) -> None:
    """Refuse combinations that could let a unit through on no evidence; raises `Misuse`."""
    settings.workers.places()
    names = [source.name for source in settings.sources]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise Misuse(f"two sources are named {', '.join(sorted(doubled))}")
    assured = _assured_sinks(settings)
    sources = [source for source in settings.sources if isinstance(source, AssuredSource)]
    for endpoint in [one.endpoint for one in assured] + [one.endpoint for one in sources]:
        sockets.check_local(endpoint)
    if len(assured) > 1:
        raise Misuse(f"{len(assured)} sinks of type 'assured'; one serves every line controller")
    cursors = [sink.consumer for sink in _modbus_sinks(settings)]
    if len(set(cursors)) < len(cursors):
        raise Misuse(
            f"two Modbus sinks share the consumer '{cursors[0]}'; give each one of its own"
        )
    fed = {source.camera for source in settings.sources}
    if any(not isinstance(source, (CameraSource, FolderSource)) for source in settings.sources):
        return  # a publisher may name the camera in each frame
    if absent := [camera for camera in recipe.cameras if camera not in fed]:
        raise Misuse(
            f"recipe '{recipe.product}' needs camera '{absent[0]}', which no source feeds; "
            f"sources feed {', '.join(sorted(fed))}"
        )


async def _serve(settings: Settings, recipe: Recipe, incumbents: Incumbents | None) -> int:
    fd = slots.create(settings.frames.slots, settings.frames.max_bytes)
    gauge_fd = gauge.create()
    docket = Docket(
        station=settings.station,
        cameras=recipe.cameras,
        budget_us=recipe.budget_us,
        max_queue=recipe.max_queue,
        recipe=recipe.product,
        recipe_version=recipe.version,
        evidence=evidence(settings.recipe, recipe),
        never_repeat=[name for name, asked in recipe.quality.items() if asked.refuse_repeats],
        observe=observing(settings, recipe),
    )
    assured = _assured_sinks(settings)
    outbox = Outbox(
        settings.store,
        days=settings.retention.days,
        max_bytes=int(settings.retention.max_gib * 1024**3),
        hold_days=settings.retention.hold_days,
        required=tuple(name for sink in assured for name in sink.required),
    )
    alarms = AlarmSink(settings.store, settings.alarms)
    daemon = Daemon(
        Parts(
            docket=docket,
            outbox=outbox,
            open_sinks=lambda: _open_sinks(settings, outbox, alarms),
            worker=_workers(settings, recipe, fd),
            ingest=partial(
                _maker(settings, "ingest", IngestConfig.of(settings, recipe).encode(), slots=fd),
                "ingest",
            ),
            listeners=[
                *(_delivery(settings, recipe, sink, gauge_fd) for sink in assured),
                *(_modbus(settings, recipe, sink, gauge_fd) for sink in _modbus_sinks(settings)),
                *_discretes(settings),
                *([_poller(settings, settings.incumbent)] if settings.incumbent else []),
            ],
            workers=settings.workers.count,
            slots=settings.frames.slots,
            hang_ms=settings.workers.hang_ms,
            wants_verdict=frozenset(
                source.name
                for source in settings.sources
                if isinstance(source, ZmqSource) and source.reply == "verdict"
            ),
            metrics=Metrics(recipe.latency_budget_ms),
            gauge=Gauge(gauge_fd, writable=True),
            incumbents=incumbents,
            alarmed=lambda: alarms.state,
        )
    )
    return await daemon.run()


def evidence(path: Path, recipe: Recipe, text: bytes | None = None) -> str:
    """
    What a verdict rests on: a digest over the recipe, its rules, its engines' manifests, its steps.

    `text` is what the recipe's file is about to hold.
    """
    digest = hashlib.sha256(path.read_bytes() if text is None else text)
    for file in recipe.rules.values():
        digest.update(file.read_bytes() if file.exists() else b"")
    for folder in recipe.engines.values():
        manifest = folder / "manifest.toml"
        digest.update(manifest.read_bytes() if manifest.exists() else b"")
    for step in recipe.ladder:
        digest.update(evidence(step.recipe, load_recipe(step.recipe)).encode())
    return digest.hexdigest()[:16]


def _assured_sinks(settings: Settings) -> list[AssuredSink]:
    return [sink for sink in settings.sinks if isinstance(sink, AssuredSink)]


def _workers(settings: Settings, recipe: Recipe, fd: int) -> Callable[..., Child]:
    places = iter(settings.workers.places())

    def make(name: str, on_message: OnMessage, on_lost: OnLost) -> Child:
        config = _worker_config(settings, recipe, next(places))
        return _maker(settings, "worker", config, slots=fd)(name, on_message, on_lost)

    return make


def _worker_config(settings: Settings, recipe: Recipe, cpus: tuple[int, ...]) -> str:
    archive = settings.archive
    config = WorkerConfig(
        recipe=str(settings.recipe),
        backends=settings.workers.backends,
        threads=settings.workers.threads,
        slot_bytes=settings.frames.max_bytes,
        memory_mib=settings.workers.memory_mib,
        max_pixels=settings.frames.max_pixels,
        archive=str(archive.path) if archive else None,
        archive_quota_mib=archive.quota_mib if archive else 1024,
        store=str(settings.store),
        observe=watches(settings, recipe),
        cpus=cpus,
    )
    return msgspec.json.encode(config).decode()


def _delivery(settings: Settings, recipe: Recipe, sink: AssuredSink, gauge_fd: int) -> MakeChild:
    config = DeliveryConfig(
        station=settings.station,
        endpoint=sink.endpoint,
        store=str(settings.store),
        classes=recipe.defect_classes,
        history_hz=sink.history_hz,
        observe=sink.observe,
    )
    text = msgspec.json.encode(config).decode()
    return partial(_maker(settings, "delivery", text, gauge=gauge_fd), "delivery")


def _modbus_sinks(settings: Settings) -> list[ModbusSink]:
    return [sink for sink in settings.sinks if isinstance(sink, ModbusSink)]


def _discretes(settings: Settings) -> list[MakeChild]:
    sinks = [sink for sink in settings.sinks if isinstance(sink, DiscreteSink)]
    return [
        partial(_maker(settings, "gateways.discrete", sink.model_dump_json()), f"discrete-{number}")
        for number, sink in enumerate(sinks, 1)
    ]


def _modbus(settings: Settings, recipe: Recipe, sink: ModbusSink, gauge_fd: int) -> MakeChild:
    text = config_text(sink, settings.store, recipe.defect_classes)
    return partial(_maker(settings, "gateways.modbus", text, gauge=gauge_fd), sink.consumer)


def _poller(settings: Settings, asked: Incumbent) -> MakeChild:
    return partial(_maker(settings, "observe.poller", asked.model_dump_json()), "incumbent")


def _maker(
    settings: Settings, module: str, config: str, **fds: int
) -> Callable[[str, OnMessage, OnLost], Child]:
    """Makes children that run `module`; each descriptor is inherited and told as `--name-fd`."""
    command = [sys.executable, "-m", f"edge_inspector.{module}", "--config", config]
    for name, fd in fds.items():
        command += [f"--{name}-fd", str(fd)]
    environment = _environment(settings)

    def make(name: str, on_message: OnMessage, on_lost: OnLost) -> Child:
        return Child(
            name,
            command,
            inherit=tuple(fds.values()),
            environment=environment,
            on_message=on_message,
            on_lost=on_lost,
        )

    return make


def ingest_alone(settings: Settings, config: IngestConfig, slots_fd: int) -> MakeChild:
    """Makes an ingest process that serves somebody else than a daemon."""
    return partial(_maker(settings, "ingest", config.encode(), slots=slots_fd), "ingest")


def _environment(settings: Settings) -> dict[str, str]:
    """OpenCV reads its caps once, when it is imported."""
    pixels = str(settings.frames.max_pixels)
    return process_environment(
        {
            "OPENCV_IO_MAX_IMAGE_PIXELS": pixels,
            "OPENCV_IO_MAX_IMAGE_WIDTH": "32768",
            "OPENCV_IO_MAX_IMAGE_HEIGHT": "32768",
            "OMP_NUM_THREADS": str(settings.workers.threads),
        }
    )


def _open_sinks(settings: Settings, outbox: Outbox, alarms: AlarmSink) -> list[Sink]:
    """What listens inside core; children serve the others. The log is open by then."""
    reach = alarms.reach
    alarms.open(outbox.read(outbox.head() - reach + 1, reach))
    children = (AssuredSink, DiscreteSink, ModbusSink)
    inside = [sink for sink in settings.sinks if not isinstance(sink, children)]
    lots = LotSink(settings.store)
    lots.open()
    return [alarms, lots, *(_open_sink(sink, settings) for sink in inside)]


def _open_sink(sink: SinkSettings, settings: Settings) -> Sink:
    make = choose(SINKS, sink.type, "sink")
    if isinstance(sink, PluginSink):
        opened: Sink = make(**sink.options)
    else:
        opened = make(sink, settings.station)
    return opened
