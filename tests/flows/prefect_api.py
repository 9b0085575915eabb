"""A client of Prefect's API for tests: runs, their states, tasks, artifacts and logs."""

import json
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

OVER = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def use_server(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Make Prefect in this process use the server at `url`, and the current directory's `.prefect` as its home."""
    monkeypatch.setenv("PREFECT_API_URL", url)
    monkeypatch.setenv("PREFECT_HOME", ".prefect")
    from prefect.context import refresh_global_settings_context  # importing Prefect takes seconds

    refresh_global_settings_context()


class Api:
    """A server's API at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, body: Any = None) -> Any:
        """GET, or POST with a body; repeated while SQLite is busy."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        for left in range(20, -1, -1):
            try:
                with urllib.request.urlopen(
                    urllib.request.Request(f"{self.url}/{path}", data, headers), timeout=60
                ) as answer:
                    return json.loads(answer.read() or "null")
            except urllib.error.HTTPError as error:
                if error.code != 503 or not left:
                    raise
                time.sleep(0.5)
        raise AssertionError("unreachable")

    def deployment(self, name: str) -> dict[str, Any]:
        return self.ask(f"deployments/name/nightly/{name}")

    def pause(self, name: str) -> None:
        """Stop the schedule; runs that are started by hand still run."""
        self.ask(f"deployments/{self.deployment(name)['id']}/pause_deployment", {})

    def every(self, name: str, seconds: int) -> None:
        """Add a schedule to the deployment."""
        schedule = {"schedule": {"interval": seconds}, "active": True}
        self.ask(f"deployments/{self.deployment(name)['id']}/schedules", [schedule])

    def start(self, name: str, scheduled: str | None = None, **parameters: str) -> "Run":
        """Start a run of the deployment, as the UI does; `scheduled` is its scheduled start."""
        details = {"state_details": {"scheduled_time": scheduled}} if scheduled else {}
        body = {"state": {"type": "SCHEDULED", **details}, "parameters": parameters}
        return Run(self, self.ask(f"deployments/{self.deployment(name)['id']}/create_flow_run", body)["id"])

    def runs(self) -> "list[Run]":
        """All runs, the earliest first."""
        found = self.ask("flow_runs/filter", {"sort": "EXPECTED_START_TIME_ASC"})
        return [Run(self, run["id"]) for run in found]


class Run:
    """A flow run."""

    def __init__(self, api: Api, id: str) -> None:
        self._api, self.id = api, id

    @property
    def facts(self) -> dict[str, Any]:
        return self._api.ask(f"flow_runs/{self.id}")

    @property
    def state(self) -> tuple[str, str]:
        """The state's name and message."""
        state = self.facts["state"]
        return state["name"], state["message"] or ""

    @property
    def tasks(self) -> dict[str, tuple[str, str]]:
        """Each task's state and message; recorded a moment later."""
        ours = {"flow_runs": {"id": {"any_": [self.id]}}}
        found = self._api.ask("task_runs/filter", ours)
        return {task["name"]: (task["state"]["name"], task["state"]["message"]) for task in found}

    @property
    def artifacts(self) -> dict[str, Any]:
        found = self._api.ask("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [self.id]}}})
        return {artifact["key"]: artifact["data"] for artifact in found}

    @property
    def log(self) -> str:
        found = self._api.ask("logs/filter", {"logs": {"flow_run_id": {"any_": [self.id]}}, "limit": 200})
        return "\n".join(entry["message"] for entry in found)

    def wait(self, timeout_s: float = 120) -> tuple[str, str]:
        """Wait for its final state."""
        deadline_s = time.monotonic() + timeout_s
        while self.facts["state"]["type"] not in OVER:
            assert time.monotonic() < deadline_s, (self.state, self.log)
            time.sleep(0.7)
        return self.state

    def until(self, words: str, timeout_s: float = 120) -> None:
        """Wait until its log contains `words`."""
        deadline_s = time.monotonic() + timeout_s
        while words not in self.log:
            assert time.monotonic() < deadline_s, (self.state, self.log)
            time.sleep(0.7)

    def cancel(self) -> None:
        self._api.ask(f"flow_runs/{self.id}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
