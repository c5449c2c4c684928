"""
A line controller in a process of its own: `python -m tests.integration.away ENDPOINT NAME FROM UPTO S`.

Leaves when it holds everything up to UPTO, or after S seconds; says in one JSON object what came.
"""

import json
import sys

import numpy as np

from edge_inspector import clock
from edge_inspector.client import VerdictConsumer


def main(endpoint, name, start, upto, seconds):
    begun_ns = clock.now_ns()
    past, live, spent_ms = [], [], []
    caught_up_s = None
    with VerdictConsumer(
        endpoint, consumer=name, start="live" if start == "live" else int(start)
    ) as verdicts:
        while (now_ns := clock.now_ns()) - begun_ns < float(seconds) * 1e9:
            if int(upto) and caught_up_s is None and verdicts.upto >= int(upto):
                caught_up_s = (now_ns - begun_ns) / 1e9
                break
            delivered = verdicts.receive(timeout_ms=100)
            if delivered is None:
                continue
            if delivered.historical:
                past.append(delivered.vseq)
                continue
            live.append(delivered.vseq)
            spent_ms.append((delivered.received_ns - delivered.verdict.time_zero_ns) / 1e6)
    p50, p99 = np.percentile(spent_ms, [50, 99])
    print(json.dumps({
        "past": len(past), "past_first": past[0] if past else 0,
        "past_in_order": past == list(range(past[0], past[0] + len(past))) if past else True,
        "live": len(live), "live_in_order": live == list(range(live[0], live[0] + len(live))),
        "caught_up_s": caught_up_s, "p50_ms": p50, "p99_ms": p99,
    }))  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
