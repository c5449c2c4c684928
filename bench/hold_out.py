"""A CSV with a share of its good training groups turned to validation, for sets that have none."""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

from bench.tables import read_rows, write_rows
from edge_inspector.studies.dataset import is_good


def main() -> int:
    """Write OUT beside which the images are found by relative paths."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, metavar="CSV")
    parser.add_argument("out", type=Path, metavar="OUT.csv")
    parser.add_argument("--share", type=float, default=0.15)
    args = parser.parse_args()
    rows = read_rows(args.data)
    for row in rows:
        if row["split"] == "train" and is_good(row["label"]) and _draw(row["group"]) < args.share:
            row["split"] = "val"
    write_rows(rows, args.data, args.out)
    print(f"{args.out}: {sum(row['split'] == 'val' for row in rows)} images held out")
    return 0


def _draw(group: str) -> float:
    """0 to 1 by the group's name, the same on every machine."""
    return int.from_bytes(hashlib.sha256(group.encode()).digest()[:4], "big") / 2**32


if __name__ == "__main__":
    sys.exit(main())
