"""Measure a catalog of 100,000 works: the memory of scraping it, the time to write and read its file.

    python bench/catalog.py [--works 100000]

Serves an archive with WikiArt's cap on loopback and runs the real stage against it (some 100,000 requests: minutes),
then times the file alone. The stage's memory is its process's largest resident set (Linux: VmHWM).
"""

import argparse
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from atelier.data.catalog import read_catalog, write_catalog  # noqa: E402
from tests.archive import archive, painted  # noqa: E402

ROUNDS = 5
# the stage as DVC runs it; it records its own memory, because its parent's would count as well if measured there
STAGE = """
import atexit, pathlib, runpy
status = pathlib.Path("/proc/self/status")
atexit.register(lambda: pathlib.Path("peak").write_text(status.read_text().split("VmHWM:")[1].split()[0]))
runpy.run_module("tasks.scrape", run_name="__main__")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--works", type=int, default=100_000)
    works = parser.parse_args().works
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        with archive(painted(works, artists=works // 40, undated=0.28)) as site:
            seconds = _scrape(root, site.base_url)
            requests = len(site.requests)
        gc.collect()
        gc.freeze()  # the archive's objects are not measured
        catalog = read_catalog(root / "data/catalog.parquet")
        writing = [_seconds(lambda: write_catalog(catalog, root / "again.parquet")) for _ in range(ROUNDS)]
        reading = [_seconds(lambda: read_catalog(root / "again.parquet")) for _ in range(ROUNDS)]
        size = (root / "again.parquet").stat().st_size
        kept = sum(path.stat().st_size for path in (root / ".atelier/scrape").iterdir())
        peak_mb = int((root / "peak").read_text()) / 1024
    print(f"scrape          {len(catalog):,} works, {requests:,} requests, {seconds:,.0f} s")
    print(f"  peak memory   {peak_mb:,.0f} MB")
    print(f"  kept answers  {kept / 1e6:,.0f} MB")
    print(f"catalog.parquet {size / 1e6:,.1f} MB")
    print(f"  written in    {statistics.median(writing):.2f} s")
    print(f"  read in       {statistics.median(reading):.2f} s")


def _scrape(root: Path, base_url: str) -> float:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    for old, new in (
        ("source: gallery", "source: wikiart"),
        ("genre: landscape", "genre: null"),
        ("style: null", "style: impressionism"),
        ("base_url: https://www.wikiart.org", f"base_url: {base_url}"),
        ("rate_per_s: 1.0", "rate_per_s: 1000.0"),
    ):
        assert old in text, old
        text = text.replace(old, new, 1)
    (root / "params.yaml").write_text(text, encoding="utf-8")
    command = [sys.executable, "-c", STAGE]
    return _seconds(lambda: subprocess.run(command, cwd=root, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True))


def _seconds(work) -> float:
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


if __name__ == "__main__":
    main()
