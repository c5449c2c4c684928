"""A runtime that takes 5 ms more for each batch than OpenVINO; a plug-in of the overload test."""

import threading

from edge_inspector.backends.openvino import OpenVino

SPENT_S = 0.005


class Slow:
    """OpenVINO, slowed down."""

    name = "slow"

    def open(self, model, *, threads):
        return SlowSession(OpenVino().open(model, threads=threads))


class SlowSession:
    """One engine, slowed down."""

    def __init__(self, session):
        self._session = session

    def run(self, batch):
        threading.Event().wait(SPENT_S)
        return self._session.run(batch)

    def close(self):
        self._session.close()
