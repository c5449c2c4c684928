"""Pure codecs of the ZeroMQ protocol: bytes to records and back, no sockets."""
