#!/bin/sh
# Runs the line's tests on other interpreters: interpreters.sh MAIN_PYTHON VERSION...
# Tests that need the training stack are left out: torch is there for the main one only.
set -eu
main=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
shift
heavy='(import|from|importorskip\(") *(torch|onnxscript|matplotlib|sklearn|scipy|edge_inspector\.(training|models))'

find_python() {
    for python in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
        if "$python" -c 'import venv' 2>/dev/null; then
            echo "$python"
            return
        fi
    done
}

for version in "$@"; do
    [ "$version" != "$main" ] || continue
    python=$(find_python "$version")
    if [ -z "$python" ]; then
        echo "Python $version is not present: the line's tests do not run on it."
        continue
    fi
    venv=.venv-$version
    stamp=$venv/test.stamp
    if [ ! -e "$stamp" ] || [ -n "$(find requirements/*.txt pyproject.toml -newer "$stamp")" ]; then
        "$python" -m venv "$venv"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
            -r requirements/test.txt -e .
        touch "$stamp"
    fi
    ignored=$(grep -rlE "$heavy" tests --include='test_*.py' | sort) || true
    echo "Python $version, without fault tests, long ones and these, which need the training stack:" $ignored
    "$venv/bin/python" -m pytest -q -m "not fault and not slow" $(echo "$ignored" | sed -n 's/^./--ignore=&/p')
done
