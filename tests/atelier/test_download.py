"""Every good painting arrives, nothing bad does, and what has arrived is never asked for again."""

import errno
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from atelier.account import STATUSES, Entry, account_lines, read_account, write_account
from atelier.arrivals import Arrivals, Limits
from atelier.catalog import Work
from atelier.download import PATIENCE, download, kept_items
from atelier.errors import AtelierError
from atelier.images import ImageLimits, read_rgb
from atelier.polite import PoliteClient
from atelier.progress import Progress
from atelier.sources import Folder, Source, gallery_edition
from atelier.sources import Site as SiteSource
from tests.lookalike import Offer, Site, lookalike
from tests.pictures import encoded, jpeg

LIMITS = Limits(ImageLimits(min_side_px=32, max_pixels=1_000_000), max_bytes=1_000_000, size_px=None)


def offers(count: int, **changes: Any) -> list[Offer]:
    """Works whose pictures differ."""
    return [
        Offer(id=f"{n:024x}", image=jpeg((n * 37 % 256, n * 91 % 256, 255 - n % 256), (96, 64)), **changes)
        for n in range(count)
    ]


def work(id: str, image_url: str) -> Work:
    return Work(
        id=id, title="The Sea", artist="Anna Ancher", artist_slug="anna-ancher", year_text="1887", year=1887,
        genre="marina", style="", width=None, height=None, image_url=image_url, page_url="", rights="unknown",
        source="wikiart",
    )  # fmt: skip


@contextmanager
def source_of(site: Site, **changes: Any) -> Iterator[SiteSource]:
    settings = {"rate_per_s": None, "retries": 4, "timeout_s": 5.0, "backoff_s": 0.02, **changes}
    with PoliteClient(site.base_url, contact="", **settings) as client:
        yield SiteSource(client, LIMITS.max_bytes)


def bring(
    directory: Path, source: Source, works: Sequence[Work], limits: Limits = LIMITS, workers: int = 8
) -> dict[str, Entry]:
    """One run of the download."""
    with Progress("download", len(works), "works") as progress, Arrivals(directory, limits) as arrivals:
        entries = download(works, source, arrivals, workers, progress)
    assert [entry.id for entry in entries] == sorted(work.id for work in works)
    return {entry.id: entry for entry in entries}


def bring_from(directory: Path, site: Site, limits: Limits = LIMITS, **changes: Any) -> dict[str, Entry]:
    works = [work(offer.id, site.url_of(offer)) for offer in site.lists["genre/marina"]]
    with source_of(site, **changes) as source:
        return bring(directory, source, works, limits)


GOOD_IN_THE_END = [
    (), ("429",), ("500", "503"), ("drop",), ("truncate",), ("429", "drop", "truncate", "500"), ("redirect",),
    ("truncated-jpeg",), ("html-200",), ("empty",), ("wrong-type",), ("html-200", "truncated-jpeg"),
]  # fmt: skip
NEVER_GOOD = {
    "404": "missing",
    "403": "refused",
    "foreign-redirect": "refused",
    "redirect-loop": "refused",
    "500": "error",
    "truncate": "error",
    "truncated-jpeg": "truncated",
    "html-200": "not-an-image",
    "empty": "not-an-image",
    "wrong-type": "not-an-image",
    "placeholder": "placeholder",
    "bomb": "too-large",
    "gzip-bomb": "too-large",
    "huge": "too-large",
    "endless": "too-large",
}


def test_every_good_painting_arrives_nothing_bad_does_and_the_counts_add_up(tmp_path: Path) -> None:
    good = [
        replace(offer, faults=GOOD_IN_THE_END[n % len(GOOD_IN_THE_END)]) for n, offer in enumerate(offers(48))
    ]
    bad = [
        replace(offer, id=f"{1000 + n:024x}", behaviour=behaviour)
        for n, (offer, behaviour) in enumerate(zip(offers(len(NEVER_GOOD)), NEVER_GOOD, strict=True))
    ]
    with lookalike({"genre/marina": [*good, *bad]}) as site:
        entries = bring_from(tmp_path, site)
    assert len(entries) == len(good) + len(bad)
    for offer in good:
        entry = entries[offer.id]
        assert (entry.status, entry.width, entry.height, entry.bytes) == ("ok", 96, 64, len(offer.image)), (
            entry
        )
    for offer in bad:
        entry = entries[offer.id]
        assert entry.status == NEVER_GOOD[offer.behaviour], (offer.behaviour, entry)
        assert entry.reason
        assert entry.sha256 is entry.phash is entry.width is entry.height is entry.bytes is None
    assert set(Counter(entry.status for entry in entries.values())) <= set(STATUSES)


