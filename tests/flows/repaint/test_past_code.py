"""Finding earlier versions of the code in git: which are tried, and which are not trusted."""

import io
import tarfile
from pathlib import Path

import pytest

from flows.repaint import job
from flows.repaint.job import extract, find_versions
from tests.flows.histories import A, B, Repository

ENTRY_POINT = {"atelier/provenance/repaint.py": "entry point\n", "atelier/errors.py": "errors\n"}


def lock(model: str, *code: str) -> str:
    deps = "".join(f"    - path: {path}\n      md5: {'d' * 32}\n" for path in code)
    return (
        f"schema: '2.0'\nstages:\n  generate:\n    cmd: python -m tasks.generate\n    deps:\n{deps}"
        f"    - path: data/model/generator.safetensors\n      md5: {model}\n"
    )


PAINTING = lock(A, "atelier/canvas/paint.py")


@pytest.fixture
def repository(tmp_path: Path, environment: dict[str, str]) -> Repository:
    return Repository.new(tmp_path / "studio", environment)


def test_each_version_of_the_painting_code_is_listed_once_newest_first(repository: Repository) -> None:
    painting = {"first": "1\n", "second": "2\n"}
    repository.commit("first", PAINTING, **ENTRY_POINT, **{"atelier/canvas/paint.py": painting["first"]})
    same = repository.commit("a bar", **{"atelier/errors.py": "more\n"})
    second = repository.commit("second", **{"atelier/canvas/paint.py": painting["second"]})
    repository.commit("of another model", lock(B, "atelier/canvas/paint.py"), **{"atelier/canvas/paint.py": "3\n"})
    found = find_versions(repository.root, A, ("generate",))
    assert [code.commit.id for code in found.codes] == [second, same]
    assert (found.untrusted, found.unable, found.more) == ((), 0, 0)
    folder = extract(repository.root, found.codes[1])
    assert (folder / "atelier/canvas/paint.py").read_text() == painting["first"]
    assert extract(repository.root, found.codes[1]) == folder


def test_the_present_code_is_not_listed_unless_it_was_edited(repository: Repository) -> None:
    only = repository.commit("only", PAINTING, **ENTRY_POINT, **{"atelier/canvas/paint.py": "1\n"})
    assert find_versions(repository.root, A, ("generate",)).codes == ()
    repository.write("atelier/canvas/paint.py", "2\n")
    assert [code.commit.id for code in find_versions(repository.root, A, ("generate",)).codes] == [only]


def test_code_that_only_a_remote_branch_reaches_is_named_but_not_extracted(
    repository: Repository, tmp_path: Path, environment: dict[str, str]
) -> None:
    repository.commit("mine", PAINTING, **ENTRY_POINT, **{"atelier/canvas/paint.py": "1\n"})
    repository.git("checkout", "-q", "-b", "theirs")
    theirs = repository.commit("theirs", **{"atelier/canvas/paint.py": "rm -rf\n"})
    repository.git("checkout", "-q", "main")
    repository.git("clone", "-q", str(repository.root), str(tmp_path / "clone"))
    clone = Repository(tmp_path / "clone", environment)
    found = find_versions(clone.root, A, ("generate",))
    assert (found.codes, [commit.id for commit in found.untrusted]) == ((), [theirs])
    clone.git("branch", "trusted", theirs)
    (code,) = find_versions(clone.root, A, ("generate",)).codes
    assert code.commit.id == theirs
    clone.git("branch", "-D", "trusted")
    assert find_versions(clone.root, A, ("generate",)).codes == ()


def test_code_that_cannot_paint_again_is_counted(repository: Repository) -> None:
    repository.commit("old", PAINTING, **{"atelier/canvas/paint.py": "1\n"})
    repository.commit("new", **ENTRY_POINT, **{"atelier/canvas/paint.py": "2\n"})
    found = find_versions(repository.root, A, ("generate",))
    assert (found.codes, found.unable) == ((), 1)
    assert find_versions(repository.root, B, ("generate",)).unable == 0


def test_outside_of_git_no_version_is_found(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text(PAINTING)
    assert find_versions(tmp_path, A, ("generate",)).codes == ()


def test_code_is_extracted_without_links_and_only_into_its_folder(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in ("atelier/x.py", "../above.py", "/absolute.py", "atelier/../../b.py"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
        link = tarfile.TarInfo("atelier/link.py")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    archive.seek(0)
    (tmp_path / "to").mkdir()
    with tarfile.open(fileobj=archive) as tar:
        job._extract(tar, tmp_path / "to")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.py")] == ["to/atelier/x.py"]


def test_no_option_is_used_that_the_git_and_python_of_ubuntu_22_04_and_debian_12_lack() -> None:
    newer = (
        "--object-only",
        "--no-commit-header",
        "extractall(",
    )  # git 2.36, 2.33; Python 3.11.4 for its filter
    for path in Path("flows").rglob("*.py"):
        code = "\n".join(line.split("  #")[0] for line in path.read_text().splitlines())
        assert not [word for word in newer if f'"{word}"' in code or f".{word}" in code], path
