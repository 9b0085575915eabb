"""Finding networks' files by digest, and the message that says how to get one that was not found."""

import hashlib
from pathlib import Path

import pytest

from atelier.errors import AtelierError
from flows.records.networks import NetworkKey, Networks
from tests.flows.histories import lock_text
from tests.flows.kept_studio import KeptStudio

CONTENT = b"weights"
MD5, SHA256 = hashlib.md5(CONTENT).hexdigest(), hashlib.sha256(CONTENT).hexdigest()
GENERATOR = NetworkKey("generator", SHA256, MD5)
UPSCALER = NetworkKey("upscaler", SHA256, MD5)


@pytest.fixture
def studio(tmp_path: Path, environment: dict[str, str]) -> KeptStudio:
    return KeptStudio.new(tmp_path / "studio", environment)


def found(studio: KeptStudio, key: NetworkKey) -> Path:
    networks = Networks(studio.root, lambda sentence: None)
    networks.find([key])
    return networks.path(key)


def test_a_file_of_the_work_tree_is_found_by_its_digest_under_any_name(studio: KeptStudio) -> None:
    studio.write("models/somebody's/best.safetensors", CONTENT.decode())
    for key in (GENERATOR, UPSCALER, NetworkKey("external network", SHA256, None)):
        assert found(studio, key) == studio.root / "models/somebody's/best.safetensors"


def test_a_file_in_the_cache_is_found_by_its_md5(studio: KeptStudio) -> None:
    studio.keep(CONTENT)
    assert found(studio, GENERATOR) == studio.object(MD5)


def test_digests_of_two_different_files_mean_that_the_provenance_was_edited(studio: KeptStudio) -> None:
    studio.keep(b"another")
    edited = NetworkKey("generator", SHA256, hashlib.md5(b"another").hexdigest())
    with pytest.raises(AtelierError, match="the provenance was edited"):
        found(studio, edited)
    studio.write("models/mine.safetensors", CONTENT.decode())
    with pytest.raises(AtelierError, match="the provenance was edited"):
        found(studio, edited)


def test_the_message_for_a_missing_model_names_the_commit_that_can_train_it_again(studio: KeptStudio) -> None:
    first = studio.commit("made", lock_text(MD5))
    studio.commit("kept", **{"notes.txt": "still the same model"})
    with pytest.raises(AtelierError) as error:
        found(studio, GENERATOR)
    assert f"Commit {first[:10]}" in str(error.value)
    assert f"checkout {first[:12]}`, then `dvc --cd ../studio.again repro train`" in str(error.value)


def test_the_message_for_a_file_that_no_commit_names_says_so(studio: KeptStudio) -> None:
    studio.commit("mine", lock_text("c" * 32))
    with pytest.raises(AtelierError, match="no commit here names it"):
        found(studio, GENERATOR)
    with pytest.raises(AtelierError, match="put its file into models/"):
        found(studio, NetworkKey("external network", SHA256, None))
