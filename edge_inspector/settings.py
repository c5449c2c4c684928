"""
`station.toml`: the box. Written by the integrator; arguments beat environment beats file.

An environment variable is the path of the key in capitals: `EDGE_INSPECTOR_WORKERS__COUNT=2`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from edge_inspector.documents import Document, Name, document_error, read_toml
from edge_inspector.errors import DocumentError

PREFIX = "EDGE_INSPECTOR_"
MIB = 1024 * 1024

NameStr = Annotated[str, Field(pattern=Name)]


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


SourceSettings = Annotated[
    ZmqSource | CameraSource | FolderSource | PluginSource, Field(union_mode="left_to_right")
]


class ZmqSink(Document):
    """Telemetry PUB of verdicts; never drives an actuator."""

    type: Literal["zmq"]
    endpoint: str = "tcp://127.0.0.1:5572"
    actuates: Literal[False] = False


class MemorySink(Document):
    """Keeps verdicts in a list; for tests."""

    type: Literal["memory"]
    actuates: bool = False


class PluginSink(Document):
    """A sink of the user's own: `type = "package.module:Attribute"`."""

    type: str = Field(pattern=r"^[\w.]+:\w+$")
    actuates: bool = False
    options: dict[str, Any] = Field(default_factory=dict)


SinkSettings = Annotated[ZmqSink | MemorySink | PluginSink, Field(union_mode="left_to_right")]


class Workers(Document):
    """The processes that score; `threads` is per worker and explicit, for runtime and OpenCV alike."""

    count: int = Field(default=1, ge=1, le=64)
    threads: int = Field(default=1, ge=1, le=64)
    backends: tuple[str, ...] = ("openvino", "onnxruntime")
    memory_mib: int = Field(default=4096, ge=256)
    hang_ms: int = Field(default=2000, ge=100)


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
    max_gib: float = Field(default=20.0, gt=0)


class Settings(BaseSettings):
    """The box: `station.toml`, frozen."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        case_sensitive=False,
    )

    station: NameStr
    recipe: Path
    store: Path = Path("state")
    sources: tuple[SourceSettings, ...] = Field(min_length=1)
    sinks: tuple[SinkSettings, ...] = ()
    workers: Workers = Workers()
    frames: Frames = Frames()
    archive: Archive | None = None
    retention: Retention = Retention()
    reject: Literal["reject", "divert", "stop_line"] = "reject"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The file comes in as arguments, below the environment; no .env, no secrets folder."""
        return (env_settings, init_settings)


def load_settings(path: Path, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read `path`, then the environment, then `overrides`; relative paths start at the file."""
    values, text = read_toml(path)
    refuse_unknown_variables(os.environ, path)
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise document_error(Settings, error, path, text) from None
    merged = settings.model_copy(update=dict(overrides or {}))
    return _absolute(merged, path.resolve().parent)


def refuse_unknown_variables(environment: Mapping[str, str], path: Path) -> None:
    """Name an `EDGE_INSPECTOR_` variable that no key answers to; pydantic-settings would ignore it."""
    for variable in environment:
        if not variable.upper().startswith(PREFIX):
            continue
        head = variable[len(PREFIX) :].lower().split("__")[0]
        if head not in Settings.model_fields:
            near = difflib.get_close_matches(head, Settings.model_fields, n=1)
            hint = f"; did you mean {PREFIX}{near[0].upper()}?" if near else ""
            raise DocumentError(str(path), None, f"unknown environment variable {variable}{hint}")


def origins(path: Path) -> dict[str, str]:
    """Where each top-level key's value came from: environment, file or default."""
    values, _ = read_toml(path)
    from_environment = {
        name[len(PREFIX) :].lower().split("__")[0] for name in os.environ if name.startswith(PREFIX)
    }
    return {
        key: "environment" if key in from_environment else "file" if key in values else "default"
        for key in Settings.model_fields
    }


def _absolute(settings: Settings, base: Path) -> Settings:
    archive = settings.archive
    if archive is not None:
        archive = archive.model_copy(update={"path": base / archive.path})
    return settings.model_copy(
        update={
            "recipe": base / settings.recipe,
            "store": base / settings.store,
            "archive": archive,
        }
    )


def process_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment plus `extra`, for a child process."""
    return {**os.environ, **extra}
