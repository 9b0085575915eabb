"""How a command ends for a person."""

import os
import signal
import sys
from collections.abc import Iterator

import httpx
import pytest

from atelier.errors import AtelierError, run_for_exit_code
from flows.runtime.process import Child, server_needed


@pytest.fixture(autouse=True)
def _sigterm_as_it_was() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_mistake_is_its_sentence_and_a_ctrl_c_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    def ends(error: BaseException) -> int:
        raise error

    assert run_for_exit_code(lambda: 0, "run again") == 0
    assert run_for_exit_code(lambda: ends(AtelierError("the sky is missing")), "run again") == 1
    assert run_for_exit_code(lambda: ends(KeyboardInterrupt()), "run again") == 130
    assert run_for_exit_code(lambda: ends(KeyboardInterrupt()), "") == 130
    assert capsys.readouterr().err == "the sky is missing\nstopped; run again\nstopped\n"
    assert run_for_exit_code(lambda: ends(FileNotFoundError(2, "No such file", "here/walk.mp4")), "") == 1
    assert capsys.readouterr().err == "No such file: here/walk.mp4\n"
    with pytest.raises(ZeroDivisionError):  # a bug stays one
        run_for_exit_code(lambda: ends(ZeroDivisionError()), "run again")


def test_sigterm_is_143() -> None:
    with pytest.raises(SystemExit) as ended:
        run_for_exit_code(lambda: signal.raise_signal(signal.SIGTERM) or 0, "run again")
    assert ended.value.code == 143


def test_a_server_that_fails_is_a_sentence() -> None:
    request = httpx.Request("GET", "http://127.0.0.1:9/api")
    with (
        pytest.raises(AtelierError, match=r"server fails \(HTTP 503\): what is finished is kept, and run again$"),
        server_needed("run again"),
    ):
        httpx.Response(503, request=request).raise_for_status()


def test_a_server_that_goes_away_is_a_sentence() -> None:
    with (
        pytest.raises(AtelierError, match=r"server is gone \(.*\): what is finished is kept, and run again$"),
        server_needed("run again"),
    ):
        httpx.get("http://127.0.0.1:9/api")


def test_what_a_child_prints_arrives_whole_whatever_the_terminal_can_show(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    with Child([sys.executable, "-c", "print('64 × 64 px')"], os.environ) as child:
        assert [line for line in child.lines(10) if line] == ["64 × 64 px"]
