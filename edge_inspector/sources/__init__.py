"""Where frames come from."""

SOURCES = {
    "zmq-sub": "edge_inspector.sources.zmq:ZmqSource",
    "zmq-pull": "edge_inspector.sources.zmq:ZmqSource",
    "zmq-rep": "edge_inspector.sources.zmq:ZmqSource",
    "assured": "edge_inspector.sources.assured:AssuredSource",
    "camera": "edge_inspector.sources.camera:CameraSource",
    "folder": "edge_inspector.sources.folder:FolderSource",
}
"""Type in `station.toml` -> what is opened with its settings and the `Surroundings`."""
