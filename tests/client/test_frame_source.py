"""The reference source against a ROUTER that plays the daemon, over ipc."""

import numpy as np
import pytest

from edge_inspector.client import FrameSource
from edge_inspector.records import Outcome

IMAGE = np.arange(64, dtype=np.uint8).reshape(8, 8)


@pytest.fixture
def source(pretend_daemon):
    with FrameSource(pretend_daemon.endpoint, name="top") as source:
        yield source


def test_a_frame_offered_is_settled(source, pretend_daemon):
    seq = source.offer(IMAGE, trigger_id=17)
    settled = source.wait(seq, timeout_ms=2000)
    assert settled is not None
    assert (settled.seq, settled.vseq, settled.outcome) == (1, 1, Outcome.PASS)
    assert settled.trigger_id == 17
    assert pretend_daemon.pixels[1] == IMAGE.tobytes()
