"""
Is there a CUDA device? Asked of the driver itself, before anything heavier is imported.

TensorRT without a driver ends the process (a segmentation fault), so this comes first.
"""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_inspector.errors import BackendMissing

LIBRARY = "libcuda.so.1"
MODULE_VERSION = Path("/proc/driver/nvidia/version")
# CUdevice_attribute and CUresult of cuda.h.
MULTIPROCESSORS, INTEGRATED, CAPABILITY_MAJOR, CAPABILITY_MINOR = 16, 18, 75, 76
_MISMATCH = "restart the box, or install the driver that its kernel module belongs to"
TOO_OLD = 35
_REMEDIES = {
    TOO_OLD: ("the driver is older than its CUDA library", "install a newer NVIDIA driver"),
    100: ("the driver finds no CUDA device", "check nvidia-smi and that the GPU is given to us"),
    803: ("the driver and its CUDA library do not fit each other", _MISMATCH),
    804: ("the CUDA library is newer than this GPU's driver allows", _MISMATCH),
}


@dataclass(frozen=True, slots=True)
class Device:
    """A CUDA device and its driver, as far as a compiled engine depends on them."""

    name: str
    compute_capability: tuple[int, int]
    multiprocessors: int
    cuda: tuple[int, int]
    """The newest CUDA that the driver serves."""
    driver: str
    """Version of the kernel's module; empty where the system does not say."""
    integrated: bool
    """Shares its memory with the CPU, as on Jetson."""
    uuid: str


def probe(ordinal: int = 0, library: str = LIBRARY) -> Device:
    """The device; raises `BackendMissing` with one sentence: no driver, none found, too old."""
    try:
        cuda = ctypes.CDLL(library)
    except OSError as error:
        raise BackendMissing(
            f"no NVIDIA driver: {error}; install one, or leave the GPU runtimes out of the backends"
        ) from error
    _ask(cuda, "cuInit", 0)
    count = _number(cuda, "cuDeviceGetCount")
    if count <= ordinal:
        raise BackendMissing(
            f"the driver finds {count} CUDA devices, number {ordinal} is asked for; {_REMEDIES[100][1]}"
        )
    device = _number(cuda, "cuDeviceGet", ordinal)
    name, uuid = ctypes.create_string_buffer(256), ctypes.create_string_buffer(16)
    _ask(cuda, "cuDeviceGetName", name, len(name), device)
    _ask(cuda, "cuDeviceGetUuid", uuid, device)
    version = _number(cuda, "cuDriverGetVersion")
    return Device(
        name=name.value.decode(errors="replace"),
        compute_capability=(
            _number(cuda, "cuDeviceGetAttribute", CAPABILITY_MAJOR, device),
            _number(cuda, "cuDeviceGetAttribute", CAPABILITY_MINOR, device),
        ),
        multiprocessors=_number(cuda, "cuDeviceGetAttribute", MULTIPROCESSORS, device),
        cuda=(version // 1000, version % 1000 // 10),
        driver=_module_version(),
        integrated=bool(_number(cuda, "cuDeviceGetAttribute", INTEGRATED, device)),
        uuid=uuid.raw.hex(),
    )


def _number(cuda: Any, function: str, *arguments: int) -> int:
    """What a driver function writes to the integer that its first argument points to."""
    found = ctypes.c_int()
    _ask(cuda, function, ctypes.byref(found), *arguments)
    return found.value


def _ask(cuda: Any, function: str, *arguments: Any) -> None:
    call = getattr(cuda, function, None)
    status = call(*arguments) if call else TOO_OLD
    if status:
        what, remedy = _REMEDIES.get(
            status, (f"{function} of the driver fails with error {status}", _MISMATCH)
        )
        raise BackendMissing(f"{what} (CUDA error {status} of {function}); {remedy}")


def _module_version() -> str:
    try:
        found = re.search(r"\b\d+\.\d+(\.\d+)?\b", MODULE_VERSION.read_text())
    except OSError:
        return ""
    return found.group() if found else ""
