"""The performance page says what was kept, and nothing else."""

import json

import pytest

pytest.importorskip("matplotlib", reason="the page's plots need matplotlib")

from bench import performance_page
from bench.performance_goals import GOALS, Goal, find, newest, recall_lack

FACTS = {"date": "2026-01-02", "commit": "abc1234", "cpu": "a processor"}


def times(p50):
    return {"p50": p50, "p90": p50, "p99": 2 * p50, "p99_9": 3 * p50, "p99_99": 4 * p50}


def rules(ratio, turn=1, **more):
    row = {
        "ms": times(0.5),
        "curve_ms": [0.5] * 12,
        "auroc": 0.98,
        "recall": 0.9,
        "per_class": {"missing": 1.0, "stain": 0.5},
    }
    rows = {
        "openvino:int8": row,
        "rules c++": {**row, "per_class": {"missing": 0.75, "stain": 0.75}},
    }
    return {
        "bench": "rules",
        "rows": rows,
        "fastest": ["openvino:int8", "rules c++"],
        "ratio": ratio,
        "turn": turn,
        "threads": 1,
        "crops": 9,
        "engine": "bga/3",
        "missing": {"onnxruntime": "is not installed"},
        **FACTS,
        **more,
    }


PIPELINE = {
    "bench": "pipeline",
    "units": 50,
    "workers": 1,
    "rate_hz": 100.0,
    "lost": 0,
    "doubled": 0,
    "missed": 0,
    "shed": 0,
    "total_ms": times(3.0),
    "stages_ms": {"infer": times(0.6)},
    "socket_overhead_ms": times(1.0),
    "sync_ms": {"p50": 0.25, "p99": 0.75},
    **FACTS,
}


def scaled(share):
    return {
        "case": "256x256, 1 region",
        "workers": 2,
        "share": share,
        "offered_hz": share * 1000,
        "in_time_hz": min(share, 1) * 1000,
        "cpu_ms_per_unit": {"core": 0.25, "worker": 0.5},
    }


SWEEP = {
    "bench": "pipeline",
    "engine": "bga/3",
    "runner": "openvino:int8",
    "seconds": 3.0,
    "peaks": [
        {
            "case": "256x256, 1 region",
            "workers": 2,
            "at_most_hz": 1234.0,
            "overload_goodput": 0.97,
            "memory_mb": 300.0,
        }
    ],
    "rows": [scaled(share) for share in (0.5, 0.9, 1.2, 3.0)],
    **FACTS,
}
PEERS = {
    "bench": "peers",
    "rows": {
        "bga/3": {"kind": "ours", "ms": {"openvino": times(0.5)}, "auroc": 0.98},
        "PaDiM": {"kind": "anomalib", "ms": {"openvino": times(80.0)}, "auroc": 0.75},
    },
    "ratio": 0.00625,
    "fastest": ["bga/3 openvino", "PaDiM openvino"],
    "threads": 1,
    "rounds": 5,
    "auroc_units": 18,
    **FACTS,
}


@pytest.fixture
def written(tmp_path):
    """Write the page of some results; its text."""

    def write(*results):
        kept = tmp_path / "box.jsonl"
        kept.write_text("".join(json.dumps(result) + "\n" for result in results), encoding="utf-8")
        out = tmp_path / "performance.md"
        assert performance_page.main([str(kept), "--out", str(out)]) == 0
        return out.read_text(encoding="utf-8")

    return write


def goal_lines(text):
    return [line for line in text.split("## Engine against")[0].splitlines() if "| `" in line]


def test_without_results_every_goal_is_not_run_and_no_figure_is_shown(written, tmp_path):
    text = written()
    assert len(goal_lines(text)) == len(GOALS)
    assert all("| not run |" in line for line in goal_lines(text))
    assert not list(tmp_path.glob("performance/*.svg"))


