"""Objects of DVC's, asked for by their hash: a real cache, a real remote."""

import os
import shutil
from pathlib import Path

import pytest

from atelier.files import digest
from flows.repo import storage
from tests.flows.dvc_command import dvc

NOWHERE = "0123456789" * 3 + "01"  # YAML would take it for a number


@pytest.fixture(scope="module")
def _template(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    root = tmp_path_factory.mktemp("objects") / "studio"
    (root / "d").mkdir(parents=True)
    for name, text in (("a", "sea"), ("d/x", "sky"), ("d/y", "sail")):
        (root / name).write_text(text)
    for words in ("init -q --no-scm", "remote add -q -d store ../remote", "add -q a d", "push -q"):
        dvc(root, environment, *words.split())
    shutil.rmtree(root / ".dvc/cache")
    return root.parent


@pytest.fixture
def pushed(tmp_path: Path, _template: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A studio whose cache is empty: a file `a` and a folder `d` are in its remote, a path relative to it."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    shutil.copytree(_template, tmp_path, dirs_exist_ok=True)
    return tmp_path / "studio"


def test_what_the_cache_lacks_comes_from_the_remote_and_stays(pushed: Path) -> None:
    said: list[str] = []
    folder = next((pushed.parent / "remote").rglob("*.dir"))
    names = [digest(pushed / "a", "md5"), f"{folder.parent.name}{folder.name}", NOWHERE]
    found = storage.fetch_objects(names, said.append, pushed)
    assert list(found) == names[:2]
    assert found[names[0]].read_text() == "sea"
    assert '"relpath": "x"' in found[names[1]].read_text()
    (sentence,) = said
    assert NOWHERE in sentence and str(pushed.parent / "remote") in sentence

    (pushed.parent / "remote").rename(pushed.parent / "unplugged")
    sky = digest(pushed / "d/x", "md5")
    assert storage.fetch_objects([*names[:2], sky], said.append, pushed)[sky].read_text() == "sky"
    assert len(said) == 1


def test_an_object_that_was_replaced_is_named_and_not_given(pushed: Path) -> None:
    said: list[str] = []
    name = digest(pushed / "a", "md5")
    place = storage.fetch_objects([name], said.append, pushed)[name]
    place.chmod(0o644)
    place.write_text("not the sea")
    assert storage.fetch_objects([name], said.append, pushed) == {}
    assert said == [
        f"{place} does not hold what it is named for: it is damaged or was replaced; delete it, and ask again"
    ]


def test_without_a_remote_or_without_dvc_the_reason_is_said(pushed: Path, tmp_path: Path) -> None:
    said: list[str] = []
    dvc(pushed, dict(os.environ), "remote", "remove", "-q", "store")
    assert storage.fetch_objects([NOWHERE], said.append, pushed) == {}
    assert "dvc remote add -d" in said.pop()
    assert storage.fetch_objects([NOWHERE], said.append, tmp_path) == {}
    assert "no DVC repository" in said.pop()


@pytest.mark.parametrize("name", ["../../etc/passwd", "A" * 32, "a" * 31, f"{'a' * 32}\n", f"{'a' * 32}.txt"])
def test_nothing_but_an_md5_is_a_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no md5"):
        storage.fetch_objects([name], print, tmp_path)
