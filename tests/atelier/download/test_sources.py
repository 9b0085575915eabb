"""A folder as the source, the gallery's versions, and hosts that forbid everything."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from atelier.download.sources import (
    MAX_FORBIDDEN_AT_FIRST,
    MAX_FORBIDDEN_IN_A_ROW,
    FolderSource,
    gallery_version,
)
from atelier.web.response import FetchError
from tests.downloads import LIMITS, offers, run_download, source_of, work
from tests.lookalike import lookalike
from tests.pictures import jpeg


def test_files_of_a_folder_arrive_and_paths_out_of_it_do_not(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    (folder / "sea").mkdir(parents=True)
    (folder / "sea" / "große Welle (1).jpeg").write_bytes(jpeg((1, 2, 250), (96, 64)))
    (folder / "notes.txt").write_text("not a picture")
    (tmp_path / "secret.jpg").write_bytes(jpeg((250, 2, 1), (96, 64)))
    os.mkfifo(folder / "pipe.jpg")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "large.jpg").write_bytes(bytes(LIMITS.max_bytes + 1))
    expected = {
        "sea/große Welle (1).jpeg": "ok", "notes.txt": "not-an-image", "absent.jpg": "missing",
        "../secret.jpg": "refused", str(tmp_path / "secret.jpg"): "refused", "pipe.jpg": "refused",
        "loop.jpg": "refused", f"{'long' * 100}.jpg": "refused",
        "sea": "refused", "notes.txt/a.jpg": "missing", "large.jpg": "too-large",
    }  # fmt: skip
    works = [work(f"w{n}", name) for n, name in enumerate(expected)]
    records = run_download(tmp_path / "kept", FolderSource(folder, LIMITS.max_bytes), works)
    assert {works[n].image_url: records[f"w{n}"].status for n in range(len(works))} == expected


def test_a_replaced_file_is_read_again(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    works = [work("a", "a.png")]
    digests = []
    for colour in ((1, 2, 250), (250, 2, 1)):
        (folder / "a.png").write_bytes(jpeg(colour, (96, 64)))
        digests.append(run_download(tmp_path / "kept", FolderSource(folder, LIMITS.max_bytes), works)["a"].sha256)
    assert digests[0] != digests[1]
    (folder / "a.png").unlink()
    assert run_download(tmp_path / "kept", FolderSource(folder, LIMITS.max_bytes), works)["a"].status == "missing"


@pytest.mark.parametrize("status", ["401", "403"])
def test_a_host_that_forbids_everything_gets_requests_for_five_works(status: str) -> None:
    offered = [replace(offer, behaviour=status) for offer in offers(20)]
    with lookalike({"genre/marina": offered}) as site, source_of(site) as source:
        reasons = []
        for offer in offered:
            for address in (
                site.url_of(offer) + "!Large.jpg",
                site.url_of(offer),
            ):  # a work has several addresses
                site.fail(address.removeprefix(site.base_url), status)
                with pytest.raises(FetchError) as caught:
                    source.fetch(work(offer.id, address))
                reasons.append(caught.value.reason)
                assert caught.value.kind == "refused"
        assert len(site.requests) == 2 * MAX_FORBIDDEN_AT_FIRST
        assert reasons[0] == f"HTTP {status}" and "for 5 works in a row and is left alone" in reasons[-1]


def test_a_host_that_gives_some_works_may_forbid_more() -> None:
    offered = offers(2 * MAX_FORBIDDEN_IN_A_ROW)
    forbidden = [replace(offer, behaviour="403") for offer in offered[1:]]
    with lookalike({"genre/marina": [offered[0], *forbidden]}) as site, source_of(site) as source:
        assert source.fetch(work(offered[0].id, site.url_of(offered[0]))).content == offered[0].image
        for offer in forbidden:
            with pytest.raises(FetchError):
                source.fetch(work(offer.id, site.url_of(offer)))
        assert len(site.requests) == 1 + MAX_FORBIDDEN_IN_A_ROW


def test_the_gallery_version_depends_on_seed_and_size() -> None:
    assert gallery_version(1, 512) == gallery_version(1, 512)
    assert len({gallery_version(1, 512), gallery_version(2, 512), gallery_version(1, 256)}) == 3
