#!/bin/sh
# Installs the browser that the tests of pages drive, on Debian and as root; else they are skipped.
set -eu
command -v chromium >/dev/null && exit 0
apt-get update -q
apt-get install -y -q --no-install-recommends chromium
