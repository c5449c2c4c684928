"""Where committed verdicts go."""

SINKS = {
    "zmq": "edge_inspector.sinks.zmq:ZmqSink",
    "memory": "edge_inspector.sinks.memory:MemorySink",
}
"""Type in `station.toml` -> what is opened with its settings and the name of the station."""
