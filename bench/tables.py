"""Tables: the CSV of a data set, written elsewhere with its images still found, and Markdown."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path


def read_rows(data: Path) -> list[dict[str, str]]:
    """Rows of a CSV, by column."""
    with data.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def write_rows(rows: list[dict[str, str]], data: Path, out: Path) -> None:
    """Write rows of `data` to `out`, paths made relative to there."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow(row | {"path": os.path.relpath(data.parent / row["path"], out.parent)})


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]], align: str = "--:") -> str:
    """A table, all but its first column aligned as said."""
    rule = ["---"] + [align] * (len(head) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines))
