"""A station whose recipe says that pictures never repeat, and a camera that freezes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edge_inspector.client import FrameSource, Listener, Publisher
from edge_inspector.records import Outcome, Pixels, Reason
from tests.integration.conftest import GOOD, Bench, subscribed

Said = tuple[Outcome | None, Reason | None]
FOUND_WITHIN = 3
"""Frames, guarantee G23."""


def test_a_frozen_camera_is_found_and_the_line_goes_on_when_it_lives_again(
    open_bench: Callable[..., Bench],
) -> None:
    bench = open_bench(recipe={"quality": {"main": {"refuse_repeats": True}}})
    rng = np.random.default_rng(1)
    frames = [GOOD + rng.integers(0, 2, GOOD.shape, np.uint8) for _ in range(4)]
    shown = [*frames[:3], *[frames[2]] * 5, frames[3]]
    with Listener(bench.verdicts) as listener, Publisher(bench.frames) as publisher:
        assert subscribed(bench, listener)
        notes = {}
        for number, pixels in enumerate(shown):
            publisher.send(pixels, unit_id=f"u{number}")
            for note in bench.collect(listener, 1):
                notes[note.unit_id] = note
    outcomes = [notes[f"u{number}"].outcome for number in range(len(shown))]
    assert outcomes[:3] == [Outcome.PASS] * 3
    assert outcomes[3 : 3 + FOUND_WITHIN] == [Outcome.UNINSPECTED] * FOUND_WITHIN
    assert {notes[f"u{number}"].reason for number in range(3, 8)} == {Reason.CAMERA_FAULT}
    assert "frozen" in notes["u3"].detail
    assert outcomes[-1] is Outcome.PASS


def test_a_frozen_picture_is_found_behind_a_late_one_and_over_restarts(
    open_bench: Callable[..., Bench],
) -> None:
    """The late one came too late to be judged; after the last restart the log alone knows."""
    recipe = {"quality": {"main": {"refuse_repeats": True}}, "latency_budget_ms": 5000.0}
    frames = {"max_bytes": 64 * 1024, "slots": 80}
    bench = open_bench(source="assured", recipe=recipe, archive=None, frames=frames)
    rng = np.random.default_rng(1)
    first, late, third, last = (GOOD + rng.integers(0, 2, GOOD.shape, np.uint8) for _ in range(4))
    passes, frozen = (Outcome.PASS, None), (Outcome.UNINSPECTED, Reason.CAMERA_FAULT)

    def judged(source: FrameSource, trigger_id: int, pixels: Pixels, age_ms: float = 0.0) -> Said:
        seq = source.offer(pixels, trigger_id=trigger_id, age_ms=age_ms)
        settled = source.wait(seq, 10_000)
        assert settled is not None
        return settled.outcome, settled.reason

    with FrameSource(bench.frames, name="line", budget_ms=5000.0) as source:
        assert judged(source, 1, first) == passes
        assert judged(source, 2, late, 6000.0) == (Outcome.UNINSPECTED, Reason.TIMEOUT)
        assert judged(source, 3, late) == frozen
        _restart(bench)
        assert judged(source, 4, late) == frozen
        assert judged(source, 5, third) == passes
    _restart(bench)
    with FrameSource(bench.frames, name="line", budget_ms=5000.0) as source:
        assert judged(source, 6, third) == frozen
        assert judged(source, 7, last) == passes


def _restart(bench: Bench) -> None:
    bench.station.kill()
    bench.station.start()
