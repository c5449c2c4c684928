"""The verdict of the inspector that was there before, as text: `pass`, `fail:scratch`, `uninspected`."""

from __future__ import annotations

from edge_inspector.errors import WireError
from edge_inspector.records import Baseline, Outcome

MAX_CLASS = 64


def read_incumbent(text: str) -> Baseline:
    """The verdict that a text names; raises `WireError`."""
    word, colon, defect_class = text.partition(":")
    if word == Outcome.FAIL.value and colon:
        if 1 <= len(defect_class) <= MAX_CLASS and defect_class.isprintable():
            return Baseline(Outcome.FAIL, defect_class)
    elif not colon and word in {outcome.value for outcome in Outcome}:
        return Baseline(Outcome(word))
    raise WireError(
        f"incumbent {text[:80]!r}; write pass, fail, fail:CLASS (1 to {MAX_CLASS} printable "
        "characters) or uninspected"
    )


def incumbent_text(verdict: Baseline) -> str:
    """The text that `read_incumbent` reads."""
    if verdict.outcome is Outcome.FAIL and verdict.defect_class:
        return f"{verdict.outcome.value}:{verdict.defect_class}"
    return verdict.outcome.value
