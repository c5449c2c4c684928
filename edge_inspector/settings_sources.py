"""`[[sources]]` and `[incumbent]` of `station.toml`: where frames and the other side's verdicts come from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from edge_inspector.documents import Document, NameStr, type_of

MAX_REGISTERS = 125
"""What Modbus gives in one reading."""


class ZmqSource(Document):
    """Frames over ZeroMQ, PLAIN tier: SUB connects (or binds), PULL and REP bind."""

    type: Literal["zmq-sub", "zmq-pull", "zmq-rep"]
    name: NameStr
    endpoint: str
    bind: bool | None = None
    camera: NameStr = "main"
    recipe: NameStr | None = None
    msg_is: Literal["camera", "unit_id", "ignore"] = "camera"
    clock: Literal["none", "same-host", "ptp"] = "none"
    max_age_ms: float | None = Field(default=None, gt=0)
    reply: Literal["ok", "verdict"] = "ok"
    allow: tuple[str, ...] = ()


class AssuredSource(Document):
    """
    Frames over ZeroMQ, ASSURED tier: binds to ipc or loopback.

    `peers` may say HELLO here, by default only the source's own name; credit is for each of them.
    """

    type: Literal["assured"]
    name: NameStr
    endpoint: str
    camera: NameStr = "main"
    recipe: NameStr | None = None
    peers: tuple[NameStr, ...] = ()
    credit_msgs: int = Field(default=8, ge=1, le=1024)
    credit_mib: int = Field(default=64, ge=1, le=4096)


class CameraSource(Document):
    """A camera or stream that OpenCV opens: a V4L2 device, an RTSP or a GStreamer URI, a video file."""

    type: Literal["camera"]
    name: NameStr
    uri: str
    camera: NameStr = "main"
    recipe: NameStr | None = None
    reconnect_ms: int = Field(default=1000, ge=10)
    repeat: bool = False
    rate_hz: float | None = Field(default=None, gt=0)


class FolderSource(Document):
    """Images of a folder, or frames of a video file, in order of their names: `file:///path`."""

    type: Literal["folder"]
    name: NameStr
    uri: str
    camera: NameStr = "main"
    recipe: NameStr | None = None
    rate_hz: float = Field(default=10.0, gt=0)
    repeat: bool = False


class PluginSource(Document):
    """A source of the user's own: `type = "package.module:Attribute"`."""

    type: str = Field(pattern=r"^[\w.]+:\w+$")
    name: NameStr
    camera: NameStr = "main"
    recipe: NameStr | None = None
    options: dict[str, Any] = Field(default_factory=dict)


class Incumbent(Document):
    """
    Verdicts of the inspection that is already there, polled from Modbus registers.

    Addresses start at 0; the trigger id takes two registers, high word first. `counter` names a
    register that moves with each verdict, where there is one; another outcome than the two is none.
    """

    type: Literal["modbus"] = "modbus"
    host: str
    port: int = Field(default=502, ge=1, le=65535)
    device: int = Field(default=1, ge=0, le=255)
    registers: Literal["input", "holding"] = "holding"
    trigger: int = Field(ge=0, le=65534)
    outcome: int = Field(ge=0, le=65535)
    counter: int | None = Field(default=None, ge=0, le=65535)
    pass_value: int = Field(default=1, ge=0, le=65535)
    fail_value: int = Field(default=2, ge=0, le=65535)
    poll_ms: float = Field(default=20.0, ge=1, le=10_000)
    silent_s: float = Field(default=10.0, gt=0)
    """After so long without a new verdict it counts as silent, which is logged and counted."""

    @model_validator(mode="after")
    def _in_one_reading(self) -> Incumbent:
        wanted = [self.trigger, self.trigger + 1, self.outcome]
        wanted += [] if self.counter is None else [self.counter]
        if max(wanted) - min(wanted) >= MAX_REGISTERS:
            raise ValueError(
                f"registers {min(wanted)} to {max(wanted)} do not come in one reading, which has "
                f"{MAX_REGISTERS} at most; have the controller put them side by side"
            )
        return self


SourceSettings = Annotated[
    Annotated[ZmqSource, Tag("type=zmq-sub")]
    | Annotated[ZmqSource, Tag("type=zmq-pull")]
    | Annotated[ZmqSource, Tag("type=zmq-rep")]
    | Annotated[AssuredSource, Tag("type=assured")]
    | Annotated[CameraSource, Tag("type=camera")]
    | Annotated[FolderSource, Tag("type=folder")]
    | Annotated[PluginSource, Tag("type=package.module:Attribute")],
    Discriminator(type_of),
]
