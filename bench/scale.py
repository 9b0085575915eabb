"""100,000 works through the real download stage: seconds, memory, what DVC costs afterwards, tars against loose files.

    python bench/scale.py [--works 100000] [--loose 20000]

The pictures are small JPEGs in a folder, so that the account, the shards and DVC take the time.
"""

import argparse
import io
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from atelier.data.catalog import Work, read_catalog, read_downloads, write_catalog, write_downloads
from atelier.data.shards import Item, read_shards, write_shards

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1"}
STAGE = """\
stages:
  download:
    cmd: {python} -m tasks.download
    params: [download, scrape.folder.path, scrape.snapshot]
    deps: [data/catalog.parquet]
    outs: [data/images, data/downloads.parquet]
"""
PARAMS = """\
scrape:
  source: folder
  snapshot: "2026-11-22"
  folder:
    path: pictures
download:
  min_side_px: 16
"""
Result = TypeVar("Result")


def main() -> None:
    parser = argparse.ArgumentParser(description="the download stage at 100,000 works")
    parser.add_argument("--works", type=int, default=100_000)
    parser.add_argument("--loose", type=int, default=20_000, help="works at which tars and loose files are compared")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        studio = Path(name)
        os.chdir(studio)
        works = paint(arguments.works)
        measure(
            "catalog written",
            lambda: write_catalog(works, Path("data/catalog.parquet")),
            "under 2 s with reading",
        )
        measure("catalog read", lambda: read_catalog(Path("data/catalog.parquet")))
        Path("params.yaml").write_text(PARAMS)
        new_studio(STAGE.format(python=sys.executable))
        for title in ("stage, everything to fetch", "stage, everything kept"):
            seconds, peak_mb = stage()
            print(f"{title:<44}{seconds:8.1f} s, at most {peak_mb:,.0f} MB", flush=True)
        entries = measure("account read", lambda: read_downloads(Path("data/downloads.parquet")))
        measure("account written", lambda: write_downloads(entries, Path("again.parquet")))
        items = list(read_shards(Path("data/images")))
        measure(
            f"{len(list(Path('data/images').iterdir()))} shards written",
            lambda: write_shards(items, Path("again")),
        )
        print(f"shards that change when one work joins: {changed(items)}")
        measure("dvc repro, everything kept", lambda: dvc("repro", "-q"))
        status("dvc status", "under 10 s")
        shutil.rmtree("data/images")
        measure("dvc repro, data/images deleted", lambda: dvc("repro", "-q"))
        compare(items[: arguments.loose], studio)


def paint(count: int) -> list[Work]:
    """Write different small pictures into folders of a thousand; returns their catalog."""
    rng = np.random.default_rng(0)
    works = []
    for n in range(count):
        path = Path(f"pictures/{n // 1000:03d}/{n}.jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((64, 64))
        file = io.BytesIO()
        picture.save(file, "JPEG")
        path.write_bytes(file.getvalue())
        works.append(
            Work(
                id=f"{n * 2654435761 % 2**32:024x}", title=f"Work {n}", artist=f"Artist {n % 500}",
                artist_slug=f"artist-{n % 500}", year_text="1887", year=1887, genre="marina", style="", width=64,
                height=64, image_url=str(path.relative_to("pictures")), page_url="", rights="unknown", source="folder",
            )
        )  # fmt: skip
    return works


def compare(items: list[Item], studio: Path) -> None:
    """Measure how long DVC takes to add pictures and to check them, as tars and as one file each."""
    for title, write in (("tars", write_shards), ("loose files", write_loose)):
        place = studio / title.split()[0]
        place.mkdir()
        os.chdir(place)
        write(items, Path("images"))
        new_studio(None)
        measure(f"{len(items):,} as {title}: dvc add", lambda: dvc("add", "-q", "images"))
        status(f"{len(items):,} as {title}: dvc status")


def write_loose(items: list[Item], directory: Path) -> None:
    directory.mkdir()
    for item in items:
        (directory / item.name).write_bytes(item.content)


def changed(items: list[Item]) -> str:
    """How many shards change when one work is added, for each of ten works."""
    before = {path.read_bytes() for path in write_shards(items, Path("before"))}
    counts = []
    for n in range(10):
        joined = Item(f"{(2 * n + 1) * 2**32 // 20:023x}f", "jpg", b"new")
        after = {path.read_bytes() for path in write_shards(sorted([*items, joined]), Path("after"))}
        counts.append(len(after - before))
    return f"{statistics.mean(counts):.1f} of {len(before)} (at most {max(counts)})"


def stage() -> tuple[float, float]:
    """Run the stage as DVC would; returns seconds and peak memory in megabytes."""
    began_s = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "tasks.download"], env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    _, code, usage = os.wait4(process.pid, 0)
    if code:
        sys.exit(f"bench/scale.py: the stage ended with {code}")
    return time.monotonic() - began_s, usage.ru_maxrss / 1024


def new_studio(dvc_yaml: str | None) -> None:
    subprocess.run(["git", "init", "-q"], check=True)
    dvc("init", "-q")
    Path(".dvcignore").write_text(".atelier\n")
    if dvc_yaml:
        Path("dvc.yaml").write_text(dvc_yaml)


def dvc(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *arguments], env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)


def status(title: str, target: str = "") -> None:
    """Measure `dvc status` three times: DVC caches the files' state in the first."""
    for turn in ("first", "second", "third"):
        measure(f"{title}, {turn} time", lambda: dvc("status", "-q"), target)


def measure(title: str, work: Callable[[], Result], target: str = "") -> Result:
    began_s = time.monotonic()
    result = work()
    print(
        f"{title:<44}{time.monotonic() - began_s:8.1f} s{f'  (target: {target})' if target else ''}",
        flush=True,
    )
    return result


if __name__ == "__main__":
    main()
