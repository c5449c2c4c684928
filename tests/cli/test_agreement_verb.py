"""`agreement` and `promote` on a store whose verdicts the test wrote."""

import json
import threading

import pytest
import tomlkit

from edge_inspector import clock
from edge_inspector.cli.main import main
from edge_inspector.observe.incumbents import Incumbents
from edge_inspector.outbox import Outbox
from edge_inspector.recipe import load_recipe
from edge_inspector.records import Baseline, FrameKey, Outcome, RegionVerdict, Verdict
from edge_inspector.studies import audit
from edge_inspector.wiring import evidence
from tests.integration.conftest import write_recipe

PASS, FAIL, NONE = Outcome.PASS, Outcome.FAIL, Outcome.UNINSPECTED


class Site:
    """A station's folder: its documents, its log, and what the incumbent said."""

    def __init__(self, folder, engine, **recipe):
        self.folder = folder
        self.recipe = write_recipe(folder, engine, {"observe": True} | recipe)
        self.path = folder / "station.toml"
        self.settings()
        self.known = 0

    def settings(self, **changes):
        values = {
            "station": "s",
            "recipe": "recipe.toml",
            "sources": [{"type": "zmq-pull", "name": "line", "endpoint": "tcp://127.0.0.1:5599"}],
        }
        self.path.write_text(tomlkit.dumps(values | changes), encoding="utf-8")

    def judge(self, *units):
        """(ours, what the incumbent says or None, score): as the daemon would have written them."""
        recipe = load_recipe(self.recipe)
        digest = evidence(self.recipe, recipe)
        done = threading.Semaphore(0)

        def on_batch(_, committed):
            done.release(len(committed))

        outbox = Outbox(self.folder / "state")
        outbox.open(on_batch=on_batch, on_fault=lambda fault: pytest.fail(str(fault)))
        incumbents = Incumbents(self.folder / "state")
        for ours, theirs, score in units:
            self.known += 1
            key, now_ns = f"t:s/0/{self.known}", clock.now_ns()
            outbox.commit(
                Verdict(
                    unit_key=key, station="s", outcome=ours, trigger_id=self.known,
                    frames=(FrameKey("line", "e", self.known),), recipe="tiny", evidence=digest,
                    regions=(RegionVerdict("whole", ours, score),), anomaly_score=score,
                    time_zero_ns=now_ns, advisory=True,
                )
            )  # fmt: skip
            if theirs is not None:
                incumbents.say(key, Baseline(theirs), now_ns + 5_000_000)
        for _ in units:
            assert done.acquire(timeout=10)
        incumbents.close()
        outbox.close()

    def run(self, capsys, verb, *words):
        code = main([verb, str(self.path), *map(str, words)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    def report(self, capsys, *words):
        code, out, err = self.run(capsys, "agreement", "--json", *words)
        assert code == 0, err
        return json.loads(out)


@pytest.fixture
def site(tmp_path, tiny_engine):
    return Site(tmp_path, tiny_engine)


def good(count, step=0.001):
    return [(PASS, PASS, round(0.5 + step * i, 4)) for i in range(count)]


def provisional(site, **changes):
    document = tomlkit.parse(site.recipe.read_text(encoding="utf-8"))
    document["calibration"].update({"provisional": True, "units": 40} | changes)
    site.recipe.write_text("# kept by hand\n" + tomlkit.dumps(document), encoding="utf-8")


def test_the_report_sets_both_verdicts_side_by_side(site, capsys):
    site.judge(
        *good(20), (FAIL, PASS, 4.0), (PASS, FAIL, 0.7), (FAIL, FAIL, 9.0), (PASS, None, 0.5)
    )
    report = site.report(capsys)
    assert report["table"] == {"fail/fail": 1, "fail/pass": 1, "pass/fail": 1, "pass/pass": 20}
    assert (report["units"], report["judged"], report["unanswered"]) == (24, 23, 1)
    assert report["mcnemar_p"] == 1.0
    assert report["their_ms"] == [5.0, 5.0]
    assert [d["unit"] for d in report["disagreements"]] == ["t:s/0/22", "t:s/0/21"]
    assert report["curve"][-1][0] == 9.0
    code, out, _ = site.run(capsys, "agreement")
    assert code == 0
    assert "1 failed here alone" in out
    assert "t:s/0/22" in out


def test_an_incumbent_that_never_answered_is_told(site, capsys):
    site.judge(*((PASS, None, 0.5) for _ in range(5)))
    code, out, _ = site.run(capsys, "agreement")
    assert code == 0
    assert "never answered: none of 5 units" in " ".join(out.split())


def test_a_station_that_has_not_run_has_an_empty_report(site, capsys):
    report = site.report(capsys)
    assert (report["units"], report["agreement"], report["mcnemar_p"]) == (0, None, None)


def test_the_incumbents_verdicts_may_come_as_csv_by_id(site, capsys, tmp_path):
    site.judge(*((PASS, None, 0.5) for _ in range(3)), (FAIL, PASS, 4.0))
    csv = tmp_path / "incumbent.csv"
    csv.write_text("trigger_id,incumbent\n1,pass\n2,fail:dent\n4,fail\n99,pass\n", "utf-8")
    report = site.report(capsys, "--incumbent", csv)
    assert report["table"] == {"fail/fail": 1, "pass/fail": 1, "pass/pass": 1}
    assert report["unanswered"] == 1
    assert report["disagreements"][0]["their_class"] == "dent"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("id,verdict\n1,pass\n", "columns id, verdict; it needs one of unit_key"),
        ("trigger_id,incumbent\n1,OK\n", ":2: incumbent 'OK'; write pass, fail"),
        ("trigger_id,incumbent\n1,pass\n1,fail\n", ":3: trigger:1 is there twice"),
        ("\x01\x02", "columns"),
        (None, "give a CSV file in UTF-8"),
    ],
)
def test_a_csv_that_cannot_be_read_is_told_with_line_and_remedy(
    text, problem, site, capsys, tmp_path
):
    site.judge(*good(3))
    csv = tmp_path / "bad.csv"
    if text is not None:
        csv.write_text(text, "utf-8")
    code, _, err = site.run(capsys, "agreement", "--incumbent", csv)
    assert code == 2
    assert problem in err


