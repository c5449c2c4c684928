"""Short benches against `budgets.toml`; exit status 1 when one is over."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import tomlkit

from bench.bench_rules import ported
from edge_inspector.cli.bench import ENGINE, RECIPE, RULES
from edge_inspector.studies import bench_pipeline, bench_rules, bench_startup

BUDGETS = Path(__file__).with_name("budgets.toml")


def measure() -> dict[str, dict[str, float]]:
    """The figures that have a budget, by bench."""
    others, missing = ported(RULES)
    rules = bench_rules.run(ENGINE, RULES, crops=400, threads=1, turn=20, others=others)
    for row, why in missing.items():
        print(f"no {row}: {why}")
    with tempfile.TemporaryDirectory() as folder:
        pipeline = bench_pipeline.run(Path(folder) / "p", RECIPE, units=500, rate_hz=50)
        startup = bench_startup.run(Path(folder) / "s", RECIPE, rounds=2)
    print(json.dumps({"rules": rules, "pipeline": pipeline, "startup": startup}))
    engine_ms = rules["rows"][rules["fastest"][0]]["ms"]["p50"]
    infer_ms = pipeline["stages_ms"]["infer"]["p50"]
    return {
        "rules": {
            "ratio": rules["ratio"],
            "ratio_python": engine_ms / rules["rows"][bench_rules.RULES]["ms"]["p50"],
            "auroc_engine": rules["auroc_engine"],
        },
        "pipeline": {
            "lost": pipeline["lost"],
            "doubled": pipeline["doubled"],
            "shed_share": pipeline["shed"] / pipeline["units"],
            "missed_share": pipeline["missed"] / pipeline["units"],
            "overhead_per_infer": pipeline["overhead_p50_ms"] / infer_ms,
        },
        "startup": {"ready_s": startup["ready_s"]["p50"]},
    }


def over_budget(
    figures: dict[str, dict[str, float]], budgets: dict[str, dict[str, dict[str, float]]]
) -> list[str]:
    """A sentence for each figure that is outside its budget; every budget must have a figure."""
    found = []
    for bench, limits in budgets.items():
        for name, limit in limits.items():
            value = figures[bench][name]
            fine = limit.get("min", value) <= value <= limit.get("max", value)
            print(f"{'ok  ' if fine else 'OVER'} {bench}.{name} = {value:g}, budget {dict(limit)}")
            if not fine:
                found.append(f"{bench}.{name} = {value:g} is outside {dict(limit)}")
    return found


def main() -> int:
    """Measure, compare, say."""
    budgets = tomlkit.parse(BUDGETS.read_text(encoding="utf-8")).unwrap()
    problems = over_budget(measure(), budgets)
    print("\n".join(problems) or "all benches are within their budgets")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
