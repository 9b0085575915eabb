"""A night's record and report, and the notification that a night sends."""

import json
import subprocess
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from atelier.metrics.comparison import Comparison
from atelier.settings.edit import Change
from flows.night.report import Night, Report, describe_harvest
from tests.flows.toys import Tree

COMPARISON = {
    "kid": {"champion": 11.7, "challenger": 6.35, "low": 4.9, "high": 5.8, "verdict": "better"},
    "kid_coarse": {"champion": 3.75, "challenger": 3.6, "low": -0.1, "high": 0.4, "verdict": "even"},
    "confidence": 0.95,
    "wins": True,
    "reason": "kid is better",
}


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    (tmp_path / "verdict.json").write_text(json.dumps(COMPARISON))
    return Comparison.read(tmp_path / "verdict.json")


def test_a_comparison_is_summarised_in_a_line(comparison: Comparison) -> None:
    assert comparison.wins
    assert comparison.short == "kid 11.7 -> 6.35 (better), kid_coarse 3.75 -> 3.6 (even)"


def test_a_report_sets_champion_and_challenger_side_by_side(comparison: Comparison, tmp_path: Path) -> None:
    report = Report(
        night=date(2026, 11, 30), outcome="Promoted", message="atelier@v1.1.0: better", base="0123456789abcdef",
        harvest=describe_harvest(1204, 1198, 1080, 118, 1079, ["3 failures in a row"]),
        changes=[Change("scrape.snapshot", "2026-11-22", "2026-11-30")], champion="v1.0.0", comparison=comparison,
        places={"tag": "atelier@v1.1.0"}, uncommitted=["params.yaml"],
    )  # fmt: skip
    text = report.markdown()
    assert text.startswith("# Promoted, night of 2026-11-30\n\natelier@v1.1.0: better\n")
    assert "| distance | champion v1.0.0 | challenger | gain | verdict |" in text
    assert "| kid | 11.7 | 6.35 | 4.9 to 5.8 | better |" in text
    assert "| kid_coarse | 3.75 | 3.6 | -0.1 to 0.4 | even |" in text
    assert "1,204 works in the catalog, 1,198 pictures arrived" in text
    assert "1,080 paintings to train on (1,079 for the champion), 118 held out" in text
    assert "The catalog is incomplete: 3 failures in a row." in text
    assert "| `scrape.snapshot` | `2026-11-22` | `2026-11-30` |" in text
    assert "Not committed, so no part of this night: `params.yaml`." in text
    assert text.endswith("| tag | `atelier@v1.1.0` |\n")
    report.write_page(tmp_path / "report.html", "sheet.png")
    page = (tmp_path / "report.html").read_text()
    assert all(
        words in page
        for words in ('src="sheet.png"', "<td>11.7</td>", "scrape.snapshot", "no part of this night: params.yaml")
    )


def test_the_last_night_is_read_back_and_a_damaged_record_is_ignored(tmp_path: Path) -> None:
    assert Night.last(tmp_path) is None
    night = Night(date(2026, 11, 30), "Kept", "v1.0.0 stays", datetime(2026, 11, 30, 2, 0, 1, tzinfo=UTC))
    night.write(tmp_path)
    assert Night.last(tmp_path) == night
    (tmp_path / ".atelier/last_night.json").write_text('{"night": "soon"}')
    assert Night.last(tmp_path) is None


def test_a_message_that_cannot_be_sent_is_a_warning_without_its_address(served: Tree) -> None:
    served.set("notify: null ", "notify: http://127.0.0.1:9/hook?secret=anemone ")
    for command in (
        ["add", "-A"],
        ["-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "-qm", "mine"],
    ):
        subprocess.run(["git", *command], cwd=served.root, env=served.environment, check=True)
    script = (
        "from uuid import uuid4; from prefect import flow; from prefect.client.schemas.objects import FlowRun;"
        "from prefect.states import Failed; from flows import nightly;"
        "run = FlowRun(flow_id=uuid4(), name='night');"
        "nightly.notify(flow(lambda: None, name='nightly'), run, Failed())"
    )
    told = served.run("-c", script)
    assert told.status == 0, told.output
    assert "the message was not sent: ConnectError" in told.output
    assert "anemone" not in told.output
