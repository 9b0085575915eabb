"""`dvc repro` in another shell during a flow: one waits or is refused with a sentence, and dvc.lock stays intact."""

import hashlib
from collections.abc import Callable

from tests.flows.toys import Started, Tree


def test_dvc_in_another_shell_is_refused_with_a_sentence_and_the_flow_continues(
    served: Tree, start: Callable[..., Started], finished: Tree
):
    served.trouble("train hold")
    flow = start("flows.studio").until("train: held")
    for words in (["repro"], ["repro", "generate"]):
        other = served.run("dvc", *words)
        assert other.status
        assert "is busy, it is being blocked by" in other.output
        assert "Traceback" not in other.output
    served.no_trouble()
    while flow.status is None:  # between two stages either may take the next one
        other = served.run("dvc", "repro")
        assert other.status == 0 or "is busy, it is being blocked by" in other.output, other.output
    assert flow.status == 0, flow.output
    assert made(served) == made(finished)
    assert not (served.root / ".atelier/overlaps").exists()


def test_a_flow_waits_for_dvc_in_another_shell_and_then_finds_all_stages_cached(
    served: Tree, start: Callable[..., Started], finished: Tree
):
    served.trouble("train hold")
    other = start("dvc", "repro").until("train: held")
    flow = start("flows.studio").until(f"waiting for PID {other.pid}")
    served.no_trouble()
    assert other.wait() == 0, other.output
    assert flow.wait() == 0, flow.output
    assert "Running stage 'train'" not in flow.output
    assert made(served) == made(finished)
    assert not (served.root / ".atelier/overlaps").exists()


def made(tree: Tree) -> dict[str, str]:
    """The SHA-256 of each output."""
    paths = [tree.root / "dvc.lock", *sorted((tree.root / "data").glob("[a-z]*"))]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
