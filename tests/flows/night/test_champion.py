"""The champion: the settings of a night that trains from it, its version, and fetching its files."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from atelier.errors import AtelierError
from atelier.model_store import store_model
from atelier.settings.edit import edit_params
from atelier.settings.schema import Params
from flows.night.champion import Champion, load_champion, night_params, promote, read_model
from tests.flows.person import Studio

NIGHT = "2026-11-24"


def write_model(directory: Path, facts: Mapping[str, object], weights: str = "weights") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    content = {"arch": "sketch", "resolution": 64, "settings": {"nz": 100, "ngf": 24, "ndf": 24, "noise": 8}}
    content |= {"paintings": 540, "dataset_sha256": "d" * 64, **facts}
    (directory / "model.json").write_text(json.dumps(content))
    (directory / "generator.safetensors").write_text(weights)
    return directory


def kept(root: Path, **facts: object) -> Champion:
    """A champion of the shipped settings, or with other facts."""
    path = store_model(root / "models", "champion", lambda place: (write_model(place, facts), None)[1])
    found = read_model(path)
    return Champion(
        path.relative_to(root), "1.2.3", found.generator_sha256, found.dataset_sha256, NIGHT, found.paintings
    )


def params(**sections: Mapping[str, object]) -> Params:
    return Params.model_validate(sections)


def test_the_first_night_changes_only_the_snapshot_date(tmp_path: Path):
    for mode in ("continue", "fresh"):
        wanted = params(nightly={"mode": mode, "kimg": 5})
        assert night_params(wanted, None, NIGHT, tmp_path) == {"scrape.snapshot": NIGHT}


def test_a_night_continues_from_the_champion_with_its_own_seeds(tmp_path: Path):
    best = kept(tmp_path)
    changes = {
        "scrape.snapshot": NIGHT, "train.init_from": best.path.as_posix(), "train.generation": 20261124,
    }  # fmt: skip
    assert night_params(params(), best, NIGHT, tmp_path) == changes
    assert night_params(params(nightly={"kimg": 5}), best, NIGHT, tmp_path) == {**changes, "train.kimg": 5}


def test_a_champion_with_labels_is_continued_whatever_tonights_labels_are(tmp_path: Path):
    settings = {"nz": 100, "ngf": 24, "ndf": 24, "noise": 8}
    labels = {"labels": ["marine", "landscape"], "label_counts": [30, 20], "labels_of": "genre", "unlabelled": 0}
    best = kept(tmp_path, settings={**settings, **labels})
    for wanted in ("none", "genre"):
        assert "train.init_from" in night_params(params(train={"labels": wanted}), best, NIGHT, tmp_path)


@pytest.mark.parametrize("facts", [{"arch": "dcgan"}, {"resolution": 128}, {"settings": {"nz": 100}}])
def test_a_champion_of_other_settings_is_not_continued(tmp_path: Path, facts: dict):
    best = kept(tmp_path, **facts)
    assert night_params(params(), best, NIGHT, tmp_path) == {"scrape.snapshot": NIGHT}
    merged = params(train={"init_from": best.path.as_posix()})
    assert night_params(merged, best, NIGHT, tmp_path)["train.init_from"] == "auto"


def test_a_fresh_night_starts_from_the_users_model_and_never_from_a_champion(tmp_path: Path):
    best = kept(tmp_path)
    fresh: dict[str, object] = {"mode": "fresh"}
    own = params(nightly=fresh, train={"init_from": "models/barrat-0123456789abcdef", "generation": 3})
    assert night_params(own, best, NIGHT, tmp_path) == {"scrape.snapshot": NIGHT}
    merged = params(nightly=fresh, train={"init_from": best.path.as_posix(), "generation": 20261123})
    assert night_params(merged, best, NIGHT, tmp_path) == {
        "scrape.snapshot": NIGHT,
        "train.init_from": "auto",
    }


def test_setting_a_nights_params_keeps_comments_and_quotes(person: Studio):
    clone = person.prepare()
    changes = edit_params(clone.root / "params.yaml", {"scrape.snapshot": NIGHT, "train.generation": 20261124})
    assert [change.after for change in changes] == [NIGHT, 20261124]
    before = (person.root / "params.yaml").read_text().splitlines()
    after = (clone.root / "params.yaml").read_text().splitlines()
    assert [line for line in after if line not in before] == [
        '  snapshot: "2026-11-24"     # any quoted date; another date asks the source again',
        "  generation: 20261124       # raise it to train again with other random numbers and the same settings",
    ]


def test_versions_follow_what_changed_and_skip_existing_tags(promoted: Studio):
    promoted.git("tag", "atelier@v1.0.1")  # not made by a night
    promoted.git("checkout", "-q", "params.yaml")
    _, same = promoted.night("2026-11-25")
    assert same.version == "1.0.2"

    promoted.set("arch: sketch", "arch: dcgan")
    promoted.commit("another architecture")
    promoted.paint("cliffs")
    clone, best = promoted.evening("2026-11-26")
    assert best == replace(best, version="1.0.2", night="2026-11-25", paintings=1)
    assert "init_from: auto" in (clone.root / "params.yaml").read_text()
    other = promote(clone, best, "2026-11-26", "another architecture", print)
    assert other.version == "2.0.0"


def test_after_the_branch_is_deleted_nights_start_over_but_versions_continue(promoted: Studio):
    promoted.git("branch", "-q", "-D", "nightly")
    clone, best = promoted.evening("2026-11-25")
    assert best is None
    assert promote(clone, None, "2026-11-25", "the first", print).version == "2.0.0"


def test_a_champion_comes_from_the_cache_then_from_the_remote_else_an_error_says_so(promoted: Studio):
    store, cache = promoted.root.parent / "store", promoted.root / ".dvc/cache"
    clone = promoted.prepare()
    best = load_champion(clone)
    assert best
    place = clone.root / best.path

    shutil.rmtree(cache)  # the clone's own copy is added to the cache again
    assert load_champion(clone) == best
    shutil.rmtree(place)
    assert load_champion(clone) == best
    (place / "generator.safetensors").chmod(0o644)
    (place / "generator.safetensors").write_text("somebody else's")
    assert load_champion(clone) == best
    assert read_model(place).generator_sha256 == best.generator_sha256

    promoted.dvc("remote", "add", "-d", "--local", "store", str(store))
    clone = promoted.prepare()
    promoted.at(clone.root).dvc("push", "-q", f"{best.path}.dvc")
    shutil.rmtree(cache)
    shutil.rmtree(place)
    assert load_champion(clone) == best
    for kept in (store, cache, place):
        shutil.rmtree(kept)
    with pytest.raises(AtelierError, match=r"nor in the remote .*store \(dvc pull"):
        load_champion(clone)
    assert not place.exists()

    (promoted.root / ".dvc/config.local").unlink()
    sentence = rf"the champion, {best.path} of atelier@v1\.0\.0, is neither in DVC's cache and no remote is set"
    with pytest.raises(AtelierError, match=sentence):
        load_champion(promoted.prepare())


@pytest.mark.parametrize(
    "content",
    [
        "half a fi",
        "[]",
        json.dumps({"path": "models/champion-0123456789abcdef"}),
        json.dumps(
            {
                "path": "../../etc/champion-0123456789abcdef", "version": "1.0.0", "generator_sha256": "",
                "dataset_sha256": "", "night": NIGHT, "paintings": 1,
            }
        ),
    ],
)  # fmt: skip
def test_a_damaged_champion_json_is_an_error(person: Studio, content: str):
    (person.root / "models").mkdir()
    (person.root / "models/champion.json").write_text(content)
    person.commit("whatever")
    with pytest.raises(AtelierError, match=r"champion.json (is damaged|names no champion)"):
        load_champion(person.prepare())


def test_neither_the_champion_itself_nor_stale_stages_are_promoted(promoted: Studio):
    clone = promoted.prepare()
    best = load_champion(clone)
    edit_params(clone.root / "params.yaml", {"scrape.snapshot": NIGHT})
    with pytest.raises(AtelierError, match=r"models/champion-[0-9a-f]{16} is the champion already"):
        promote(clone, best, NIGHT, "again", print)
    edit_params(clone.root / "params.yaml", {"train.kimg": 3})
    with pytest.raises(AtelierError, match="train is not up to date: nothing is promoted"):
        promote(clone, best, NIGHT, "unfinished", print)
    assert promoted.git("rev-parse", "nightly") == clone.tip
