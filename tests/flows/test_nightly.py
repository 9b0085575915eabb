"""What `atelier nightly` says to a person before any night."""

from tests.flows.night_toys import NightTree


def test_what_cannot_work_is_said_in_a_sentence_and_leaves_nothing(night_tree: NightTree) -> None:
    refused = night_tree.run("flows.cli", "nightly", "run", "--night", "tomorrow")
    assert (refused.status, refused.output) == (
        1,
        "--night tomorrow: no date; one like 2026-11-30 is asked for\n",
    )
    night_tree.environment = {**night_tree.environment, "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    served = night_tree.run("flows.cli", "nightly", "serve")
    assert served.status == 1
    assert "none answers: type `prefect server start`" in served.output
    assert "last      no night yet" in night_tree.run("flows.cli", "nightly", "status").output
    assert not night_tree.root.with_name("studio.nightly").exists()
