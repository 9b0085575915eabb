"""Whether a Prefect server may be configured, from the places where Prefect looks for its settings."""

import subprocess
import sys
from pathlib import Path

import pytest

from flows.orchestration.without_prefect import lasting_servers, may_be_configured

URL = "http://127.0.0.1:4200/api"
PROFILES = f'active = "{{active}}"\n[profiles.ephemeral]\n[profiles.local]\nPREFECT_API_URL = "{URL}"\n'


@pytest.fixture(autouse=True)
def home(tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, which is the working directory."""
    for name in ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_HOME", "PREFECT_PROFILES_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("notes.txt", "PREFECT_API_URL", False),
        (
            "pyproject.toml",
            '[tool.prefect]\nhome = ".prefect"\n[tool.prefect.client]\nmax_retries = 3\n',
            False,
        ),
        ("pyproject.toml", f'[tool.prefect.api]\nurl = "{URL}"\n', True),
        ("pyproject.toml", "[tool.prefect\n", True),
        ("prefect.toml", f'[api]\nurl = "{URL}"\n', True),
        ("prefect.toml", 'profiles_path = "mine.toml"\n', True),
        ("prefect.toml", '[server.database]\nconnection_url = "sqlite+aiosqlite:////tmp/p.db"\n', True),
        (".env", f"prefect_api_url={URL}\n", True),
        (".env", "OTHER=1\n", False),
        (".prefect/profiles.toml", PROFILES.format(active="local"), True),
        (".prefect/profiles.toml", PROFILES.format(active="ephemeral"), False),
        (".prefect/profiles.toml", PROFILES.format(active="missing"), False),
    ],
)
def test_files_that_prefect_reads_can_configure_a_server(home: Path, file: str, text: str, expected: bool) -> None:
    (home / file).parent.mkdir(exist_ok=True)
    (home / file).write_text(text)
    assert may_be_configured() == expected


def test_the_environment_can_configure_a_server(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not may_be_configured()
    monkeypatch.setenv("PREFECT_API_URL", "")
    assert not may_be_configured()
    for name in ("PREFECT_API_URL", "prefect_api_url", "PREFECT_PROFILE"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "local")
            assert may_be_configured()
    monkeypatch.setenv("PREFECT_HOME", str(home / "elsewhere"))
    (home / "elsewhere").mkdir()
    (home / "elsewhere/profiles.toml").write_text(PROFILES.format(active="local"))
    assert may_be_configured()


def test_a_running_server_counts_if_it_uses_this_studios_database_and_was_not_started_for_one_flow(
    home: Path, environment: dict[str, str]
) -> None:
    (home / ".prefect").mkdir()
    for file, ephemeral in (
        (".prefect/prefect.db", False),
        (".prefect/prefect.db", True),
        ("other.db", False),
    ):
        script = "import sys; file = open(sys.argv[3], 'a'); print(flush=True); input()"
        command = [sys.executable, "-c", script, "server", "start", str(home / file)]
        marked = {**environment, **({"PREFECT__SERVER_EPHEMERAL": "1"} if ephemeral else {})}
        with subprocess.Popen(command, env=marked, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout and process.stdin
            process.stdout.readline()
            assert (process.pid in [server.pid for server in lasting_servers()]) != ephemeral
            assert may_be_configured() == (file == ".prefect/prefect.db" and not ephemeral)
            process.stdin.close()
