"""Verified pictures a second on disk, ours against img2dataset's: same loopback server, same pictures, one run.

    python bench/download.py [--pictures 3000] [--rounds 3]

img2dataset runs in its own environment (`uv tool run`; UV: another uv) with two processes of 64 threads, twice: with
its defaults (decodes with OpenCV, which accepts a truncated JPEG, and encodes again) and with skip_reencode (decodes,
keeps the bytes). Atelier decodes completely and refuses truncated pictures, hashes (sha256 and perceptual), keeps each
arrival at once and writes the shards, with one process for each core (download.engine: processes); once more without
decoding, to measure what verification costs, and once in one process (threads). Counted are the pictures that decode
from the tars afterwards. There are two rates: of the whole command, and of the work without the start of interpreters
and processes, which matters where pictures are many and the site sets no rate.
"""

import argparse
import asyncio
import io
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from atelier.data.catalog import Work
    from atelier.download.engines import Engine
    from atelier.download.fetch import Outcome

ROOT = Path(__file__).parents[1]
IMG2DATASET = "img2dataset==1.47.0"
SIZE = (500, 400)
UNVERIFIED, ONE_PROCESS = "atelier, nothing decoded", "atelier, threads of one process"


def main() -> None:
    parser = argparse.ArgumentParser(description="download throughput against img2dataset")
    parser.add_argument("--pictures", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ours", help=argparse.SUPPRESS)  # the child: base URL of the server
    parser.add_argument("--unverified", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--one-process", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ours:
        ours(arguments.ours, arguments.pictures, arguments.one_process)
        return
    tool = img2dataset_command()
    subprocess.run([*tool, "--help"], check=True, capture_output=True)  # installs it, outside the measurement
    with tempfile.TemporaryDirectory() as scratch, server(arguments.pictures) as base_url:
        contestants = {
            "atelier": lambda place: run_ours(base_url, arguments.pictures, place, []),
            UNVERIFIED: lambda place: run_ours(base_url, arguments.pictures, place, ["--unverified"]),
            ONE_PROCESS: lambda place: run_ours(base_url, arguments.pictures, place, ["--one-process"]),
            "img2dataset": lambda place: run_img2dataset(tool, base_url, arguments.pictures, place, []),
            "img2dataset, skip_reencode": lambda place: run_img2dataset(
                tool, base_url, arguments.pictures, place, ["--skip_reencode=True"]
            ),
        }
        works: dict[str, list[float]] = {name: [] for name in contestants}
        walls: dict[str, list[float]] = {name: [] for name in contestants}
        for number in range(arguments.rounds):
            for name, run in contestants.items():
                place = Path(scratch) / f"{number} {name}"
                place.mkdir()
                os.sync()  # the writing of the one before is not measured
                began_s = time.monotonic()
                works[name].append(run(place))
                walls[name].append(time.monotonic() - began_s)
                if (whole := whole_pictures(place)) != arguments.pictures:
                    sys.exit(f"bench/download.py: {name} left {whole} whole pictures of {arguments.pictures}")
                shutil.rmtree(place)
    for kind, seconds in (("whole command", walls), ("work alone", works)):
        print(f"{kind}, verified pictures/s:")
        rates = {name: [arguments.pictures / value for value in seconds[name]] for name in contestants}
        for name, values in rates.items():
            rounds = ", ".join(f"{value:.0f}" for value in values)
            ratios = [mine / theirs for mine, theirs in zip(rates["atelier"], values, strict=True)]
            ratio = "" if name == "atelier" else f"  atelier is {statistics.median(ratios):.2f}× as fast"
            print(f"  {name:<31} {statistics.median(values):7.1f}  (rounds {rounds}){ratio}")
    print(
        "targets, of the work alone on an idle machine: at least 1.5× img2dataset as it comes, which verifies, and "
        "0.6× our own loop with nothing decoded"
    )


def run_ours(base_url: str, pictures: int, place: Path, options: list[str]) -> float:
    command = [sys.executable, __file__, "--ours", base_url, "--pictures", str(pictures), *options]
    done = subprocess.run(
        command,
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout.splitlines()[-1])


def ours(base_url: str, pictures: int, one_process: bool) -> None:
    """The stage's work without its catalog file: arrivals, shards and account under the current directory."""
    import pandas  # noqa: F401  # img2dataset has also loaded them when its clock starts
    import pyarrow.parquet  # noqa: F401

    from atelier.data.catalog import Work, write_downloads
    from atelier.data.shards import write_shards
    from atelier.download.arrivals import Arrivals, Limits
    from atelier.download.download import download, shard_items
    from atelier.download.engines import OneByOne, Processes, Threads
    from atelier.download.sources import SiteSpec
    from atelier.images.verify import ImageLimits
    from atelier.progress import Progress

    began_s = time.monotonic()
    limits = Limits(ImageLimits(64, 120_000_000), 100_000_000, None)
    works = [
        Work(
            id=f"{n:024x}", title="", artist="", artist_slug="", year_text="", year=None, genre="", style="",
            width=None, height=None, image_url=f"{base_url}/{n}.jpg", page_url="", rights="unknown", source="wikiart",
        )
        for n in range(pictures)
    ]  # fmt: skip
    spec = SiteSpec(base_url, "", None, retries=6, timeout_s=30, max_bytes=limits.max_bytes)
    with (
        spec.open() as source,
        Arrivals(Path("arrivals"), limits) as arrivals,
        Progress("download", pictures, "works", Path("progress")) as progress,
    ):
        workers = os.cpu_count() or 1
        engine: Engine = Threads(source, limits, workers) if one_process else Processes(spec, limits, workers)
        clock = FromFirstOutcome(engine)
        records, _ = download(works, source, arrivals, clock, OneByOne(spec, limits), progress)
        write_shards(shard_items(works, records, source, arrivals), Path("images"))
        write_downloads(records, Path("downloads.parquet"))
    print(time.monotonic() - began_s if one_process else clock.seconds(pictures))


class FromFirstOutcome:
    """An engine, timed from its first outcome on, without the start of its processes."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._began_s = 0.0

    def run(self, works: Sequence["Work"]) -> "Generator[tuple[Work, Outcome]]":
        for number, outcome in enumerate(self._engine.run(works)):
            if number == 0:
                self._began_s = time.monotonic()
            yield outcome

    def seconds(self, pictures: int) -> float:
        """The seconds for all pictures, at the rate of those after the first shards."""
        from atelier.download.engines import WORKS_PER_SHARD

        later = pictures - (os.cpu_count() or 1) * WORKS_PER_SHARD
        return (time.monotonic() - self._began_s) * pictures / later


def decode_nothing() -> None:
    from atelier.download import fetch
    from atelier.images.verify import Verified

    fetch.verify = lambda content, limits, size_px: Verified("jpg", *SIZE, "", None)


def img2dataset_command() -> list[str]:
    uv = os.environ.get("UV") or shutil.which("uv") or str(Path(sys.prefix) / "bin" / "uv")
    if not Path(uv).exists():
        sys.exit("bench/download.py: img2dataset needs an environment of its own, made by uv: set UV to its path")
    return [uv, "tool", "run", "--python", "3.11", "--from", IMG2DATASET, "img2dataset"]


def run_img2dataset(tool: list[str], base_url: str, pictures: int, place: Path, options: list[str]) -> float:
    (place / "urls.txt").write_text("".join(f"{base_url}/{n}.jpg\n" for n in range(pictures)))
    command = [
        *tool, "--url_list=urls.txt", "--input_format=txt", "--output_folder=images", "--output_format=webdataset",
        "--resize_mode=no", "--processes_count=2", "--thread_count=64", "--retries=2",
        f"--number_sample_per_shard={-(-pictures // 2)}", *options,
    ]  # fmt: skip
    subprocess.run(
        command,
        cwd=place,
        check=True,
        capture_output=True,
        env={**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"},
    )
    shards = [json.loads(path.read_text()) for path in (place / "images").glob("*_stats.json")]
    return max(shard["end_time"] for shard in shards) - min(shard["start_time"] for shard in shards)


def whole_pictures(place: Path) -> int:
    """How many pictures in the tars under `place` decode in full."""
    count = 0
    for path in (place / "images").glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".jpg") and (file := tar.extractfile(member)):
                    Image.open(io.BytesIO(file.read())).load()
                    count += 1
    return count


@contextmanager
def server(pictures: int) -> Iterator[str]:
    """JPEGs from memory at /0.jpg, /1.jpg, … in a process of its own."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(pictures, there), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.terminate()
        process.join()


def serve(pictures: int, ready: Connection) -> None:
    bodies = [painting(n) for n in range(pictures)]

    class Answers(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport, self.received = transport, b""

        def data_received(self, data: bytes) -> None:
            self.received += data
            while b"\r\n\r\n" in self.received:
                request, _, self.received = self.received.partition(b"\r\n\r\n")
                name = request.split()[1][1:-4]
                body = bodies[int(name)] if name.isdigit() else b""  # b"": robots.txt
                closes = b"connection: close" in request.lower()
                head = [
                    "HTTP/1.1 200 OK",
                    "Content-Type: image/jpeg",
                    f"Content-Length: {len(body)}",
                    f"Connection: {'close' if closes else 'keep-alive'}",
                ]
                self.transport.write("\r\n".join([*head, "", ""]).encode() + body)
                if closes:
                    self.transport.close()

    async def forever() -> None:
        listening = await asyncio.get_running_loop().create_server(Answers, "127.0.0.1", 0, backlog=1024)
        ready.send(listening.sockets[0].getsockname()[1])
        await listening.serve_forever()

    asyncio.run(forever())


def painting(seed: int) -> bytes:
    """A JPEG with about as many bytes as a painting of this size: smooth colours with a grain."""
    rng = np.random.default_rng(seed)
    colours = Image.fromarray(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)).resize(SIZE, Image.Resampling.BICUBIC)
    grain = rng.normal(0, 9, (SIZE[1], SIZE[0], 1))
    pixels = np.clip(np.asarray(colours) + grain, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=85)
    return file.getvalue()


if "--unverified" in sys.argv:  # the worker processes import this file as well
    decode_nothing()
if __name__ == "__main__":
    main()
