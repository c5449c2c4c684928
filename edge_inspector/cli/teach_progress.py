"""The stages of teaching on a terminal, one bar at a time; elsewhere a line each."""

from __future__ import annotations

from contextlib import AbstractContextManager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Stages(AbstractContextManager["Stages"]):
    """Shows what is done now; `tell` is for what is worth keeping."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
        )
        self._bars = Progress(*columns, console=console, disable=not console.is_terminal)
        self._stage, self._task = "", TaskID(0)

    def __enter__(self) -> Stages:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def tell(self, words: str) -> None:
        """A line that stays."""
        self._console.print(escape(words), highlight=False, soft_wrap=True)

    def show(self, stage: str, done: int, total: int) -> None:
        """Where it is; a total of 0 is not known."""
        if stage != self._stage:
            if self._stage:
                self._bars.remove_task(self._task)
            self._task = self._bars.add_task(escape(stage), total=total or None)
            self._stage = stage
            if not self._console.is_terminal:
                self.tell(f"{stage} …")
        self._bars.update(self._task, completed=done, total=total or None)
