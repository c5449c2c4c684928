"""
`station.toml`: the box. Written by the integrator; arguments beat environment beats file.

An environment variable is the path of the key in capitals: `EDGE_INSPECTOR_WORKERS__COUNT=2`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from edge_inspector.documents import (
    TYPE_TAG,
    Document,
    Name,
    document_error,
    keys_of,
    read_toml,
    sentence,
)
from edge_inspector.errors import DocumentError
from edge_inspector.overlay import has, leaves, overlaid, unknown_variable
from edge_inspector.resources import Archive, Frames, Retention, Workers

PREFIX = "EDGE_INSPECTOR_"

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


def _type_of(given: Any) -> str:
    """The tag of a source or sink: its type, one tag for all plug-ins."""
    kind = given.get("type", "") if isinstance(given, dict) else getattr(given, "type", "")
    return TYPE_TAG + ("package.module:Attribute" if ":" in str(kind) else str(kind))


SourceSettings = Annotated[
    Annotated[ZmqSource, Tag("type=zmq-sub")]
    | Annotated[ZmqSource, Tag("type=zmq-pull")]
    | Annotated[ZmqSource, Tag("type=zmq-rep")]
    | Annotated[AssuredSource, Tag("type=assured")]
    | Annotated[CameraSource, Tag("type=camera")]
    | Annotated[FolderSource, Tag("type=folder")]
    | Annotated[PluginSource, Tag("type=package.module:Attribute")],
    Discriminator(_type_of),
]


class ZmqSink(Document):
    """Telemetry PUB of verdicts; never drives an actuator."""

    type: Literal["zmq"]
    endpoint: str = "tcp://127.0.0.1:5572"
    actuates: Literal[False] = False


class AssuredSink(Document):
    """
    Verdicts over ZeroMQ, ASSURED tier, for line controllers: binds to ipc or loopback.

    Retention waits for each of the `required` consumers, for `retention.hold_days` at most.
    """

    type: Literal["assured"]
    endpoint: str = "tcp://127.0.0.1:5571"
    actuates: bool = True
    required: tuple[NameStr, ...] = ()
    history_hz: int = Field(default=5500, ge=100, le=100_000)


class MemorySink(Document):
    """Keeps verdicts in a list; for tests."""

    type: Literal["memory"]
    actuates: bool = False


class PluginSink(Document):
    """A sink of the user's own: `type = "package.module:Attribute"`."""

    type: str = Field(pattern=r"^[\w.]+:\w+$")
    actuates: bool = False
    options: dict[str, Any] = Field(default_factory=dict)


SinkSettings = Annotated[
    Annotated[ZmqSink, Tag("type=zmq")]
    | Annotated[AssuredSink, Tag("type=assured")]
    | Annotated[MemorySink, Tag("type=memory")]
    | Annotated[PluginSink, Tag("type=package.module:Attribute")],
    Discriminator(_type_of),
]


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
        """Only what is given: `load_settings` merges file, environment and arguments itself."""
        return (init_settings,)


def load_settings(path: Path, overrides: Mapping[str, Any] | None = None) -> Settings:
    """
    Read `path`, over it the environment, over both `overrides`, key by key in nested tables.

    Relative paths start at the file's folder. Raises `DocumentError`.
    """
    values, text = read_toml(path)
    layers = _layers(overrides)
    merged = overlaid(values, *layers.values())
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        raise _fault(error, path, text, merged, layers) from None
    return _absolute(settings, path.resolve().parent)


def origins(path: Path, overrides: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Where the value of each dotted key came from: argument, environment, file or default."""
    values, _ = read_toml(path)
    given = {"file": values, **_layers(overrides)}
    settings = load_settings(path, overrides).model_dump()
    return {
        ".".join(keys): next(
            (name for name in reversed(given) if has(given[name], keys)), "default"
        )
        for keys in leaves(settings)
    }


def _layers(overrides: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """What beats the file, weakest first."""
    if (problem := unknown_variable(Settings, PREFIX, os.environ)) is not None:
        raise DocumentError("environment", None, problem)
    try:
        environment = EnvSettingsSource(Settings)()
    except SettingsError as error:
        raise DocumentError("environment", None, f"not the JSON it should be: {error}") from error
    return {"environment": environment, "argument": dict(overrides or {})}


def _fault(
    error: ValidationError,
    path: Path,
    text: str,
    merged: dict[str, Any],
    layers: dict[str, dict[str, Any]],
) -> DocumentError:
    """Blames the variable or argument that gave the first wrong value, else the file and line."""
    fault = error.errors()[0]
    keys = [str(key) for key in keys_of(fault, merged)]
    problem = sentence(Settings, fault, merged)
    if has(layers["argument"], keys):
        return DocumentError("argument", None, problem)
    if has(layers["environment"], keys):
        leaf = next(
            leaf for leaf in leaves(layers["environment"]) if tuple(keys[: len(leaf)]) == leaf
        )
        variable = PREFIX + "__".join(leaf).upper()
        return DocumentError(f"environment variable {variable}", None, problem)
    return document_error(Settings, error, path, text)


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
