"""One of several cross-validation splits of a CSV, dealt by group with the classes in balance."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections import Counter, defaultdict
from pathlib import Path

from bench.tables import read_rows, write_rows

FOLDS = 5


def main() -> int:
    """Write OUT.csv: one fold is its test, the next its validation, all others are learned from."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, metavar="CSV")
    parser.add_argument("out", type=Path, metavar="OUT.csv")
    parser.add_argument("--fold", type=int, required=True, choices=range(FOLDS))
    args = parser.parse_args()
    rows = read_rows(args.data)
    fold_of = dealt(rows)
    for row in rows:
        away = (fold_of[row["group"]] - args.fold) % FOLDS
        row["split"] = ("test", "val")[away] if away < 2 else "train"
    write_rows(rows, args.data, args.out)
    counts = Counter(row["split"] for row in rows)
    print(f"{args.out}: {', '.join(f'{n} {split}' for split, n in sorted(counts.items()))}")
    return 0


def dealt(rows: list[dict[str, str]]) -> dict[str, int]:
    """
    A fold for every group, large groups first, each to where its rarest class is scarcest.

    Groups of one size come in the order of a hash of their names: the same on every machine.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        counts[row["group"]][row["label"]] += 1
    of_class = Counter(row["label"] for row in rows)
    folds = [Counter[str]() for _ in range(FOLDS)]
    fold_of = {}
    for group in sorted(counts, key=lambda g: (-counts[g].total(), _place(g))):
        rarest = min(counts[group], key=lambda label: (of_class[label], label))
        fold = min(range(FOLDS), key=lambda n: (folds[n][rarest], folds[n].total(), n))
        folds[fold] += counts[group]
        fold_of[group] = fold
    return fold_of


def _place(group: str) -> bytes:
    return hashlib.sha256(group.encode()).digest()


if __name__ == "__main__":
    sys.exit(main())
