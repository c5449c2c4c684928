"""
Writes the .bin of each vector that has a .json and no .bin: `python -m tests.golden.make_wire1`.

Vectors are frozen: one that is there is never written again, a new one gets a new name.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.golden import vectors


def main(wanted: list[str], folder: Path = vectors.FOLDER) -> None:
    """Write the wanted ones, or all that lack; raises `FileExistsError` before it writes any."""
    for name in wanted:
        if (folder / f"{name}.bin").exists():
            raise FileExistsError(f"{name}.bin is frozen; write a .json of another name")
    for name in wanted or vectors.names(folder=folder):
        path = folder / f"{name}.bin"
        if not path.exists():
            path.write_bytes(vectors.framed(vectors.encode(vectors.said(name, folder))))


if __name__ == "__main__":
    main(sys.argv[1:])
