"""The stage scrape, from params to catalog and coverage report."""

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from atelier.data.catalog import read_catalog
from atelier.errors import AtelierError
from atelier.settings.load import load_params
from atelier.settings.schema import Params
from tasks.scrape import run
from tasks.stage import Stage
from tests.archive import archive, painted
from tests.lookalike import Offer, lookalike
from tests.pictures import jpeg
from tests.stages import started

REPOSITORY = Path(__file__).parents[2]
MARINA = "/en/paintings-by-genre/marina"


@pytest.fixture(autouse=True)
def in_an_empty_tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def scrape(**settings) -> str:
    return run(Stage("scrape", Params.model_validate({"scrape": settings})))


def wikiart(site, **settings) -> dict:
    asked = (
        {"genre": "marina", **settings} if not {"style", "artist"} & settings.keys() else {"genre": None, **settings}
    )
    return {"source": "wikiart", "wikiart": {"base_url": site.base_url, "rate_per_s": 1000, **asked}}


def offers(count: int) -> list[Offer]:
    return [Offer(id=f"{number:024x}", title=f"Sea {number}") for number in range(count)]


def report() -> dict:
    return json.loads(Path("data/catalog.json").read_text(encoding="utf-8"))


def outs() -> tuple[bytes, bytes]:
    return Path("data/catalog.parquet").read_bytes(), Path("data/catalog.json").read_bytes()


def test_the_gallery_becomes_a_catalog(capsys):
    assert scrape(gallery={"works": 70, "seed": 3, "size_px": 256}) == "70 works of the built-in archive 3"
    works = read_catalog(Path("data/catalog.parquet"))
    assert len(works) == 70
    assert {(work.source, work.genre, work.rights) for work in works} == {("gallery", "marina", "public-domain")}
    assert all(work.style and work.image_url.startswith("gallery:/images/") for work in works)
    assert report() == {
        "source": "gallery", "asked": "the built-in archive 3", "claimed": 70, "listed": 70, "found": 70,
        "skipped": {}, "cut_at_cap": False, "notes": [],
        "years": {
            "from": min(work.year or 9999 for work in works),
            "to": max(work.year or 0 for work in works),
            "undated": 0,
        },
    }  # fmt: skip
    assert json.loads(Path(".atelier/progress/scrape.json").read_text())["done"] == 70


def test_the_gallery_gives_the_same_bytes_on_every_port():
    scrape(gallery={"works": 20})
    first = outs()
    shutil.rmtree("data")
    scrape(gallery={"works": 20})
    assert outs() == first


def test_wikiart_becomes_a_catalog(capsys):
    with lookalike({"genre/marina": [*offers(65), Offer(id="bad")]}, claimed=2000) as site:
        summary = scrape(**wikiart(site))
    assert summary == f"65 works of the genre marina at {site.base_url}; left out: 1 malformed record"
    works = read_catalog(Path("data/catalog.parquet"))
    assert len(works) == 65 and {work.rights for work in works} == {"unknown"}
    assert report()["skipped"] == {"malformed record": 1} and report()["claimed"] == 2000
    assert "the site claims 2,000 works and listed 66" in capsys.readouterr().out


def test_a_style_or_an_artist_with_a_limit_can_be_scraped():
    with lookalike({"style/cubism": offers(5), "artist/anna-ancher": offers(4)}) as site:
        assert scrape(**wikiart(site, style="cubism", limit=3)).startswith("3 works of the style cubism")
        assert scrape(**wikiart(site, artist="anna-ancher")).startswith("4 works of the artist anna-ancher")


def test_a_site_that_is_down_is_a_temporary_error():
    with lookalike({"genre/marina": offers(1)}) as site:
        site.retry_after = "86400"
        site.fail("/robots.txt", "503")
        Path("params.yaml").write_text(
            f"scrape: {{source: wikiart, wikiart: {{base_url: '{site.base_url}', genre: marina}}}}\n"
        )
        with started("scrape") as process:
            said = process.communicate(timeout=60)[1]
    assert process.returncode == os.EX_TEMPFAIL
    assert said.startswith("scrape: http://") and "asks for a pause of 86," in said
    assert "Traceback" not in said


def test_an_unknown_slug_is_requested_with_a_warning(capsys):
    with lookalike({"genre/marine": offers(1)}) as site:
        scrape(**wikiart(site, genre="marine"))
    assert "'marine', which is not among the 68 genres known here; close to it: marina" in capsys.readouterr().out


def test_a_capped_list_is_reported(capsys):
    with lookalike({"genre/marina": offers(3601)}) as site:
        scrape(**wikiart(site))
    assert report()["cut_at_cap"] is True and report()["claimed"] == 3601 and report()["found"] == 3600
    assert "cut at the site's cap of 3,600 works; it claims 3,601" in capsys.readouterr().out


