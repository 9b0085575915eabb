"""Networks' files by their digests: at hand, in DVC's cache, or the sentence that says how to have them again."""

import hashlib
from pathlib import Path

import pytest

from atelier.errors import AtelierError
from flows.records.networks import Networks, Wanted
from tests.flows.histories import lock_text
from tests.flows.kept_studio import KeptStudio

CONTENT = b"weights"
MD5, SHA256 = hashlib.md5(CONTENT).hexdigest(), hashlib.sha256(CONTENT).hexdigest()
GENERATOR = Wanted("generator", SHA256, MD5)
UPSCALER = Wanted("upscaler", SHA256, None)


@pytest.fixture
def studio(tmp_path: Path, environment: dict[str, str]) -> KeptStudio:
    return KeptStudio.new(tmp_path / "studio", environment)


def found(studio: KeptStudio, wanted: Wanted) -> Path:
    networks = Networks(studio.root, lambda sentence: None)
    networks.find([wanted])
    return networks.path(wanted)


def test_a_file_that_is_at_hand_is_known_by_its_digest_whatever_its_name(studio: KeptStudio) -> None:
    studio.write("models/somebody's/best.safetensors", CONTENT.decode())
    for wanted in (GENERATOR, UPSCALER, Wanted("external network", SHA256, None)):
        assert found(studio, wanted) == studio.root / "models/somebody's/best.safetensors"


def test_the_cache_is_asked_by_md5(studio: KeptStudio) -> None:
    studio.keep(CONTENT)
    assert found(studio, GENERATOR) == studio.object(MD5)


@pytest.mark.parametrize("folder", [False, True])
def test_a_print_that_tells_no_md5_has_an_upscaler_that_some_dvc_lock_names(
    studio: KeptStudio, folder: bool
) -> None:
    name = studio.keep(CONTENT)
    path = "data/upscaler/upscaler.safetensors"
    if folder:
        name, path = studio.keep_folder({"upscaler.safetensors": CONTENT}), "data/upscaler"
    studio.commit("once", lock_text(name).replace("data/model/generator.safetensors", path))
    studio.keep(b"another")
    studio.commit("now", lock_text(hashlib.md5(b"another").hexdigest()))
    assert found(studio, UPSCALER) == studio.object(MD5)


def test_digests_that_belong_to_two_files_are_a_provenance_that_was_edited(studio: KeptStudio) -> None:
    studio.keep(b"another")
    edited = Wanted("generator", SHA256, hashlib.md5(b"another").hexdigest())
    with pytest.raises(AtelierError, match="the provenance was edited"):
        found(studio, edited)
    studio.write("models/mine.safetensors", CONTENT.decode())
    with pytest.raises(AtelierError, match="the provenance was edited"):
        found(studio, edited)


def test_a_model_that_is_gone_is_trained_again_by_the_commit_that_made_it(studio: KeptStudio) -> None:
    first = studio.commit("made", lock_text(MD5))
    studio.commit("kept", **{"notes.txt": "still the same model"})
    with pytest.raises(AtelierError) as error:
        found(studio, GENERATOR)
    assert f"Commit {first[:10]}" in str(error.value)
    assert f"checkout {first[:12]}`, then `dvc --cd ../studio.again repro train`" in str(error.value)


def test_what_nobody_here_has_ever_named_is_said_so(studio: KeptStudio) -> None:
    studio.commit("mine", lock_text("c" * 32))
    with pytest.raises(AtelierError, match="no commit here names it"):
        found(studio, GENERATOR)
    with pytest.raises(AtelierError, match="put its file into models/"):
        found(studio, Wanted("external network", SHA256, None))
