"""Images of a folder in order of their names, or the frames of a video file, at a steady rate."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import cv2
import numpy as np
import xxhash
from numpy.typing import NDArray

from edge_inspector import clock, settings
from edge_inspector.errors import Misuse, WireError
from edge_inspector.records import Reason
from edge_inspector.sources.arrival import (
    Arrival,
    Offer,
    Surroundings,
    new_epoch,
    of_array,
)
from edge_inspector.sources.pace import Pace
from edge_inspector.wire.layout import JPEG, PNG, encoded_layout
from edge_inspector.wire.plain import MAX_ID, Identity

IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}


class FolderSource:
    """Each image is a unit named by its file, each video frame by file and number."""

    def __init__(self, source: settings.FolderSource, around: Surroundings) -> None:
        self._settings = source
        self._max_pixels = around.max_pixels
        self._path = path_of(source.uri)
        self._stopping = threading.Event()
        if self._path.is_dir():
            images_in(self._path)
        elif not self._path.is_file():
            raise Misuse(f"'{source.uri}' is neither a folder nor a video file; mend the uri")
        elif next(video_frames(self._path), None) is None:
            raise Misuse(f"'{self._path}' has no frame that OpenCV reads; convert it to MP4 or AVI")

    def run(self, offer: Offer) -> None:
        """Offer everything once, or over and over where `repeat` says so."""
        pace = Pace(self._settings.rate_hz, self._stopping)
        epoch, turn = new_epoch(), 0
        while not self._stopping.is_set():
            turn += 1
            suffix = f"#{turn}" if turn > 1 else ""
            for name, pixels in self._frames():
                if not pace.wait():
                    return
                offer(self._arrival(epoch, name + suffix, pixels))
            if not self._settings.repeat:
                return

    def stop(self) -> None:
        """Make `run` return."""
        self._stopping.set()

    def _frames(self) -> Iterator[tuple[str, bytes | NDArray[Any] | None]]:
        if self._path.is_dir():
            for path in images_in(self._path):
                yield path.name, read_image(path)
        else:
            yield from video_frames(self._path)

    def _arrival(self, epoch: str, name: str, pixels: bytes | NDArray[Any] | None) -> Arrival:
        identity = Identity(unit_id=unit_id_of(name))
        arrived_ns = clock.now_ns()
        try:
            if pixels is None:
                raise WireError(f"'{name}' cannot be read as an image")
            if isinstance(pixels, bytes):
                body, layout = memoryview(pixels), encoded_layout(pixels, None, self._max_pixels)
            else:
                body, layout = of_array(pixels, self._max_pixels)
        except WireError as error:
            return Arrival(
                arrived_ns=arrived_ns,
                epoch=epoch,
                identity=identity,
                fault=Reason.BAD_INPUT,
                detail=str(error),
            )
        return Arrival(
            arrived_ns=arrived_ns, epoch=epoch, pixels=body, layout=layout, identity=identity
        )


def path_of(uri: str) -> Path:
    """The local path of a `file://` URI."""
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc or not parts.path:
        raise Misuse(f"'{uri}': write file:///path/to/folder or file:///path/to/video.mp4")
    return Path(unquote(parts.path))


def images_in(folder: Path) -> list[Path]:
    """Images of a folder in order of their names; raises `Misuse` when there is none."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES)
    if not paths:
        raise Misuse(f"'{folder}' has no image; files ending in {', '.join(sorted(IMAGES))} count")
    return paths


def read_image(path: Path) -> bytes | NDArray[Any] | None:
    """JPEG and PNG as they are, other formats decoded; None when it cannot be read."""
    try:
        raw = path.read_bytes()
    except OSError:
        return None
    if raw.startswith((JPEG, PNG)):
        return raw
    try:
        return cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_UNCHANGED) if raw else None
    except cv2.error:
        return None


def video_frames(path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    """Frames of a video file as BGR, named by file and number from 1; none when it is no video."""
    capture = cv2.VideoCapture(str(path))
    try:
        number = 0
        while (read := capture.read())[0]:
            number += 1
            yield f"{path.name}/{number}", read[1]
    finally:
        capture.release()


def unit_id_of(name: str) -> str:
    """A name as unit id: cut in the middle of long ones, with a digest that keeps them apart."""
    printable = "".join(c if c.isprintable() else "?" for c in name)
    if len(printable) <= MAX_ID and printable == name:
        return name
    digest = xxhash.xxh3_64_hexdigest(name.encode(errors="surrogateescape"))
    return f"{printable[: MAX_ID - 17]}~{digest}"