def test_rights_are_judged_in_the_snapshots_year():
    artists = {"anna-ancher": {"deathDayAsString": "15 April 1935"}}
    with lookalike({"genre/marina": offers(2)}, artists=artists) as site:
        free = wikiart(site, rights="public-domain")
        scrape(snapshot="2006-01-01", **free)
        assert {work.rights for work in read_catalog(Path("data/catalog.parquet"))} == {"public-domain"}
        with pytest.raises(AtelierError, match=r"gave no works \(2 not known to be free\).*scrape.wikiart.rights"):
            scrape(snapshot="2005-12-31", **free)


def test_no_works_is_an_error_that_says_what_to_check():
    with (
        lookalike({"genre/marina": []}) as site,
        pytest.raises(AtelierError, match="gave no works: check the slug"),
    ):
        scrape(**wikiart(site))
    Path("empty").mkdir()
    with pytest.raises(AtelierError, match=r"gave no works: check scrape\.folder\.path"):
        scrape(source="folder", folder={"path": "empty"})
    assert not Path("data").exists()


def test_a_folder_becomes_a_catalog_with_the_same_bytes_wherever_it_is():
    for place in ("here/pictures", "there"):
        folder = Path(place)
        folder.mkdir(parents=True)
        for number in range(3):
            (folder / f"{number}.jpg").write_bytes(jpeg((number, 60, 160)))
        (folder / "list.csv").write_text("file,title,year\n0.jpg,Calm,1887\n1.jpg,Gale,?\n9.jpg,Gone,\n")
    written = set()
    for place in ("here/pictures", "there"):
        summary = scrape(source="folder", folder={"path": place, "catalog": f"{place}/list.csv"})
        assert summary.startswith("2 works of a folder of images with a CSV; left out: 1 in the CSV, but no such image")
        written.add(outs())
    assert len(written) == 1
    assert report()["years"] == {"from": 1887, "to": 1887, "undated": 1}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (".", "the studio itself"),
        ("pictures/..", "the studio itself"),
        ("itself", "the studio itself"),
        ("data/artworks", "is inside data/, where the studio keeps what it makes"),
        ("prints", "is inside data/"),
        (".atelier/unpacked", "is inside .atelier/"),
        (
            "~nobody-of-that-name/x",
            "no home directory is known for ~nobody-of-that-name: write the whole path",
        ),
        ("loop", "leads nowhere|there is no such folder"),
        ("a\0b", "leads nowhere|there is no such folder"),
        ("nowhere", "there is no such folder"),
    ],
)
def test_an_unsuitable_folder_is_an_error_that_says_why(path, words):
    for name in ("data/artworks", "pictures", ".atelier/unpacked"):
        Path(name).mkdir(parents=True)
        Path(name, "1-00000.png").write_bytes(jpeg((1, 60, 160)))
    Path("itself").symlink_to(Path.cwd())
    Path("prints").symlink_to("data/artworks")
    Path("loop").symlink_to("loop")
    with pytest.raises(AtelierError, match=words):
        scrape(source="folder", folder={"path": path})
    assert not Path("data/catalog.parquet").exists()


def test_the_folder_may_contain_the_studio(monkeypatch):
    Path("pictures/studio/data/artworks").mkdir(parents=True)
    Path("pictures/studio/data/artworks/1-00000.png").write_bytes(jpeg((1, 60, 160)))
    Path("pictures/sea.png").write_bytes(jpeg((2, 60, 160)))
    monkeypatch.chdir("pictures/studio")
    assert scrape(source="folder", folder={"path": ".."}).startswith("1 work of a folder")
    assert report()["notes"] == ["passed over, since the names promise no picture: 1 folder of this studio"]


def test_a_missing_folder_setting_is_an_error_with_its_line():
    Path("params.yaml").write_text("scrape:\n  source: folder\n  folder:\n    path: null\n")
    with pytest.raises(AtelierError, match=r"params\.yaml:4: scrape\.folder\.path holds None; it may hold the folder"):
        load_params(Path("params.yaml"))


def test_the_real_paintings_become_a_catalog(paintings):
    scrape(source="folder", folder={"path": str(paintings), "catalog": str(paintings / "catalog.csv")})
    assert report()["found"] == 1374 and report()["skipped"] == {}


def settings_file(site, style: str, rate_per_s: int, folder: Path) -> None:
    """params.yaml of a scrape of that style, in `folder`."""
    text = (REPOSITORY / "params.yaml").read_text(encoding="utf-8")
    for old, new in (
        ("source: gallery", "source: wikiart"), ("genre: landscape", "genre: null"), ("style: null", f"style: {style}"),
        ("base_url: https://www.wikiart.org", f"base_url: {site.base_url}"),
        ("rate_per_s: 1.0", f"rate_per_s: {rate_per_s}.0"),
    ):  # fmt: skip
        assert old in text
        text = text.replace(old, new, 1)
    folder.mkdir()
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    assert load_params(folder / "params.yaml").scrape.source == "wikiart"


