"""A station whose recipe says that pictures never repeat, and a camera that freezes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edge_inspector.client import Listener, Publisher
from edge_inspector.records import Outcome, Reason
from tests.integration.conftest import GOOD, Bench, subscribed

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
