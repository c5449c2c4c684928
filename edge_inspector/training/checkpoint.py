"""
A training's state beside the engine that it makes: what was cut off goes on with `--resume`.

A loop keeps its state with a `Keeper` at the end of each step; `save` and `load` are all it needs.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import torch

from edge_inspector import clock
from edge_inspector.errors import Breakage, DataError, Misuse

State = dict[str, Any]
"""Tensors, numbers, texts, and lists and dictionaries of them."""
EVERY_S = 10.0
"""Seconds between two checkpoints: what a power cut costs, of all but the largest networks."""
PATIENCE = 20
"""Times as long as the last checkpoint took to write, the next is waited for at least."""
FILE = "checkpoint"


class Course(Protocol):
    """A training under way: everything that its next step depends on."""

    @property
    def ended(self) -> str:
        """Why it is over, empty while it is not."""

    def advance(self) -> float:
        """Take a step; its loss, which may be no number."""

    def state(self) -> State:
        """What a checkpoint keeps."""

    def restore(self, state: State) -> None:
        """Go on from what a checkpoint kept."""


def part_of(out: Path) -> Path:
    """The folder beside an engine's own that holds what is not finished; removed on success."""
    whole = out.resolve()
    return whole.with_name(whole.name + ".part")


def save(path: Path, state: State) -> None:
    """Write a checkpoint whole or not at all; raises `Breakage`, the one before being intact."""
    memory = io.BytesIO()
    torch.save(state, memory)
    raw = memory.getvalue()
    draft = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            file.write(hashlib.sha256(raw).digest() + raw)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        last = "the one before is intact" if path.exists() else "there is none yet"
        raise Breakage(
            f"{path}: a checkpoint of {_mb(len(raw))} cannot be written: {error.strerror}, "
            f"{_free(path.parent)} free; {last}; make room and go on with --resume"
        ) from error


def load(path: Path) -> State | None:
    """The last checkpoint, None where there is none; raises `DataError` for a damaged one."""
    try:
        whole = path.read_bytes()
    except FileNotFoundError:
        return None
    raw = whole[32:]
    if hashlib.sha256(raw).digest() != whole[:32]:
        raise DataError(f"{path}: was changed after it was written; remove it and start again")
    state: State = torch.load(io.BytesIO(raw), weights_only=True)
    return state


class Keeper(AbstractContextManager["Keeper"]):
    """
    Keeps a loop's state every ten seconds, and when Ctrl-C asks for the end of the step.

    `identity` says what is trained on what: a state of another training is refused. A folder of
    None keeps nothing. A second Ctrl-C does not wait.
    """

    def __init__(self, folder: Path | None, identity: str, *, resume: bool) -> None:
        self._path = None if folder is None else folder / FILE
        self._identity = identity
        self._resume = resume
        self._asked = False
        self._before: Any = None
        self._saved_ns = clock.now_ns()
        self._wait_ns = EVERY_S * 1e9

    def __enter__(self) -> Keeper:
        if self._path is not None and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def state(self) -> State | None:
        """The state to go on from; raises `Misuse` where one lies that was not asked for."""
        if self._path is None:
            return None
        found = load(self._path)
        if found is None:
            return None
        if not self._resume:
            raise Misuse(
                f"{self._path.parent} holds a training that was cut off; go on with --resume, or "
                "remove the folder"
            )
        if found["identity"] != self._identity:
            raise Misuse(
                f"{self._path.parent} holds another training ({found['identity']}, asked for is "
                f"{self._identity}); give its arguments and images, or remove the folder"
            )
        state: State = found["state"]
        return state

    def follow(
        self,
        course: Course,
        tell: Callable[[float], None],
        after: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Take a training from its start or its state to its end.

        `tell` gets the loss of each step that has one; `after` is called behind every step.
        """
        if (state := self.state()) is not None:
            course.restore(state)
        while not course.ended:
            loss = course.advance()
            if math.isfinite(loss):
                tell(loss)
            after()
            self.after_step(course.state, last=bool(course.ended))

    def after_step(self, state: Callable[[], State], *, last: bool = False) -> None:
        """Keep the state if it is time; raises `KeyboardInterrupt` when Ctrl-C was pressed."""
        if self._path is None:
            return
        begun = clock.now_ns()
        if begun - self._saved_ns > self._wait_ns or last or self._asked:
            save(self._path, {"identity": self._identity, "state": state()})
            self._saved_ns = clock.now_ns()
            self._wait_ns = max(EVERY_S * 1e9, PATIENCE * (self._saved_ns - begun))
        if self._asked:
            raise KeyboardInterrupt

    def _ask(self, number: int, frame: object) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True


@contextmanager
def all_or_nothing(folder: Path) -> Iterator[Path]:
    """
    A folder to write into that becomes `folder` when all is written, and leaves nothing otherwise.

    Raises `Breakage` where the disk does not take it.
    """
    draft = part_of(folder) / "engine"
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        yield draft
        draft.replace(folder.resolve())
    except OSError as error:
        raise Breakage(
            f"{folder}: the engine cannot be written: {error.strerror}, "
            f"{_free(draft.parent)} free; nothing was left half-written; make room and run again, "
            "with --resume where there is a checkpoint"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        with suppress(OSError):  # a checkpoint may lie there still
            draft.parent.rmdir()


def _free(folder: Path) -> str:
    while not folder.exists():
        folder = folder.parent
    return _mb(shutil.disk_usage(folder).free)


def _mb(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