def stage() -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [sys.executable, "-m", "tasks.scrape"], env=environment, capture_output=True, text=True, timeout=200
    )


def test_the_budget_counts_over_all_runs_of_a_list_and_a_larger_one_goes_on(capsys):
    with archive(painted(420, artists=8, others=80), cap=180) as site:
        for _ in range(3):
            scrape(**wikiart(site, style="impressionism", max_requests=150))
            assert len(site.requests) == 150
        assert report()["not_asked"] and 180 < report()["found"] < 420
        assert "0 requests in this run, 150 for this question in all" in capsys.readouterr().out
        scrape(**wikiart(site, style="impressionism", max_requests=1000))
        assert report()["found"] == 420 and not report()["not_asked"]
        scrape(snapshot="2026-12-24", **wikiart(site, style="impressionism", max_requests=100))
        assert report()["found"] == 420  # another snapshot is another question, and asks for no details again


def test_if_the_site_fails_at_the_oeuvres_the_catalog_has_the_works_of_the_list(capsys):
    with archive(painted(420, artists=8, others=80), cap=180) as site:
        site.rule = lambda path, asked: "html" if "/App/Painting/" in path else None
        summary = scrape(**wikiart(site, style="impressionism"))
        assert summary.startswith("180 works of the style impressionism") and "INCOMPLETE" in summary
        assert "3 failures in a row" in summary and "`dvc repro --force --single-item scrape`" in summary
        assert len(read_catalog(Path("data/catalog.parquet"))) == 180
        assert report()["complete"] is False and "not JSON" in report()["incomplete_because"][0]
        site.rule = lambda path, asked: None
        assert "INCOMPLETE" not in scrape(**wikiart(site, style="impressionism"))
        assert report()["found"] == 420 and report()["complete"] and not report()["incomplete_because"]


@pytest.mark.slow
def test_all_works_of_a_style_beyond_the_sites_cap_are_catalogued():
    """Waits for some 2,000 requests. bench/catalog.py does the same with 100,000 works."""
    works = painted(5_212, artists=96, others=257)
    with archive(works) as site:
        settings_file(site, "impressionism", 1000, Path("studio"))
        os.chdir("studio")
        finished = stage()
        asked = site.kinds()
    assert finished.returncode == 0, finished.stderr
    catalog = read_catalog(Path("data/catalog.parquet"))
    assert [work.id for work in catalog] == sorted(work.hex_id for work in works[:5_212])
    said = report()
    assert said["claimed"] == said["found"] == 5_212 and said["cut_at_cap"]
    assert said["plain_lists"]["works"] == 3600 and said["by_route"] == {"lists": 3600, "artists": 1_612}
    assert said["years"]["to"] >= 1995 and said["years"]["undated"] > 800
    assert said["requests"]["details"] == asked["details"] and max(site.asked.values()) == 1
    assert "its list ends after 3,600 of 5,212 works" in finished.stdout


@pytest.mark.slow
def test_a_scrape_killed_at_random_moments_gives_the_same_bytes_and_requests_nothing_twice(
    tmp_path,
):
    """Waits for four real stage processes, three of them killed on the way."""
    chance = random.Random(7)
    with archive(painted(420, artists=8, others=80), cap=180) as site:
        scrape(**wikiart(site, style="impressionism"))
        calm, needed = outs(), len(site.requests)
        settings_file(site, "impressionism", 250, Path("killed"))
        os.chdir("killed")
        stored: set[str] = set()
        moments = sorted(chance.sample(range(2, needed), 3))
        for moment in moments:
            with started("scrape") as process:
                while len(site.requests) - needed < moment and process.poll() is None:
                    time.sleep(0.001)
            assert not Path("data").exists()
            stored |= kept_paths()
        before = len(site.requests)
        finished = stage()
        assert finished.returncode == 0, finished.stderr
        assert outs() == calm
        assert not stored & {request.path for request in site.requests[before:]}
        assert len(stored) >= moments[-1] - 3 * 6  # a kill loses what four threads have under way
        repeated = {path: count - 1 for path, count in site.asked.items() if count > 2 and path != "/robots.txt"}
        assert sum(repeated.values()) <= 3 * 6


def kept_paths() -> set[str]:
    """The addresses whose answers lie in the store."""
    (path,) = Path(".atelier/scrape").glob("*.sqlite")
    with closing(sqlite3.connect(path)) as store:
        return {row[0] for row in store.execute("SELECT path FROM answers")}
