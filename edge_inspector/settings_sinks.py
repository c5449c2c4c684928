"""`[[sinks]]` of `station.toml`: where verdicts go."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, IPvAnyAddress, IPvAnyNetwork, Tag, model_validator

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


class ModbusSink(Document):
    """
    A Modbus TCP server that a PLC polls; a gateway process of its own.

    Modbus knows no keys: off loopback it needs a list of peers and the one address that may write.
    """

    type: Literal["modbus"]
    host: IPvAnyAddress = IPv4Address("127.0.0.1")
    port: int = Field(default=1502, ge=1, le=65_535)
    allow: tuple[IPvAnyNetwork, ...] = ()
    """Networks that may connect; on loopback, where none is given, loopback."""
    writer: IPvAnyAddress | None = None
    """The PLC, which alone may acknowledge and command; None on loopback: anyone there."""
    mode: Literal["dequeue", "latest"] = "dequeue"
    """Whether a result stays until it is acknowledged, or the next one takes its place."""
    validity_ms: float | None = Field(default=None, gt=0)
    """How long after its trigger a pass is shown as one; None: the recipe's latency budget."""
    consumer: NameStr = "modbus"
    actuates: bool = True
    observe: bool = False

    @model_validator(mode="after")
    def _guarded(self) -> ModbusSink:
        if self.host.is_unspecified:
            raise ValueError(
                f"host {self.host} is every address; name the one of the PLC's network"
            )
        if not self.host.is_loopback and not (self.allow and self.writer):
            raise ValueError(
                f"host {self.host} is off loopback: give 'allow' (networks) and 'writer' (the PLC)"
            )
        return self


class DiscreteSink(Document):
    """
    Two outputs of a remote I/O coupler, written over Modbus TCP by a process of its own.

    The pass output is on from `delay_ms` after the trigger of a unit that passed, for `window_ms`:
    while that unit, and no other, is at the gate. A verdict that comes later opens nothing. The
    watchdog output changes each `beat_ms` while the station makes progress; let it hold a
    retriggerable relay that cuts the pass output, since a coupler keeps what was written last.
    """

    type: Literal["discrete"]
    host: str = Field(min_length=1, max_length=253)
    port: int = Field(default=502, ge=1, le=65_535)
    device: int = Field(default=1, ge=0, le=247)
    pass_coil: int = Field(default=0, ge=0, le=65_535)
    watchdog_coil: int = Field(default=1, ge=0, le=65_535)
    delay_ms: float = Field(gt=0)
    window_ms: float = Field(ge=10)
    beat_ms: int = Field(default=100, ge=50, le=1000)
    timeout_ms: int = Field(default=100, ge=10, le=1000)
    actuates: bool = True
    observe: bool = False

    @model_validator(mode="after")
    def _two_coils(self) -> DiscreteSink:
        if self.pass_coil == self.watchdog_coil:
            raise ValueError(f"pass_coil and watchdog_coil are both {self.pass_coil}; give two")
        return self


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
    | Annotated[ModbusSink, Tag("type=modbus")]
    | Annotated[DiscreteSink, Tag("type=discrete")]
    | Annotated[MemorySink, Tag("type=memory")]
    | Annotated[PluginSink, Tag("type=package.module:Attribute")],
    Discriminator(type_of),
]
