"""The champion between nights: what a night changes for its sake, its version, and where its bytes are when needed."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from atelier.errors import AtelierError
from atelier.model_store import store_model
from atelier.settings.schema import Params
from flows.clones.night_clone import set_params
from flows.night.champion import Champion, champion, model, night_params, promote
from tests.flows.person import Studio

NIGHT = "2026-11-24"


def write_model(directory: Path, facts: Mapping[str, object], weights: str = "weights") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    told = {"arch": "sketch", "resolution": 64, "settings": {"nz": 100, "ngf": 24, "ndf": 24, "noise": 8}}
    told |= {"paintings": 540, "dataset_sha256": "d" * 64, **facts}
    (directory / "model.json").write_text(json.dumps(told))
    (directory / "generator.safetensors").write_text(weights)
    return directory


def kept(root: Path, **facts: object) -> Champion:
    """A champion of the shipped settings, or with other facts."""
    path = store_model(root / "models", "champion", lambda place: (write_model(place, facts), None)[1])
    found = model(path)
    return Champion(
        path.relative_to(root), "1.2.3", found.generator_sha256, found.dataset_sha256, NIGHT, found.paintings
    )


def params(**sections: Mapping[str, object]) -> Params:
    return Params.model_validate(sections)


def test_a_first_night_differs_from_the_users_settings_by_its_date(tmp_path: Path):
    for mode in ("continue", "fresh"):
        asked = params(nightly={"mode": mode, "kimg": 5})
        assert night_params(asked, None, NIGHT, tmp_path) == {"scrape.snapshot": NIGHT}


def test_a_night_trains_on_from_the_champion_with_seeds_of_its_own(tmp_path: Path):
    best = kept(tmp_path)
    changes = {
        "scrape.snapshot": NIGHT, "train.init_from": best.path.as_posix(), "train.generation": 20261124,
    }  # fmt: skip
    assert night_params(params(), best, NIGHT, tmp_path) == changes
    assert night_params(params(nightly={"kimg": 5}), best, NIGHT, tmp_path) == {**changes, "train.kimg": 5}


@pytest.mark.parametrize("facts", [{"arch": "dcgan"}, {"resolution": 128}, {"settings": {"nz": 100}}])
def test_where_the_champion_does_not_fit_the_settings_a_night_begins_anew(tmp_path: Path, facts: dict):
    best = kept(tmp_path, **facts)
    assert night_params(params(), best, NIGHT, tmp_path) == {"scrape.snapshot": NIGHT}
    merged = params(train={"init_from": best.path.as_posix()})
    assert night_params(merged, best, NIGHT, tmp_path)["train.init_from"] == "auto"


def test_a_fresh_night_starts_where_the_user_does_and_never_from_an_earlier_nights_champion(tmp_path: Path):
    best = kept(tmp_path)
    fresh: dict[str, object] = {"mode": "fresh"}
    own = params(nightly=fresh, train={"init_from": "models/barrat-0123456789abcdef", "generation": 3})
    assert night_params(own, best, NIGHT, tmp_path) == {"scrape.snapshot": NIGHT}
    merged = params(nightly=fresh, train={"init_from": best.path.as_posix(), "generation": 20261123})
    assert night_params(merged, best, NIGHT, tmp_path) == {
        "scrape.snapshot": NIGHT,
        "train.init_from": "auto",
    }


def test_a_nights_settings_keep_the_comments_and_quotes_of_the_file(person: Studio):
    clone = person.prepare()
    changes = set_params(clone, {"scrape.snapshot": NIGHT, "train.generation": 20261124})
    assert [change.after for change in changes] == [NIGHT, 20261124]
    before = (person.root / "params.yaml").read_text().splitlines()
    after = (clone.root / "params.yaml").read_text().splitlines()
    assert [line for line in after if line not in before] == [
        '  snapshot: "2026-11-24"     # a quoted date, any: change it to ask the source again',
        "  generation: 20261124       # raise it to train again with everything else equal",
    ]


def test_versions_tell_what_changed_and_none_is_given_twice(promoted: Studio):
    promoted.git("tag", "atelier@v1.0.1")  # of nobody knows whom
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


def test_after_the_branch_was_deleted_everything_begins_anew_but_the_versions(promoted: Studio):
    promoted.git("branch", "-q", "-D", "nightly")
    clone, best = promoted.evening("2026-11-25")
    assert best is None
    assert promote(clone, None, "2026-11-25", "the first", print).version == "2.0.0"


def test_a_champion_comes_from_the_cache_then_from_the_remote_or_is_missed_in_words(promoted: Studio):
    store, cache = promoted.root.parent / "store", promoted.root / ".dvc/cache"
    clone = promoted.prepare()
    best = champion(clone)
    assert best
    place = clone.root / best.path

    shutil.rmtree(cache)  # but not the clone's own copy, which goes back into it
    assert champion(clone) == best
    shutil.rmtree(place)
    assert champion(clone) == best
    (place / "generator.safetensors").chmod(0o644)
    (place / "generator.safetensors").write_text("somebody else's")
    assert champion(clone) == best
    assert model(place).generator_sha256 == best.generator_sha256

    promoted.dvc("remote", "add", "-d", "--local", "store", str(store))
    clone = promoted.prepare()
    promoted.at(clone.root).dvc("push", "-q", f"{best.path}.dvc")
    shutil.rmtree(cache)
    shutil.rmtree(place)
    assert champion(clone) == best
    for kept in (store, cache, place):
        shutil.rmtree(kept)
    with pytest.raises(AtelierError, match=r"nor in the remote .*store \(dvc pull"):
        champion(clone)
    assert not place.exists()

    (promoted.root / ".dvc/config.local").unlink()
    sentence = (
        rf"the champion, {best.path} of atelier@v1\.0\.0, is neither in DVC's cache and no remote is set"
    )
    with pytest.raises(AtelierError, match=sentence):
        champion(promoted.prepare())


@pytest.mark.parametrize(
    "told",
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
def test_a_damaged_champion_json_is_no_champion(person: Studio, told: str):
    (person.root / "models").mkdir()
    (person.root / "models/champion.json").write_text(told)
    person.commit("whatever")
    with pytest.raises(AtelierError, match=r"champion.json (is damaged|names no champion)"):
        champion(person.prepare())


def test_the_champion_itself_and_stale_stages_are_not_promoted(promoted: Studio):
    clone = promoted.prepare()
    best = champion(clone)
    set_params(clone, {"scrape.snapshot": NIGHT})
    with pytest.raises(AtelierError, match=r"models/champion-[0-9a-f]{16} is the champion already"):
        promote(clone, best, NIGHT, "again", print)
    set_params(clone, {"train.kimg": 3})
    with pytest.raises(AtelierError, match="train is stale: the stages come before the promotion"):
        promote(clone, best, NIGHT, "unfinished", print)
    assert promoted.git("rev-parse", "nightly") == clone.tip
