"""Murals are painted tile by tile in bounded memory, with the same bytes after a kill."""

import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from atelier.canvas import murals
from atelier.canvas.murals import (
    MAX_PX,
    MURAL_PX,
    check_disk_space,
    is_mural,
    make_mural,
    paint_tiles,
    painted_px,
)
from atelier.errors import AtelierError
from atelier.progress import Progress
from atelier.provenance.facts import PixelFacts, read_pixels, read_provenance, write_tiff
from tests.atelier.pictures.test_tiff import MADE

TILE_PX = 64


class Waves:
    """A picture whose pixels follow from a formula. It counts the tiles that are painted, and can be slow."""

    def __init__(self, height: int, width: int, pause_s: float = 0) -> None:
        self.height, self.width, self.pause_s, self.asked = height, width, pause_s, 0

    def region(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        self.asked += 1
        time.sleep(self.pause_s)
        rows, columns = np.arange(top, top + height)[:, None, None], np.arange(left, left + width)[:, None]
        return ((rows * 7 + columns * 3 + rows * columns // 50) * np.array([1, 2, 3]) % 256).astype(np.uint8)

    def whole(self) -> np.ndarray:
        return self.region(0, 0, self.height, self.width)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(murals, "TILE_PX", TILE_PX)


def made(source: Waves, folder: Path) -> Path:
    with Progress("generate", source.height * source.width / 1e6, "Mpx", folder.parent / "progress") as progress:
        return make_mural(source, MADE, folder, progress, "mural 1 of 1")


def test_pictures_too_large_for_a_png_are_murals_and_those_too_large_for_both_are_refused() -> None:
    assert not is_mural(9_000, MURAL_PX // 9_000) and is_mural(9_000, MURAL_PX // 9_000 + 1)
    with pytest.raises(AtelierError, match=r"a picture of 65,537 × 65,536 px is larger .*generate\.canvas"):
        is_mural(65_536, MAX_PX // 65_536 + 1)


def test_a_mural_has_the_pixels_of_its_source_and_its_provenance(tmp_path) -> None:
    source = Waves(300, 500)
    path = made(source, tmp_path / "mural")
    assert source.asked == 5 * 8
    assert np.array_equal(read_pixels(path), source.whole())
    assert read_provenance(path).pixels == PixelFacts.of(source.whole())
    assert [file.name for file in (tmp_path / "mural").iterdir()] == ["mural.tif"]


def test_a_finished_mural_is_not_painted_again(tmp_path) -> None:
    made(Waves(300, 500), tmp_path / "mural")
    source = Waves(300, 500)
    made(source, tmp_path / "mural")
    assert source.asked == 0


def test_a_kill_loses_one_tile_and_the_bytes_are_the_same(tmp_path) -> None:
    """Waits for a child process that paints slowly."""
    program = (
        "import sys, pathlib; from tests.atelier.canvas import test_murals as it\n"
        "it.murals.TILE_PX = it.TILE_PX; it.made(it.Waves(300, 500, 0.02), pathlib.Path(sys.argv[1]))"
    )
    folder = tmp_path / "killed"
    child = subprocess.Popen([sys.executable, "-c", program, folder], stdout=subprocess.DEVNULL)
    pixels = folder / "pixels.npy"
    while painted_px(Waves(300, 500), pixels) < 10 * TILE_PX**2:
        assert child.poll() is None
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    finished = pixels.with_suffix(".tiles").stat().st_size
    assert 10 <= finished < 40
    source = Waves(300, 500)
    path = made(source, folder)
    assert source.asked == 40 - finished
    assert path.read_bytes() == made(Waves(300, 500), tmp_path / "whole").read_bytes()


def test_progress_counts_an_earlier_runs_tiles_but_its_rate_does_not(tmp_path, capsys) -> None:
    class Stopping(Waves):
        def region(self, *where: int) -> np.ndarray:
            if self.asked == 12:
                raise KeyboardInterrupt
            return super().region(*where)

    with pytest.raises(KeyboardInterrupt):
        made(Stopping(300, 500), tmp_path / "mural")
    assert painted_px(Waves(300, 500), tmp_path / "mural" / "pixels.npy") == 64 * 500 + 4 * 64 * 64
    capsys.readouterr()
    made(Waves(300, 500), tmp_path / "mural")
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith("generate: 0.048384/0.15 Mpx, 0 Mpx/s")
    assert re.fullmatch(r"generate: 0\.15/0\.15 Mpx, .* Mpx/s, mural 1 of 1, file 100%", last)


def test_pixels_without_a_log_of_tiles_are_painted_from_the_beginning(tmp_path) -> None:
    source, path = Waves(100, 100), tmp_path / "pixels.npy"
    path.write_bytes(b"what a crash left")
    paint_tiles(source, path, lambda px: None)
    assert np.array_equal(np.load(path), source.whole())


def test_memory_is_bounded_by_a_tile(tmp_path) -> None:
    """A child process paints 72 MB of pixels under a limit of 50 MB for additional memory."""
    program = (
        "import resource, sys, pathlib, numpy as np; from tests.atelier.canvas import test_murals as it\n"
        "class Plain(it.Waves):\n"
        "    def region(self, top, left, height, width):\n"
        "        return np.full((height, width, 3), top // 1024, np.uint8)\n"
        "it.made(it.Waves(300, 500), pathlib.Path(sys.argv[1]) / 'first')\n"
        "used, = (int(line.split()[1]) << 10 for line in open('/proc/self/status') if line.startswith('VmData'))\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (used + 50_000_000,) * 2)\n"
        "it.made(Plain(6_000, 4_000), pathlib.Path(sys.argv[1]) / 'second')\n"
    )
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux counts a process's own memory so")
    environment = {**os.environ, "VIPS_CONCURRENCY": "2"}
    command = [sys.executable, "-c", program, tmp_path]
    child = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    facts = read_provenance(tmp_path / "second" / "mural.tif").pixels
    assert facts is not None and (facts.width, facts.height) == (4_000, 6_000)


def test_a_disk_that_is_too_small_is_reported_before_the_work(tmp_path) -> None:
    with pytest.raises(AtelierError, match=r"9,000 murals of 60,000 × 60,000 px may need .* GiB are free"):
        check_disk_space(tmp_path, 60_000, 60_000, 9_000)
    check_disk_space(tmp_path, 100, 100, 1)


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Limit files to 100 kB; the kernel reports that like a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_before_the_painting_is_reported(small_disk, tmp_path) -> None:
    with pytest.raises(AtelierError, match=r"no room for 0\.00 GiB of pixels \(.*\): free some, or make the canvas"):
        paint_tiles(Waves(200, 300), tmp_path / "pixels.npy", lambda px: None)
    assert not [*tmp_path.iterdir()]


def test_a_disk_that_is_full_when_the_tiff_is_written_is_reported_and_the_pixels_stay(small_disk, tmp_path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (174, 190, 3), np.uint8)
    np.save(tmp_path / "pixels.npy", noise)
    with pytest.raises(AtelierError, match=r"mural\.tif could not be written .* is the disk full"):
        write_tiff(tmp_path / "mural.tif", tmp_path / "pixels.npy", MADE, lambda share: None)
    assert [path.name for path in tmp_path.iterdir()] == ["pixels.npy"]
