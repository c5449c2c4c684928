"""A CSV whose training and validation lack one class, which stays in the test split."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.tables import read_rows, write_rows


def main() -> int:
    """Write OUT.csv, from which the images are found by relative paths; 2 for a label not there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, metavar="CSV")
    parser.add_argument("out", type=Path, metavar="OUT.csv")
    parser.add_argument("--label", required=True, help="the class to hold out")
    args = parser.parse_args()
    rows = read_rows(args.data)
    kept = [row for row in rows if row["label"] != args.label or row["split"] == "test"]
    unseen = sum(row["label"] == args.label for row in kept)
    if not unseen:
        labels = ", ".join(sorted({row["label"] for row in rows if row["split"] == "test"}))
        print(f"{args.data}: the test split has no '{args.label}', only {labels}", file=sys.stderr)
        return 2
    write_rows(kept, args.data, args.out)
    print(f"{args.out}: {unseen} test images of '{args.label}', none to learn from")
    return 0


if __name__ == "__main__":
    sys.exit(main())
