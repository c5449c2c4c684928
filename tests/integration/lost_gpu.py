"""A runtime whose device vanishes once `gone` lies in the station's store; a plug-in of the tests."""

from edge_inspector.backends.openvino import OpenVino
from edge_inspector.errors import BackendMissing, Breakage, Uninspectable
from edge_inspector.records import Reason


class Vanishing:
    """OpenVINO until the device is gone; from then on what TensorRT's runner does."""

    name = "vanishing"

    def __init__(self, cache=None):
        self._gone = cache.parent / "gone"

    def open(self, model, *, threads):
        if self._gone.exists():
            raise BackendMissing("no NVIDIA driver: it vanished")
        return VanishingSession(OpenVino().open(model, threads=threads), self._gone)


class VanishingSession:
    """The first run without the device costs its unit, the second ends the worker."""

    def __init__(self, session, gone):
        self._session, self._gone, self._lost = session, gone, False

    def run(self, batch):
        if self._lost:
            raise Breakage("the GPU was lost; start the worker again")
        if self._gone.exists():
            self._lost = True
            raise Uninspectable(Reason.MODEL_FAULT.value, "the GPU: an illegal address")
        return self._session.run(batch)

    def close(self):
        self._session.close()
