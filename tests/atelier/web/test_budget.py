"""The request budget, over threads, processes and kills."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from atelier.web.client import PoliteClient
from atelier.web.limits import Budget, BudgetSpent
from tests.lookalike import Offer, lookalike
from tests.pictures import jpeg

SPENDING = """
import pathlib, sys
from atelier.web.limits import Budget
budget = Budget(int(sys.argv[1]), pathlib.Path(sys.argv[2]))
while True:
    budget.spend()
"""


@pytest.mark.parametrize("written", [True, False])
def test_many_threads_send_exactly_as_many_requests_as_the_budget_allows(tmp_path, written):
    ledger = tmp_path / "state" / "ledger" if written else None
    offer = Offer(id="0" * 24, image=jpeg((20, 60, 160)), faults=("500", "redirect"))
    with lookalike({"genre/marina": [offer]}) as site:
        budget = Budget(100, ledger)

        def ask(client: PoliteClient) -> int:
            for count in range(10):
                try:
                    client.fetch(site.path_of(offer), max_bytes=10_000)
                except BudgetSpent:
                    return count
            return 10

        with (
            PoliteClient(
                site.base_url,
                contact="",
                rate_per_s=None,
                retries=2,
                timeout_s=5,
                backoff_s=0.01,
                budget=budget,
            ) as client,
            ThreadPoolExecutor(64) as pool,
        ):
            answered = sum(pool.map(ask, [client] * 64))
        assert budget.spent == 100 == len(site.requests) + len(site.robots_requests)
        assert answered == 97  # retries, redirects and robots.txt count as well


def test_the_count_survives_processes_and_kills(tmp_path):
    ledger = tmp_path / "ledger"
    command = [sys.executable, "-c", SPENDING]
    killed = [subprocess.Popen([*command, "50000", str(ledger)]) for _ in range(2)]
    while Budget(None, ledger).spent < 500:
        time.sleep(0.005)
    for process in killed:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    spent = Budget(None, ledger).spent
    assert 500 <= spent < 50_000
    more = [*command, str(spent + 100), str(ledger)]
    ends = [subprocess.run(more, capture_output=True, text=True) for _ in range(2)]
    assert all("BudgetSpent" in end.stderr for end in ends)
    assert Budget(None, ledger).spent == spent + 100


def test_the_error_names_the_limit_and_its_setting(tmp_path):
    budget = Budget(1, tmp_path / "ledger")
    budget.spend()
    with pytest.raises(BudgetSpent, match=r"budget of 1 request .*scrape\.wikiart\.max_requests"):
        budget.spend()


def test_a_budget_without_a_limit_only_counts():
    budget = Budget(None, None)
    for _ in range(1000):
        budget.spend()
    assert budget.spent == 1000
