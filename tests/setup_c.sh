#!/bin/sh
# Installs what tests/test_c_consumer.py needs, on Debian and Ubuntu and as root; else it is skipped.
set -eu
if command -v cc >/dev/null && echo '#include <zmq.h>' | cc -E - >/dev/null 2>&1; then
    exit 0
fi
apt-get update -q
apt-get install -y -q --no-install-recommends gcc libc6-dev libzmq3-dev
