"""
`station.toml`: the box. Written by the integrator; arguments beat environment beats file.

An environment variable is the path of the key in capitals: `EDGE_INSPECTOR_WORKERS__COUNT=2`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from edge_inspector.documents import NameStr, document_error, keys_of, read_toml, sentence
from edge_inspector.errors import DocumentError
from edge_inspector.overlay import has, leaves, overlaid, unknown_variable
from edge_inspector.resources import Alarms, Archive, Frames, Retention, Workers
from edge_inspector.settings_sinks import (
    AssuredSink,
    DiscreteSink,
    MemorySink,
    ModbusSink,
    PluginSink,
    SinkSettings,
    ZmqSink,
)
from edge_inspector.settings_sources import (
    AssuredSource,
    CameraSource,
    FolderSource,
    Incumbent,
    PluginSource,
    SourceSettings,
    ZmqSource,
)

PREFIX = "EDGE_INSPECTOR_"
__all__ = [
    "AssuredSink",
    "AssuredSource",
    "CameraSource",
    "DiscreteSink",
    "FolderSource",
    "Incumbent",
    "MemorySink",
    "ModbusSink",
    "PluginSink",
    "PluginSource",
    "Settings",
    "SinkSettings",
    "SourceSettings",
    "ZmqSink",
    "ZmqSource",
    "load_settings",
    "origins",
    "process_environment",
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
    observe: bool = False
    """Whether units are judged and nothing is driven, whatever the recipe says."""
    incumbent: Incumbent | None = None
    retention: Retention = Retention()
    alarms: Alarms = Alarms()
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
