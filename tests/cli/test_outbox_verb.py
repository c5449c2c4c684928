"""The log on the command line: what is exported is what is in the log, in either form."""

import csv
import threading

import pytest

from edge_inspector.cli.main import main
from edge_inspector.outbox import Log, Outbox
from edge_inspector.records import FrameKey, Outcome, Reason, Verdict

ROWS = 30


@pytest.fixture
def store(tmp_path):
    """Passes, fails and timeouts in turn."""
    done = threading.Semaphore(0)
    outbox = Outbox(tmp_path / "state")
    outbox.open(
        on_batch=lambda journaled, committed: done.release(len(committed)),
        on_fault=lambda fault: done.release(ROWS),
    )
    for number in range(1, ROWS + 1):
        outcome = (Outcome.PASS, Outcome.FAIL, Outcome.UNINSPECTED)[number % 3]
        outbox.commit(
            Verdict(
                unit_key=f"t:s/0/{number}",
                station="s",
                outcome=outcome,
                reason=Reason.TIMEOUT if outcome is Outcome.UNINSPECTED else None,
                frames=(FrameKey("line", "e", number),),
                recipe="board",
                trigger_id=number,
                anomaly_score=None if outcome is Outcome.UNINSPECTED else number / 8,
            )
        )
    for _ in range(ROWS):
        assert done.acquire(timeout=10)
    outbox.close()
    return tmp_path / "state"


def test_every_verdict_is_a_row_of_the_csv(store, tmp_path):
    out = tmp_path / "verdicts.csv"
    assert main(["outbox", "export", "--csv", str(out), str(store)]) == 0
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["vseq"]) for row in rows] == list(range(1, ROWS + 1))
    assert rows[0]["outcome"] == "fail"
    assert rows[1]["reason"] == "timeout"


def test_parquet_says_the_same_with_types(store, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet needs the package pyarrow")
    out = tmp_path / "verdicts.parquet"
    assert main(["outbox", "export", "--parquet", str(out), str(store)]) == 0
    columns = parquet.read_table(out).to_pydict()
    log = Log(store)
    verdicts = [row.verdict for row in log.read(1, ROWS)]
    log.close()
    assert columns["vseq"] == [verdict.vseq for verdict in verdicts]
    assert columns["outcome"] == [verdict.outcome.value for verdict in verdicts]
    assert columns["anomaly_score"] == [verdict.anomaly_score for verdict in verdicts]
    assert columns["advisory"] == [verdict.advisory for verdict in verdicts]


def test_one_form_is_asked_for(store, capsys):
    with pytest.raises(SystemExit):
        main(["outbox", "export", str(store)])
    assert "--csv" in capsys.readouterr().err


def test_tail_and_verify_read_it_too(store, capsys):
    assert main(["outbox", "verify", str(store)]) == 0
    assert f"{ROWS} verdicts" in capsys.readouterr().out
    assert main(["outbox", "tail", "-n", "3", str(store)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
