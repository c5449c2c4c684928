"""The CSV of a data set, read and written elsewhere with its images still found."""

from __future__ import annotations

import csv
import os
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
