"""Runtimes that take longer for each batch than OpenVINO does; plug-ins of the tests."""

import threading

from edge_inspector.backends.openvino import OpenVino

SPENT_S = 0.005
TO_NAME_S = 0.3
LARGE_PX, LARGE_S = 32, 0.06


class Slow:
    """OpenVINO, slowed down."""

    name = "slow"

    def __init__(self, cache=None):
        pass

    def open(self, model, *, threads):
        return SlowSession(OpenVino().open(model, threads=threads), SPENT_S)


class SlowToName:
    """OpenVINO with a classifier that is too slow for the line."""

    name = "slow to name"

    def __init__(self, cache=None):
        pass

    def open(self, model, *, threads):
        session = OpenVino().open(model, threads=threads)
        return SlowSession(session, TO_NAME_S) if b"probabilities" in model else session


class SlowWhenLarge:
    """OpenVINO that needs long for large crops alone."""

    name = "slow when large"

    def __init__(self, cache=None):
        pass

    def open(self, model, *, threads):
        return SlowSession(OpenVino().open(model, threads=threads), LARGE_S, from_px=LARGE_PX)


class SlowSession:
    """One engine, slowed down."""

    def __init__(self, session, spent_s, from_px=0):
        self._session = session
        self._spent_s = spent_s
        self._from_px = from_px

    def run(self, batch):
        threading.Event().wait(self._spent_s if batch.shape[1] >= self._from_px else 0)
        return self._session.run(batch)

    def close(self):
        self._session.close()