def test_a_confirmed_defect_does_not_count_as_good(site, capsys):
    site.judge(*good(5), (FAIL, PASS, 40.0))
    report = site.report(capsys, "--confirm", "6")
    assert report["confirmed"] == 1
    assert report["disagreements"][0]["confirmed"]
    assert site.report(capsys)["confirmed"] == 1, "it stays so"
    code, _, err = site.run(capsys, "agreement", "--confirm", "77")
    assert code == 2
    assert "id '77' is unknown" in err


def test_tighten_writes_the_recipe_anew_and_says_so_in_the_audit(site, capsys):
    provisional(site, threshold=50.0)
    site.judge(*good(400))
    _, out, _ = site.run(capsys, "agreement", "--tighten", "--by", "ada")
    assert "tightened: threshold 50 ->" in " ".join(out.split())
    after = load_recipe(site.recipe)
    assert after.version == 4
    assert after.observe
    assert after.calibration is not None
    assert 0.8 < after.calibration.threshold < 1.0
    assert (after.calibration.units, after.calibration.provisional) == (400, False)
    assert site.recipe.read_text(encoding="utf-8").startswith("# kept by hand")
    (row,) = audit.rows(site.folder / "state")
    assert (row.what, row.by, row.from_version, row.to_version) == ("tighten", "ada", 3, 4)
    assert row.figures["units"] == [40, 400]
    report = site.report(capsys)
    assert (report["units"], report["elsewhere"]) == (400, 0), "its units still count"