def test_what_arrives_is_kept_as_the_bytes_that_came(tmp_path: Path) -> None:
    offered = offers(5)
    with lookalike({"genre/marina": offered}) as site:
        works = [work(offer.id, site.url_of(offer)) for offer in offered]
        with source_of(site) as source:
            entries = list(bring(tmp_path, source, works).values())
            with Arrivals(tmp_path, LIMITS) as arrivals:
                items = list(kept_items(works, entries, source, arrivals))
    assert [(item.name, item.content) for item in items] == [(f"{o.id}.jpg", o.image) for o in offered]


def test_a_second_run_asks_for_nothing_that_is_settled(tmp_path: Path) -> None:
    lasting = ["404", "truncated-jpeg", "html-200", "empty", "wrong-type", "placeholder", "bomb", "huge"]
    bad = [replace(o, id=f"f{n:023x}", behaviour=lasting[n]) for n, o in enumerate(offers(len(lasting)))]
    with lookalike({"genre/marina": [*offers(20), *bad]}) as site:
        first = bring_from(tmp_path, site)
        site.requests.clear()
        assert bring_from(tmp_path, site) == first
        assert site.requests == []


def test_a_work_that_failed_for_the_sites_sake_is_asked_for_again(tmp_path: Path) -> None:
    offered = offers(6)
    with lookalike({"genre/marina": offered}) as site:
        for offer, trouble in zip(offered[:3], ("500", "403", "drop"), strict=True):
            site.fail(site.path_of(offer), *[trouble] * 5)
        first = bring_from(tmp_path, site)
        assert Counter(entry.status for entry in first.values()) == {"ok": 3, "error": 2, "refused": 1}
        site._faults.clear()
        site.requests.clear()
        second = bring_from(tmp_path, site)
        assert {entry.status for entry in second.values()} == {"ok"}
        assert {request.path for request in site.requests} == {site.path_of(offer) for offer in offered[:3]}


def test_a_challenge_page_that_changes_each_time_is_not_held_against_the_painting(tmp_path: Path) -> None:
    offer = offers(1)[0]

    class Challenging(SiteSource):
        looks = 0

        def fetch(self, work: Work) -> Any:
            self.looks += 1
            page = f"<html>Just a moment, visitor {self.looks}</html>".encode()
            return replace(super().fetch(work), content=page)

    with lookalike({"genre/marina": [offer]}) as site, source_of(site) as plain:
        works = [work(offer.id, site.url_of(offer))]
        challenging = Challenging(plain.client, plain.max_bytes)
        assert bring(tmp_path, challenging, works)[offer.id].status == "not-an-image"
        assert challenging.looks == 3
        with source_of(site) as again:
            assert bring(tmp_path, again, works)[offer.id].status == "ok"


def test_a_site_that_refuses_everyone_is_left_alone_and_what_has_arrived_is_kept(tmp_path: Path) -> None:
    with lookalike({"genre/marina": [replace(o, behaviour="403") for o in offers(4 * PATIENCE)]}) as site:
        with pytest.raises(AtelierError, match=rf"failed {PATIENCE} works in a row.*403.*kept"):
            bring_from(tmp_path, site)
        assert len(site.requests) < 2 * PATIENCE


def test_identical_bytes_are_duplicates_of_the_first_id(tmp_path: Path) -> None:
    one, two, three = offers(3)
    with lookalike(
        {"genre/marina": [replace(three, image=one.image), replace(two, image=one.image), one]}
    ) as site:
        entries = bring_from(tmp_path, site)
    assert [entries[offer.id].status for offer in (one, two, three)] == ["ok", "duplicate", "duplicate"]
    assert one.id in entries[three.id].reason
    assert entries[two.id].sha256 == entries[one.id].sha256


def test_larger_pictures_are_kept_smaller_and_smaller_ones_as_they_are(tmp_path: Path) -> None:
    large, small = offers(2)
    large = replace(large, image=encoded(Image.effect_noise((300, 200), 60).convert("CMYK"), "TIFF"))
    limits = replace(LIMITS, size_px=100)
    with lookalike({"genre/marina": [large, small]}) as site:
        works = [work(offer.id, site.url_of(offer)) for offer in (large, small)]
        with source_of(site) as source:
            entries = bring(tmp_path, source, works, limits)
            with Arrivals(tmp_path, limits) as arrivals:
                items = list(kept_items(works, list(entries.values()), source, arrivals))
    assert (entries[large.id].width, entries[large.id].height) == (150, 100)
    assert items[0].extension == "jpg"
    assert entries[large.id].bytes == len(items[0].content)
    assert read_rgb(items[0].content).size == (150, 100)
    assert items[1].content == small.image


