"""`[[sinks]]` of `station.toml`: where verdicts go."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from edge_inspector.documents import Document, NameStr, type_of


class ZmqSink(Document):
    """Telemetry PUB of verdicts; never drives an actuator."""

    type: Literal["zmq"]
    endpoint: str = "tcp://127.0.0.1:5572"
    actuates: Literal[False] = False
    observe: bool = False


class AssuredSink(Document):
    """
    Verdicts over ZeroMQ, ASSURED tier, for line controllers: binds to ipc or loopback.

    Retention waits for each of the `required` consumers, for `retention.hold_days` at most.
    """

    type: Literal["assured"]
    endpoint: str = "tcp://127.0.0.1:5571"
    actuates: bool = True
    observe: bool = False
    """Whether its verdicts are for watching alone: flagged `test`, so that no gate opens."""
    required: tuple[NameStr, ...] = ()
    history_hz: int = Field(default=5500, ge=100, le=100_000)


class MemorySink(Document):
    """Keeps verdicts in a list; for tests."""

    type: Literal["memory"]
    actuates: bool = False
    observe: bool = False


class PluginSink(Document):
    """A sink of the user's own: `type = "package.module:Attribute"`."""

    type: str = Field(pattern=r"^[\w.]+:\w+$")
    actuates: bool = False
    observe: bool = False
    options: dict[str, Any] = Field(default_factory=dict)


SinkSettings = Annotated[
    Annotated[ZmqSink, Tag("type=zmq")]
    | Annotated[AssuredSink, Tag("type=assured")]
    | Annotated[MemorySink, Tag("type=memory")]
    | Annotated[PluginSink, Tag("type=package.module:Attribute")],
    Discriminator(type_of),
]