def test_figures_stand_beside_goals_with_day_commit_and_device(written, tmp_path):
    text = written(rules(0.6), rules(0.4, turn=20), PIPELINE, SWEEP, PEERS)
    lines = goal_lines(text)
    about = "bga/3, openvino:int8 / rules c++, 2026-01-02, abc1234, a processor"
    assert f"| ≤ 0.5 | 0.4 | met | {about} |" in lines[0]
    assert f"| ≤ 0.5 | 0.6 | missed | {about} |" in lines[1]
    assert "| ≤ 0.0111 | 0.00625 | met |" in text
    assert "| ≤ 2.5 ms | 2 ms | met |" in text
    assert "| ≥ 1,000 units/s | 1,234 units/s | met |" in text
    assert "| 256x256, 1 region | openvino:int8 | 2 | 1234 | 0.970 | 0.75 | 300 |" in text
    assert "No onnxruntime: is not installed." in text
    drawn = {path.stem for path in tmp_path.glob("performance/*.svg")}
    assert drawn == {"rules-times", "speed-accuracy", "stages", "scaling"}
    assert all(f"](performance/{name}.svg)" in text for name in drawn)


def test_the_newest_day_counts_and_of_one_day_the_last_line(written):
    older = rules(0.9, turn=20, date="2025-12-31")
    text = written(rules(0.4, turn=20), rules(0.3, turn=20), older)
    assert "| ≤ 0.5 | 0.3 | met |" in goal_lines(text)[0]


def test_sweeps_of_several_runs_stand_together_and_the_newest_of_each_counts(written):
    other = json.loads(json.dumps(SWEEP).replace("1 region", "9 regions"))
    older = json.loads(json.dumps(SWEEP).replace("1234.0", "7.0"))
    text = written(older, SWEEP, other)
    assert "| 7 |" not in text
    assert "| 256x256, 1 region | openvino:int8 | 2 | 1234 |" in text
    assert "| 256x256, 9 regions | openvino:int8 | 2 | 1234 |" in text


def test_every_engine_keeps_its_table_of_runners_and_the_sure_tier_its_goal(written):
    row = {"ms": times(16.0), "batch_16_ms": times(0.25)}
    kept = {
        "bench": "backend",
        "engine": "bga/3",
        "threads": 2,
        "crops": 9,
        "runners": {"openvino": row, "tensorrt": {"missing": "no driver"}},
        "fastest": "openvino",
        "fastest_batch_16": "openvino",
        **FACTS,
    }
    text = written(kept, {**kept, "engine": "sure/1", "threads": 1})
    assert "### bga/3, 2 threads" in text
    assert "### sure/1, 1 thread" in text
    assert "| ≤ 20 ms | 16 ms | met | sure/1, openvino," in text
    assert "| ≥ 2,500 crops/s | 4,000 crops/s | met | bga/3, openvino," in text
    assert "No tensorrt: no driver." in text


def test_a_result_of_an_older_form_is_passed_by():
    goal = Goal("ratio", "rules", lambda r: float(r["rows"]["a"]), 1.0, "command")
    new = {"bench": "rules", "rows": {"a": 0.5}}
    assert find(goal, [new, {"bench": "rules", "ratio": 0.7}]).figure == 0.5
    assert find(goal, [{"bench": "rules", "ratio": 0.7}]).figure is None


def test_a_lack_of_recall_counts_only_where_the_rules_see_the_kind():
    result = rules(0.5)
    assert recall_lack(result) == 0.25
    result["rows"]["rules c++"]["per_class"]["stain"] = 0.25
    assert recall_lack(result) == -0.25


def test_fields_choose_a_result():
    results = [{"bench": "x", "n": 1, "a": 0}, {"bench": "x", "n": 1}, {"bench": "x", "n": 2}]
    assert newest(results, "x", n=1, a=...) == results[0]
    assert newest(results, "x", n=1) == results[1]
    assert newest(results, "x", n=3) is None