def test_other_limits_judge_what_has_arrived_without_asking_again(tmp_path: Path) -> None:
    tiny = replace(offers(1)[0], id="f" * 24, image=jpeg((9, 99, 199), (40, 20)))
    with lookalike({"genre/marina": [*offers(5), tiny]}) as site:
        assert bring_from(tmp_path, site)[tiny.id].status == "too-small"
        site.requests.clear()
        stricter = replace(LIMITS, image=ImageLimits(min_side_px=48, max_pixels=900_000))
        assert Counter(e.status for e in bring_from(tmp_path, site, stricter).values()) == {
            "ok": 5,
            "too-small": 1,
        }
        milder = replace(LIMITS, image=ImageLimits(min_side_px=16, max_pixels=1_000_000))
        assert {entry.status for entry in bring_from(tmp_path, site, milder).values()} == {"ok"}
        assert {request.path for request in site.requests} == {site.path_of(tiny)}
        site.requests.clear()
        strictest = replace(LIMITS, image=ImageLimits(min_side_px=65, max_pixels=1_000_000))
        assert {entry.status for entry in bring_from(tmp_path, site, strictest).values()} == {"too-small"}


@pytest.mark.parametrize("lost", [1, 200, 900])
def test_an_arrival_that_a_kill_cut_short_is_asked_for_again(tmp_path: Path, lost: int) -> None:
    with lookalike({"genre/marina": offers(4)}) as site:
        first = bring_from(tmp_path, site)
        kept = next(tmp_path.iterdir())
        kept.write_bytes(kept.read_bytes()[:-lost])
        for asked in (1, 0):
            site.requests.clear()
            assert bring_from(tmp_path, site) == first
            assert len(site.requests) == asked


def test_bytes_that_a_power_cut_tore_are_asked_for_again(tmp_path: Path) -> None:
    offered = offers(4)
    with lookalike({"genre/marina": offered}) as site:
        first = bring_from(tmp_path, site)
        kept = next(tmp_path.iterdir())
        kept.write_bytes(kept.read_bytes().replace(offered[1].image, bytes(len(offered[1].image))))
        site.requests.clear()
        assert bring_from(tmp_path, site) == first
        assert [request.path for request in site.requests] == [site.path_of(offered[1])]


def test_another_versions_arrivals_are_no_arrivals(tmp_path: Path) -> None:
    (tmp_path / "original.arrivals").write_bytes(b'{"version": 0}\n' + bytes(5000))
    with lookalike({"genre/marina": offers(4)}) as site:
        assert {entry.status for entry in bring_from(tmp_path, site).values()} == {"ok"}


def test_a_full_disk_is_a_sentence_and_what_was_kept_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lookalike({"genre/marina": offers(12)}) as site:
        pwrite, room = os.pwrite, [5000]

        def fills_up(file: int, content: bytes, offset: int) -> int:
            part = content[: room[0]]
            if not part:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            room[0] -= len(part)
            return pwrite(file, part, offset)

        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", fills_up)
            with pytest.raises(AtelierError, match=r"disk is full.*free some space"):
                bring_from(tmp_path, site)
        with Arrivals(tmp_path, LIMITS) as arrivals:
            kept = len(arrivals)
        assert 0 < kept < 12
        time.sleep(0.3)  # the threads of the run that failed may still be asking
        site.requests.clear()
        assert {entry.status for entry in bring_from(tmp_path, site).values()} == {"ok"}
        assert len(site.requests) == 12 - kept


# a folder as the source


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


# the account


def test_the_account_is_read_back_and_its_bytes_do_not_depend_on_the_order(tmp_path: Path) -> None:
    entries = [
        Entry(id="b", status="missing", reason="HTTP 404"),
        Entry(id="a", status="ok", sha256="0" * 64, phash="f" * 16, width=96, height=64, bytes=1234),
    ]
    write_account(entries, tmp_path / "one.parquet")
    write_account(entries[::-1], tmp_path / "two.parquet")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    assert read_account(tmp_path / "one.parquet") == entries[::-1]


def test_the_account_is_told_by_status_with_examples() -> None:
    entries = [Entry(id=f"w{n}", status="missing", reason="HTTP 404") for n in range(1200)]
    lines = account_lines([*entries, Entry(id="good", status="ok")])
    assert [line.split() for line in lines] == [
        ["ok", "1"], ["missing", "1,200"], ["w0:", "HTTP", "404"], ["w1:", "HTTP", "404"],
    ]  # fmt: skip
