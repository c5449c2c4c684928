"""How long a training may go on, what came before an interruption included."""

from __future__ import annotations

from edge_inspector import clock


class Bounds:
    """Minutes, steps and epochs; None is no bound."""

    def __init__(
        self, minutes: float, steps: int | None, epochs: int | None = None, epoch_steps: int = 1
    ) -> None:
        self.minutes, self.steps, self.epochs = minutes, steps, epochs
        self._epoch_steps = epoch_steps
        self._begun = clock.now_ns()

    @property
    def taken_ns(self) -> int:
        """Time spent."""
        return clock.now_ns() - self._begun

    def go_on(self, taken_ns: int) -> None:
        """This much was spent before."""
        self._begun = clock.now_ns() - taken_ns

    def spent(self, steps: int) -> float:
        """Share of minutes or steps that is used up, whichever is more; 1 or more is the end."""
        of_steps = steps / self.steps if self.steps is not None else 0.0
        return max(of_steps, self.taken_ns / (self.minutes * 60e9))

    def reached(self, steps: int) -> str:
        """The bound that was reached, in words; empty where none was."""
        if self.taken_ns > self.minutes * 60e9:
            return f"the {self.minutes:g} minutes were over"
        if self.epochs is not None and steps >= self.epochs * self._epoch_steps:
            return f"the {self.epochs} epochs were over"
        over = self.steps is not None and steps >= self.steps
        return f"the {self.steps} steps were taken" if over else ""
