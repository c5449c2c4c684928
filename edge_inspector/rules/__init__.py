"""The rule-based inspector that the engine is measured against."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_inspector.rules.bga import RuleScorer


def open_rules(path: Path) -> RuleScorer:
    """The scorer of a rules file; raises `DocumentError`."""
    from edge_inspector.rules.bga import RuleScorer
    from edge_inspector.rules.parameters import load_rules

    return RuleScorer(load_rules(path))