def test_tighten_refuses_to_let_more_through_and_changes_nothing(site, capsys):
    provisional(site, threshold=0.6)
    before = site.recipe.read_bytes()
    site.judge(*good(400))
    code, _, err = site.run(capsys, "agreement", "--tighten")
    assert code == 2
    assert "of 400 good units lie at or above the threshold 0.6" in err
    assert site.recipe.read_bytes() == before
    assert audit.rows(site.folder / "state") == []
    _, out, _ = site.run(capsys, "agreement", "--loosen")
    assert "loosened: threshold 0.6 ->" in " ".join(out.split())


def test_tighten_goes_by_the_incumbent_alone(site, capsys):
    code, _, err = site.run(capsys, "agreement", "--tighten", "--other", "shadow")
    assert code == 2
    assert "leave --other out" in err


def test_units_judged_with_the_recipe_in_another_state_are_left_out(site, capsys):
    site.judge(*good(7))
    provisional(site)
    site.judge(*good(2))
    report = site.report(capsys)
    assert (report["units"], report["elsewhere"]) == (2, 7)


def test_promote_ends_observing_with_an_audit_row(site, capsys):
    site.judge(*good(30), (FAIL, PASS, 4.0))
    code, out, _ = site.run(capsys, "promote", "--by", "ada")
    assert code == 0
    assert "31 with the incumbent's verdict (1 failed here alone, 0 there alone)" in out
    after = load_recipe(site.recipe)
    assert (after.observe, after.version) == (False, 4)
    (row,) = audit.rows(site.folder / "state")
    assert (row.what, row.by, row.product) == ("promote", "ada", "tiny")
    assert row.figures["pairs"] == 31
    assert row.figures["agreement"][0] == pytest.approx(30 / 31, abs=1e-5)
    assert row.figures["promised_overkill"] == 0.01
    code, _, err = site.run(capsys, "promote")
    assert code == 2
    assert "version 4 does not observe" in err


@pytest.mark.parametrize(
    ("units", "words", "numbers"),
    [
        ((), (), "0 units judged with it as it is (0 with it in another state), 0 of them"),
        (((PASS, None, 0.5),) * 3, (), "3 units judged with it as it is"),
        (((NONE, PASS, 0.5),) * 3, (), "3 units judged with it as it is"),
        ((), ("--alone",), "0 units judged"),
    ],
)
def test_promote_refuses_with_numbers_where_nothing_was_observed(
    units, words, numbers, site, capsys
):
    if units:
        site.judge(*units)
    code, _, err = site.run(capsys, "promote", *words)
    assert code == 2
    assert numbers in err
    assert load_recipe(site.recipe).observe
    assert audit.rows(site.folder / "state") == []


def test_a_line_without_an_incumbent_is_promoted_alone(site, capsys):
    site.judge(*((PASS, None, 0.5) for _ in range(3)))
    assert site.run(capsys, "promote", "--alone")[0] == 0
    assert not load_recipe(site.recipe).observe


def test_promote_says_that_a_threshold_is_provisional(site, capsys):
    provisional(site)
    site.judge(*good(3))
    code, out, _ = site.run(capsys, "promote")
    assert code == 0
    assert "PROVISIONAL: unit overkill at most 1.000%, from 40 good units" in out


def test_promote_says_when_the_settings_still_observe(site, capsys):
    site.settings(observe=True)
    site.judge(*good(3))
    code, out, _ = site.run(capsys, "promote")
    assert code == 1
    assert "remove observe = true there" in out


def test_a_damaged_audit_row_is_named(site, capsys):
    site.judge(*good(3))
    (site.folder / "state" / audit.NAME).write_text('{"what": "promote"\n', encoding="utf-8")
    code, _, err = site.run(capsys, "agreement")
    assert code == 3
    assert f"{audit.NAME}:1:" in err


def test_the_page_holds_the_curve_and_no_markup_of_a_units_name(site, capsys, tmp_path):
    site.judge(*good(5), (FAIL, PASS, 4.0))
    page = tmp_path / "page.html"
    assert site.run(capsys, "agreement", "--html", page)[0] == 0
    text = page.read_text(encoding="utf-8")
    assert "<svg" in text
    assert "in force: 3" in text
    assert "t:s/0/6" in text
    assert "<script" not in text
