"""
An engine's folder: read once into memory, every byte checked, then never read again.

The last line of `manifest.toml` seals the lines above it; the manifest lists all other files.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tomlkit

from edge_inspector.documents import parse_toml, validate
from edge_inspector.errors import DocumentError, EngineCorrupt, Misuse
from edge_inspector.manifest import File, Manifest
from edge_inspector.records import Pixels

MANIFEST = "manifest.toml"
_SEAL = b"# sealed, sha256 of the lines above: "


@dataclass(frozen=True, slots=True, eq=False)
class Engine:
    """
    A verified engine; `digest` names it for good, `good` and `bad` are its challenge crops.

    `models` holds the graph in every precision, `float32` first: the reference, also `model`.
    """

    folder: Path
    manifest: Manifest
    models: Mapping[str, bytes]
    digest: str
    good: Pixels
    bad: Pixels

    @property
    def model(self) -> bytes:
        """The reference graph."""
        return self.models["float32"]

    @property
    def title(self) -> str:
        """Name and version, as verdicts and recipes cite it."""
        return f"{self.manifest.name}/{self.manifest.version}"


def open_engine(folder: Path) -> Engine:
    """Read and verify an engine; raises `EngineCorrupt` naming the file, or `DocumentError`."""
    path = folder / MANIFEST
    if not path.exists():
        raise DocumentError(str(path), None, "there is no such file; is this an engine's folder?")
    raw = _read(path, None)
    text = _unsealed(raw, path)
    manifest = validate(Manifest, parse_toml(text, path), path, text)
    _check_listing(folder, manifest)
    content = {name: _read(folder / name, file) for name, file in manifest.files.items()}
    return Engine(
        folder=folder,
        manifest=manifest,
        models={precision: content[name] for precision, name in _models(manifest).items()},
        digest=hashlib.sha256(raw).hexdigest(),
        good=_challenge(folder, manifest, manifest.challenge.good, content),
        bad=_challenge(folder, manifest, manifest.challenge.bad, content),
    )


def seal(folder: Path, draft: Manifest) -> Manifest:
    """
    Write `manifest.toml` beside the files of a new engine version, listing them all.

    The draft's own `files` are ignored. Raises `Misuse` when the folder holds a version already.
    """
    files = {path.name: _listed(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}
    manifest = draft.model_copy(update={"files": files})
    _check_listing(folder, manifest)
    body = tomlkit.dumps(manifest.model_dump(mode="json", exclude_none=True)).encode()
    line = _SEAL + hashlib.sha256(body).hexdigest().encode() + b"\n"
    try:
        with (folder / MANIFEST).open("xb") as file:
            file.write(body + line)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise Misuse(
            f"{folder} holds an engine already; engines never change, write the next version"
        ) from None
    return manifest


def _listed(path: Path) -> File:
    raw = _read(path, None)
    return File(sha256=hashlib.sha256(raw).hexdigest(), bytes=len(raw))


def _unsealed(raw: bytes, path: Path) -> str:
    body, mark, stated = raw.rpartition(_SEAL)
    found = hashlib.sha256(body).hexdigest()
    if not mark or stated != found.encode() + b"\n":
        shown = stated.decode(errors="replace").strip()[:64] if mark else "missing"
        raise EngineCorrupt(
            f"{path}: was changed after it was sealed: its sha256 is {found}, the seal is {shown}; "
            "restore the engine from where it was made"
        )
    return body.decode()


def _check_listing(folder: Path, manifest: Manifest) -> None:
    needed = {*_models(manifest).values(), manifest.challenge.good, manifest.challenge.bad}
    if absent := needed - manifest.files.keys():
        raise EngineCorrupt(f"{folder}: {', '.join(sorted(absent))} is not listed under [files]")
    for name in manifest.files:
        if Path(name).name != name or name == MANIFEST:
            raise EngineCorrupt(f"{folder}: [files] lists '{name}', which is no plain file name")
    present = {path.name for path in folder.iterdir()} - {MANIFEST}
    for name in sorted(present - manifest.files.keys()):
        raise EngineCorrupt(f"{folder / name}: is not listed in {MANIFEST}; remove it")


def _models(manifest: Manifest) -> dict[str, str]:
    """The file of each precision."""
    quantised = {} if manifest.int8 is None else {"int8": manifest.int8.model}
    return {"float32": manifest.model, **quantised}


def _read(path: Path, expected: File | None) -> bytes:
    """The file's bytes, read once; what is checked is what is returned."""
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise EngineCorrupt(f"{path}: is a link or no plain file; put the file itself there")
        if expected is not None and status.st_size != expected.bytes:
            raise EngineCorrupt(
                f"{path}: has {status.st_size} bytes, the manifest lists {expected.bytes}"
            )
        raw = path.read_bytes()
    except OSError as error:
        raise EngineCorrupt(f"{path}: cannot be read: {error.strerror}") from error
    found = hashlib.sha256(raw).hexdigest()
    if expected is not None and found != expected.sha256:
        raise EngineCorrupt(f"{path}: sha256 is {found}, the manifest lists {expected.sha256}")
    return raw


def _challenge(folder: Path, manifest: Manifest, name: str, content: dict[str, bytes]) -> Pixels:
    shape = (manifest.input.height, manifest.input.width, manifest.input.channels)
    mode = cv2.IMREAD_GRAYSCALE if shape[2] == 1 else cv2.IMREAD_COLOR
    pixels = cv2.imdecode(np.frombuffer(content[name], np.uint8), mode)
    if pixels is None or pixels.shape[:2] != shape[:2]:
        found = "no image" if pixels is None else f"{pixels.shape[0]}x{pixels.shape[1]} px"
        raise EngineCorrupt(
            f"{folder / name}: is {found}, the engine takes {shape[0]}x{shape[1]} px"
        )
    return pixels.reshape(shape).astype(np.uint8, copy=False)
