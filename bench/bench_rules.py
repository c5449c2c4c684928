"""
Every runner of an engine against every form of the rules, interleaved in one process.

    python -m bench.bench_rules --crops 2000 --threads 1 --json bench/results/2-core-epyc.jsonl

`edge-inspector bench rules` with one row more where there is a C++ compiler: the rules with their
per-ball part in C++ (`rules_port.cpp`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from bench.rules_port import PortedRules, build
from edge_inspector.cli.bench import ENGINE, RULES
from edge_inspector.protocols import Scorer
from edge_inspector.rules.parameters import load_rules
from edge_inspector.studies import bench_rules
from edge_inspector.studies.facts import facts


def main(given: list[str] | None = None) -> int:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", type=Path, default=ENGINE)
    parser.add_argument("--rules", type=Path, default=RULES)
    parser.add_argument("--crops", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turn", type=int, default=1, help="crops a row sees at a time")
    parser.add_argument("--json", type=Path, metavar="OUT", help="append one JSON line to OUT")
    args = parser.parse_args(given)
    others, why = ported(args.rules)
    found = bench_rules.run(
        args.engine,
        args.rules,
        crops=args.crops,
        threads=args.threads,
        turn=args.turn,
        others=others,
    )
    found["missing"] |= why
    report = json.dumps({"bench": "rules", **found, **facts()})
    if args.json is not None:
        with args.json.open("a", encoding="utf-8") as out:
            out.write(report + "\n")
    print(report)
    return 0


def ported(rules: Path) -> tuple[dict[str, Scorer], dict[str, str]]:
    """The rules in C++ as a row, or why there is none."""
    try:
        return {"rules c++": PortedRules(load_rules(rules), build())}, {}
    except FileNotFoundError:
        return {}, {"rules c++": "there is no g++"}
    except subprocess.CalledProcessError as error:
        return {}, {"rules c++": str(error.stderr).strip()[-300:]}


if __name__ == "__main__":
    sys.exit(main())
