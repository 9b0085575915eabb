"""A folder as the source, and the gallery's editions."""

import os
from pathlib import Path

from atelier.download.sources import Folder, gallery_edition
from tests.downloads import LIMITS, bring, work
from tests.pictures import jpeg


def test_a_folders_files_arrive_and_its_traps_do_not(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    (folder / "sea").mkdir(parents=True)
    (folder / "sea" / "große Welle (1).jpeg").write_bytes(jpeg((1, 2, 250), (96, 64)))
    (folder / "notes.txt").write_text("not a picture")
    (tmp_path / "secret.jpg").write_bytes(jpeg((250, 2, 1), (96, 64)))
    os.mkfifo(folder / "pipe.jpg")
    (folder / "large.jpg").write_bytes(bytes(LIMITS.max_bytes + 1))
    expected = {
        "sea/große Welle (1).jpeg": "ok", "notes.txt": "not-an-image", "absent.jpg": "missing",
        "../secret.jpg": "refused", str(tmp_path / "secret.jpg"): "refused", "pipe.jpg": "refused",
        "sea": "refused", "notes.txt/a.jpg": "missing", "large.jpg": "too-large",
    }  # fmt: skip
    works = [work(f"w{n}", name) for n, name in enumerate(expected)]
    entries = bring(tmp_path / "kept", Folder(folder, LIMITS.max_bytes), works)
    assert {works[n].image_url: entries[f"w{n}"].status for n in range(len(works))} == expected


def test_a_file_that_was_replaced_is_read_again(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    works = [work("a", "a.png")]
    seen = []
    for colour in ((1, 2, 250), (250, 2, 1)):
        (folder / "a.png").write_bytes(jpeg(colour, (96, 64)))
        seen.append(bring(tmp_path / "kept", Folder(folder, LIMITS.max_bytes), works)["a"].sha256)
    assert seen[0] != seen[1]
    (folder / "a.png").unlink()
    assert bring(tmp_path / "kept", Folder(folder, LIMITS.max_bytes), works)["a"].status == "missing"


def test_another_gallery_is_another_edition() -> None:
    assert gallery_edition(1, 512) == gallery_edition(1, 512)
    assert len({gallery_edition(1, 512), gallery_edition(2, 512), gallery_edition(1, 256)}) == 3
