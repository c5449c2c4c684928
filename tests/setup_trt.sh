#!/bin/sh
# Installs what builds TensorRT plans without a GPU, about 96 MB: setup_trt.sh PYTHON; where there is no wheel, tests skip.
set -eu
"$1" -c 'import tensorrt_rtx' 2>/dev/null && exit 0
"$1" -m pip install --quiet --disable-pip-version-check --no-input tensorrt-rtx==1.7.1.116
