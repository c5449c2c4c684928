"""
A camera or stream that OpenCV opens: `/dev/video0`, `rtsp://…`, `gst:PIPELINE`, or a video file.

Nothing ties its frames to units, so they are advisory. Each time it is lost, one
`camera_fault` is offered: the units that pass meanwhile are seen by nobody.
"""

from __future__ import annotations

import threading
from urllib.parse import urlsplit

import cv2

from edge_inspector import clock, settings
from edge_inspector.errors import WireError
from edge_inspector.records import Reason
from edge_inspector.sources.arrival import Arrival, Offer, Surroundings, new_epoch, of_array
from edge_inspector.sources.folder import path_of
from edge_inspector.sources.pace import Pace

_OPEN_TIMEOUT_MS = 5000
_READ_TIMEOUT_MS = 2000


class CameraSource:
    """One capture, opened again after `reconnect_ms` whenever it ends; a file ends for good."""

    def __init__(self, source: settings.CameraSource, around: Surroundings) -> None:
        self._settings = source
        self._count = around.count
        self._max_pixels = around.max_pixels
        self._is_file = urlsplit(source.uri).scheme == "file"
        if self._is_file:
            path_of(source.uri)
        self._stopping = threading.Event()

    def run(self, offer: Offer) -> None:
        """Read frames and reopen until `stop` is called."""
        lost = False
        while not self._stopping.is_set():
            epoch, capture = new_epoch(), self._open()
            try:
                delivered = self._read(capture, epoch, offer)
            finally:
                capture.release()
            if self._stopping.is_set() or (
                self._is_file and delivered and not self._settings.repeat
            ):
                return
            if self._is_file and delivered:
                continue
            if delivered or not lost:
                lost = True
                offer(self._lost(epoch, delivered))
            self._count(self._settings.name, "reconnected")
            self._stopping.wait(self._settings.reconnect_ms / 1000)

    def stop(self) -> None:
        """Make `run` return after the frame in hand."""
        self._stopping.set()

    def _open(self) -> cv2.VideoCapture:
        uri = self._settings.uri
        if uri.startswith("gst:"):
            return cv2.VideoCapture(uri.removeprefix("gst:"), cv2.CAP_GSTREAMER)
        if uri.startswith("/dev/"):
            capture = cv2.VideoCapture(uri, cv2.CAP_V4L2)
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
            if self._settings.rate_hz is not None:
                capture.set(cv2.CAP_PROP_FPS, self._settings.rate_hz)
            return capture
        if self._is_file:
            return cv2.VideoCapture(str(path_of(uri)))
        timeouts = [
            *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_TIMEOUT_MS),
            *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, _READ_TIMEOUT_MS),
        ]
        return cv2.VideoCapture(uri, cv2.CAP_FFMPEG, timeouts)

    def _read(self, capture: cv2.VideoCapture, epoch: str, offer: Offer) -> int:
        """Offer frames until the capture ends; how many there were. A file plays at its own rate."""
        rate_hz = None
        if self._is_file and capture.isOpened():
            rate_hz = self._settings.rate_hz or capture.get(cv2.CAP_PROP_FPS) or None
        pace = Pace(rate_hz, self._stopping)
        delivered = 0
        while capture.isOpened() and pace.wait():
            good, pixels = capture.read()
            arrived_ns = clock.now_ns()
            if not good:
                break
            delivered += 1
            try:
                body, layout = of_array(pixels, self._max_pixels)
            except WireError as error:
                offer(_fault(arrived_ns, epoch, Reason.BAD_INPUT, str(error)))
            else:
                offer(Arrival(arrived_ns=arrived_ns, epoch=epoch, pixels=body, layout=layout))
        return delivered

    def _lost(self, epoch: str, delivered: int) -> Arrival:
        what = f"was lost after {delivered} frames" if delivered else "cannot be opened"
        return _fault(
            clock.now_ns(),
            epoch,
            Reason.CAMERA_FAULT,
            f"camera '{self._settings.uri}' {what}; "
            f"tried again every {self._settings.reconnect_ms} ms; check cable, power and uri",
        )


def _fault(arrived_ns: int, epoch: str, reason: Reason, detail: str) -> Arrival:
    return Arrival(arrived_ns=arrived_ns, epoch=epoch, fault=reason, detail=detail)
