"""The history of dvc.lock and champion.json, read from real git repositories, and networks found by digest."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from atelier.errors import AtelierError
from flows.records import history
from flows.records.history import NetworkKey, Networks
from tests.flows.histories import A, B, Repository, lock_text
from tests.flows.kept_studio import KeptStudio

CONTENT = b"weights"
MD5, SHA256 = hashlib.md5(CONTENT).hexdigest(), hashlib.sha256(CONTENT).hexdigest()
GENERATOR = NetworkKey("generator", SHA256, MD5)
UPSCALER = NetworkKey("upscaler", SHA256, MD5)


@pytest.fixture
def repository(tmp_path: Path, environment: dict[str, str]) -> Repository:
    return Repository.new(tmp_path / "studio", environment)


def test_each_version_of_dvc_lock_is_listed_once_with_all_its_commits_and_tags(repository) -> None:
    first = repository.commit("one", lock=lock_text(A))
    repository.git("tag", "atelier@v1.0.0")
    second = repository.commit("something else", other="text")
    third = repository.commit("two", lock=lock_text(B))
    found = history.locks(repository.root)
    assert [[commit.id for commit in lock.commits] for lock in found] == [[third], [second, first]]
    assert [lock.in_work_tree for lock in found] == [True, False]
    assert [commit.tags for commit in found[1].commits] == [(), ("atelier@v1.0.0",)]
    assert found[1].stages["train"].outs == {"data/model/generator.safetensors": A}
    assert found[1].stages["generate"].params == {"params.yaml": {"generate": {"canvas": [1, 8]}}}


def test_the_work_trees_lock_comes_first_even_if_no_commit_contains_it(repository) -> None:
    repository.commit("one", lock=lock_text(A))
    repository.write("dvc.lock", lock_text(B))
    own, committed = history.locks(repository.root)
    assert own.in_work_tree and own.commits == () and B in str(own.stages)
    assert not committed.in_work_tree


def test_only_locks_that_contain_the_text_are_returned(repository) -> None:
    repository.commit("one", lock=lock_text(A))
    repository.commit("two", lock=lock_text(B))
    assert [A in str(lock.stages) for lock in history.locks(repository.root, containing=A)] == [True]
    assert history.locks(repository.root, containing="c" * 32) == []


def test_commits_that_only_a_remote_branch_or_an_experiment_reaches_are_not_trusted(repository) -> None:
    base = repository.commit("one", lock=lock_text(A))
    repository.git("update-ref", "refs/heads/other", base)
    loose = repository.commit_aside("theirs", lock_text(B))
    repository.git("update-ref", "refs/remotes/origin/theirs", loose)
    repository.git("update-ref", f"refs/exps/{base[:2]}/{base[2:]}/lr-3", loose)
    trusted, stranger = sorted(history.locks(repository.root), key=lambda lock: B in str(lock.stages))
    assert [commit.trusted for commit in trusted.commits] == [True]
    assert [(commit.trusted, commit.experiments) for commit in stranger.commits] == [(False, ("lr-3",))]
    repository.git("tag", "-a", "-m", "mine now", "adopted", loose)
    (adopted,) = history.locks(repository.root, containing=B)[0].commits
    assert adopted.trusted and adopted.tags == ("adopted",)


def test_control_characters_are_removed_from_subjects(repository) -> None:
    repository.commit("a \x1b[2J\rsubject", lock=lock_text(A))
    assert history.locks(repository.root)[0].commits[0].subject == "a [2J subject"


def test_without_git_or_commits_only_the_work_trees_lock_is_listed(repository, tmp_path) -> None:
    repository.write("dvc.lock", lock_text(A))
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/dvc.lock").write_text(lock_text(B))
    for root, md5 in ((repository.root, A), (tmp_path / "bare", B)):
        (own,) = history.locks(root)
        assert own.in_work_tree and own.commits == () and md5 in str(own.stages)
    assert history.locks(tmp_path) == [] and history.champions(tmp_path) == []


def test_champions_are_listed_by_version_and_invalid_files_are_skipped(repository) -> None:
    told = '{"version": "1.2.0", "generator_sha256": "%s", "night": "2026-11-24"}' % ("c" * 64)
    night = repository.commit("night", **{"models/champion.json": told})
    repository.commit("a mistake", **{"models/champion.json": '{"version": []}'})
    (champion,) = history.champions(repository.root)
    assert (champion.version, champion.generator_sha256, [commit.id for commit in champion.commits]) == (
        "1.2.0",
        "c" * 64,
        [night],
    )


HOSTILE = {
    "no YAML": b"\t{[",
    "a list": b"- a\n",
    "nothing": b"",
    "deep brackets": b"[" * 200_000,
    "a deep sequence": b"- " * 200_000,
    "merge keys": b"a: &a {k: v}\nb: {<<: [*a, *a]}\n",
    "aliases": b"".join(b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 9)),
    "code": b"stages: !!python/object/apply:os.system ['touch executed']\n",
    "bytes": b"\xff\xfe\x00" * 9,
    "stages as text": b"stages: abc\n",
    "a path as tree": b"stages: {train: {outs: [{path: {a: b}, md5: %s}]}}\n" % (b"a" * 32),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_lock_is_rejected_and_nothing_in_it_is_executed(text, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert history.parse_lock(text) is None
    assert not list(tmp_path.iterdir())


def test_a_path_in_place_of_an_md5_is_ignored() -> None:
    lock = history.parse_lock(lock_text("../" * 10 + "ab").encode())
    assert lock is not None and lock["train"].outs == {}


def test_locks_are_found_in_a_studio_below_the_repositorys_root(repository) -> None:
    (repository.root / "below").mkdir()
    repository.commit("one", **{"below/dvc.lock": lock_text(A)})
    assert len(history.locks(repository.root / "below")) == 1
    assert history.locks(repository.root) == []


def test_a_history_of_a_thousand_commits_needs_few_git_commands(repository, monkeypatch) -> None:
    repository.fast_import(1000)
    asked = []
    real = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *args, **kw: (asked.append(args), real(*args, **kw))[1])
    found = history.locks(repository.root)
    assert sum(len(lock.commits) for lock in found) == 1000 and len(found) == 250
    assert len(asked) < 15


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
