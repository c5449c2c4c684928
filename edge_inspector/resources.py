"""What a station may use of its box: processes, memory, disk. Tables of `station.toml`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from edge_inspector.documents import Document
from edge_inspector.errors import Misuse

MIB = 1024 * 1024


class Workers(Document):
    """The processes that score; `threads` is per worker and explicit, for runtime and OpenCV alike."""

    count: int = Field(default=1, ge=1, le=64)
    threads: int = Field(default=1, ge=1, le=64)
    pin: bool = False
    """Whether each worker keeps to processors of its own, the last ones that the service may use."""
    backends: tuple[str, ...] = ("openvino", "onnxruntime")
    """Runners in order of preference, such as `openvino:int8`; or `auto`, which measures them all."""
    memory_mib: int = Field(default=4096, ge=256)
    hang_ms: int = Field(default=2000, ge=100)

    @field_validator("backends")
    @classmethod
    def _auto_alone(cls, backends: tuple[str, ...]) -> tuple[str, ...]:
        if "auto" in backends and len(backends) > 1:
            raise ValueError("'auto' chooses among all runners, so it stands alone")
        return backends

    def places(self) -> list[tuple[int, ...]]:
        """By worker, the processors it keeps to, none where it is not pinned; raises `Misuse`."""
        allowed, needed = sorted(os.sched_getaffinity(0)), self.count * self.threads
        if not self.pin:
            return [()] * self.count
        if needed > len(allowed):
            raise Misuse(
                f"workers.pin: {self.count} workers of {self.threads} threads need {needed} "
                f"processors, and this service may use {len(allowed)}; pin fewer"
            )
        last = allowed[-needed:]
        return [tuple(last[i : i + self.threads]) for i in range(0, needed, self.threads)]


class Frames(Document):
    """Limits of frames: bytes of the pixels of one frame, pixels of one image, slots in shared memory."""

    max_bytes: int = Field(default=16 * MIB, ge=1024)
    max_pixels: int = Field(default=33_554_432, ge=1024)
    slots: int = Field(default=16, ge=2, le=1024)


class Archive(Document):
    """Pictures of rejects, with their maps; the oldest go first when the quota is full."""

    path: Path
    quota_mib: int = Field(default=1024, ge=1)


class Retention(Document):
    """How long verdicts stay in the log."""

    days: float = Field(default=30.0, gt=0)
    hold_days: float = Field(default=30.0, gt=0)
    """How long a verdict that a required consumer does not hold yet outlives that."""
    max_gib: float = Field(default=20.0, gt=0)


class InARow(Document):
    """So many units that were not passed, one after the other."""

    rejects: int = Field(ge=2, le=10_000)
    action: Literal["alarm", "stop"] = "stop"


class RejectRate(Document):
    """More than this share of the last `window` units was not passed."""

    share: float = Field(gt=0, lt=1)
    window: int = Field(default=200, ge=10, le=10_000)
    action: Literal["alarm", "stop"] = "alarm"


class Alarms(Document):
    """
    What is too many rejects; no verdict is changed by it, and each holds until it is reset.

    `alarm` makes the station `degraded`; `stop` makes it `fault`, which opens no gate.
    """

    in_a_row: InARow | None = None
    rate: RejectRate | None = None
