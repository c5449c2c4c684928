"""
The worker process: owns the device, holds no promise.

One blocking loop: a job names a slot of shared memory, the answer goes back, the picture of a
reject is kept afterwards. It may die at any time; core answers for what it had in hand.
"""

from __future__ import annotations

import gc
import threading
from contextlib import ExitStack
from pathlib import Path

import cv2
import msgspec
import xxhash

from edge_inspector import clock, process
from edge_inspector.channel import (
    Alive,
    Channel,
    Done,
    Failed,
    Job,
    KeepPicture,
    Ready,
    Recheck,
    Stop,
    WorkerConfig,
)
from edge_inspector.errors import Breakage, EdgeInspectorError, Uninspectable
from edge_inspector.failpoints import passing
from edge_inspector.golden import Goldens
from edge_inspector.inspector import Inspector, Seen, open_inspector
from edge_inspector.records import Frame, Reason
from edge_inspector.sinks.archive import RejectArchive
from edge_inspector.sinks.tap import Tap
from edge_inspector.slots import Slots
from edge_inspector.verdict import uninspected
from edge_inspector.wire.pixels import to_array

ALIVE_S = 0.04


def main(argv: list[str] | None = None) -> int:
    """Serve jobs until core closes the line."""
    arguments = process.begin("worker", argv, "slots")
    config = msgspec.json.decode(arguments.config, type=WorkerConfig)
    cv2.setNumThreads(config.threads)
    line = Channel.from_fd(arguments.channel_fd)
    chosen: list[str] = []
    with ExitStack() as stack:
        try:
            if config.cpus:
                process.keep_to(config.cpus)
            inspector = stack.enter_context(
                open_inspector(
                    Path(config.recipe),
                    backends=config.backends,
                    threads=config.threads,
                    store=Path(config.store) if config.store else None,
                    tell=chosen.append,
                )
            )
            inspector.warm_up()
            # Not before: a CUDA context reserves address space of twice the GPU's memory.
            process.limit_growth(config.memory_mib)
            goldens = Goldens(inspector)
            goldens.replay()
            archive = open_archive(config)
        except EdgeInspectorError as error:
            line.send(Failed.of(error))
            return 1
        slots = Slots(arguments.slots_fd, config.slot_bytes, writable=False)
        if archive is not None:
            stack.callback(archive.close)
        gc.collect()
        gc.freeze()
        engine = f"engine {inspector.engine or 'none'} on {inspector.backend or 'rules'}"
        line.send(Ready("; ".join((engine, *chosen))))
        if goldens.count:
            line.send(goldens.report())
        serve(line, inspector, slots, archive, config.max_pixels, goldens, open_tap(config))
    return 0


def open_archive(config: WorkerConfig) -> RejectArchive | None:
    """The reject pictures' folder; raises `Breakage` when it cannot be made."""
    if config.archive is None:
        return None
    try:
        return RejectArchive(Path(config.archive), config.archive_quota_mib, observe=config.observe)
    except OSError as error:
        raise Breakage(
            f"archive {config.archive}: {error.strerror}; give archive.path a writable folder"
        ) from error


def open_tap(config: WorkerConfig) -> Tap | None:
    """Where copies of frames go while somebody records."""
    return Tap(Path(config.store)) if config.store else None


def serve(
    line: Channel,
    inspector: Inspector,
    slots: Slots,
    archive: RejectArchive | None,
    max_pixels: int,
    goldens: Goldens | None = None,
    tap: Tap | None = None,
) -> None:
    """Answer jobs in order until the line closes or says stop; golden samples when none waits."""
    goldens = goldens or Goldens(inspector)
    with Beat(line) as beat:
        while (message := line.receive()) is not None and not isinstance(message, Stop):
            if isinstance(message, KeepPicture) and archive is not None:
                archive.keep(message.unit_key)
            elif isinstance(message, Recheck):
                goldens.ask()
            elif isinstance(message, Job):
                beat.busy_until_ns = message.deadline_ns
                passing("worker.inspecting")
                seen = halted(goldens) or inspect_slot(inspector, slots, message, max_pixels)
                passing("worker.inspected")
                beat.busy_until_ns = None
                if archive is not None:
                    archive.see(message.head, seen.inspection, seen.crops, seen.scores)
                if tap is not None:
                    taken = slots.view(message.head.slot, message.head.size)
                    tap.offer(message.head, taken, message.deadline_ns)
                line.send(Done(message.head, seen.inspection))
            goldens.go_on(line)


def halted(goldens: Goldens) -> Seen | None:
    """The answer for every unit while a golden sample is judged otherwise than it is fixed to be."""
    return Seen(uninspected(Reason.MODEL_FAULT, goldens.halt)) if goldens.halt else None


class Beat:
    """A thread that says that this process works, but not while a frame takes longer than it may."""

    def __init__(self, line: Channel) -> None:
        self.busy_until_ns: int | None = None
        self._line = line
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="beat", daemon=True)

    def __enter__(self) -> Beat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(ALIVE_S):
            until_ns = self.busy_until_ns
            overdue = until_ns is not None and clock.now_ns() >= until_ns
            if not overdue and not self._line.send(Alive()):
                return


def inspect_slot(inspector: Inspector, slots: Slots, job: Job, max_pixels: int) -> Seen:
    """
    Pixels of the slot to an answer; a frame that is late already is not worth the work.

    The digest is compared last, so that it covers whatever happened to the slot until then.
    """
    head = job.head
    started = clock.now_ns()
    if started >= job.deadline_ns:
        return Seen(uninspected(Reason.TIMEOUT, "the deadline passed before a worker was free"))
    try:
        frame = Frame(head, to_array(head, slots.view(head.slot, head.size), max_pixels))
    except Uninspectable as reason:
        return Seen(uninspected(Reason(reason.reason), reason.detail))
    decoded = clock.now_ns()
    seen = inspector.look(frame, job.deadline_ns)
    inspection = inspector.watch(frame, seen.inspection, job.deadline_ns)
    if xxhash.xxh3_64_intdigest(slots.view(head.slot, head.size).data) != head.digest:
        return Seen(uninspected(Reason.BAD_INPUT, "the pixels are not those that arrived"))
    stages = {"decode": (decoded - started) // 1000, **inspection.stages_us}
    inspection = msgspec.structs.replace(inspection, stages_us=stages)
    return Seen(inspection, seen.crops, seen.scores)


if __name__ == "__main__":
    raise SystemExit(main())
