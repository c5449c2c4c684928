"""What another inspector said of a unit travels with its frame, in both tiers, and judges nothing."""

import numpy as np
import pytest

from edge_inspector.client import FrameSource, Publisher
from edge_inspector.errors import Misuse, WireError
from edge_inspector.records import Baseline, Outcome, Reason
from edge_inspector.wire.incumbent import incumbent_text, read_incumbent

IMAGE = np.full((8, 8), 90, np.uint8)
SAID = {
    "pass": Baseline(Outcome.PASS),
    "fail": Baseline(Outcome.FAIL),
    "fail:bent pin: left": Baseline(Outcome.FAIL, "bent pin: left"),
    "uninspected": Baseline(Outcome.UNINSPECTED),
}
WRONG = ["", "ok", "pass:", "PASS", "fail:", "fail:a\nb", "fail:" + "x" * 65]


@pytest.mark.parametrize("text", SAID)
def test_a_text_names_a_verdict_and_back(text):
    assert read_incumbent(text) == SAID[text]
    assert incumbent_text(SAID[text]) == text


@pytest.mark.parametrize("text", WRONG)
def test_other_texts_are_refused(text):
    with pytest.raises(WireError, match="write pass, fail, fail:CLASS"):
        read_incumbent(text)


def test_a_publisher_tells_it(start_ingest, endpoint):
    core = start_ingest({"type": "zmq-pull", "name": "line", "endpoint": endpoint})
    with Publisher(endpoint) as line:
        for text in (*SAID, None):
            line.send(IMAGE, trigger_id=1, incumbent=text)
        line.send(IMAGE, trigger_id=9, incumbent="perhaps")
    heads = [core.frame() for _ in range(6)]
    assert [head.incumbent for head in heads] == [*SAID.values(), None, None]
    assert [head.fault for head in heads] == [None] * 5 + [Reason.BAD_INPUT]
    assert "incumbent 'perhaps'" in heads[5].detail
    assert heads[5].trigger_id == 9


def test_a_source_tells_it_of_frames_and_of_tombstones(start_ingest, endpoint):
    core = start_ingest({"type": "assured", "name": "line", "endpoint": endpoint})
    with FrameSource(endpoint, name="line", budget_ms=60_000) as source:
        source.offer(IMAGE, trigger_id=1, incumbent="fail:bent")
        source.offer(IMAGE, trigger_id=2)
        heads = [core.frame() for _ in range(2)]
        source.offer(IMAGE, trigger_id=3, age_ms=60_001, incumbent="pass")
        heads.append(core.frame())
        for seq, head in enumerate(heads, start=1):
            core.settle(head, seq)
        assert source.wait_all(timeout_ms=5000)
    assert [head.incumbent for head in heads] == [
        Baseline(Outcome.FAIL, "bent"),
        None,
        SAID["pass"],
    ]
    assert [head.tombstone for head in heads] == [False, False, True]


def test_a_source_refuses_what_the_daemon_would(endpoint):
    with (
        FrameSource(endpoint, name="line") as source,
        pytest.raises(Misuse, match="incumbent 'maybe'"),
    ):
        source.offer(IMAGE, incumbent="maybe")
