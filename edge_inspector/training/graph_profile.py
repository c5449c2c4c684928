"""Where the time of one crop goes, node by node, in ONNX Runtime: it keeps the graph's names."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from edge_inspector.backends import open_first
from edge_inspector.records import Pixels

ROUNDS = 30
_NODE = "_kernel_time"


def shares(model: bytes, crop: Pixels) -> dict[str, float]:
    """
    Each node's share of one crop's time on one thread; nodes fused into others are absent.

    `crop` is uint8 (h, w, c). Raises `BackendMissing`, or `EngineRefused` with the runtime's words.
    """
    open_first(["onnxruntime"], model, 1)[1].close()
    import onnxruntime

    with TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "nodes")
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        given = {session.get_inputs()[0].name: crop[None]}
        for _ in range(ROUNDS):
            session.run(None, given)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    spent: Counter[str] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_NODE):
            spent[event["name"].removesuffix(_NODE)] += event["dur"]
    whole = spent.total() or 1
    return {name: time / whole for name, time in spent.items()}
