"""Films are written atomically, with equal bytes for equal frames, in the colours of the frames."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import Colorspace

from atelier.errors import AtelierError
from atelier.film.encode import frames_sha256, to_yuv420p, write_film

KINDS = ("mp4", "webm")


def frames(count: int = 8, height: int = 48, width: int = 64) -> Iterator[np.ndarray]:
    y, x = np.mgrid[0:height, 0:width]
    for index in range(count):
        colours = (x * 255 // width, y * 255 // height, np.full_like(x, 20 * index))
        yield np.stack(colours, -1).astype(np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_a_film_has_its_frames_its_rate_its_comment_and_its_colours(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"walk.{kind}"
    write_film(path, frames(), 12, '{"what":"a walk"}')
    with av.open(str(path)) as film:
        (stream,) = film.streams
        assert (stream.width, stream.height, stream.average_rate) == (64, 48, 12)
        assert stream.codec_context.colorspace == Colorspace.ITU709
        comments = {name.lower(): value for name, value in film.metadata.items()}
        assert comments["comment"] == '{"what":"a walk"}'
        seen = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(seen) == 8
    for shown, made in zip(seen, frames(), strict=True):
        assert np.abs(shown.astype(int) - made).mean() < 6


@pytest.mark.parametrize("kind", KINDS)
def test_equal_frames_give_equal_bytes_in_another_folder_and_on_one_core(tmp_path: Path, kind: str) -> None:
    write_film(tmp_path / f"a.{kind}", frames(), 12, "c")
    script = (
        "import sys; from pathlib import Path; from tests.atelier.film.test_encode import frames; "
        "from atelier.film.encode import write_film; write_film(Path(sys.argv[1]), frames(), 12, 'c')"
    )
    one_core = ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0)))] if sys.platform == "linux" else []
    subprocess.run(
        [*one_core, sys.executable, "-c", script, str(tmp_path / f"deep/b.{kind}")],
        check=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip
    assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"deep/b.{kind}").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_the_digest_of_the_frames_does_not_depend_on_the_comment(tmp_path: Path, kind: str) -> None:
    names = [tmp_path / f"{name}.{kind}" for name in ("a", "told-otherwise", "shorter", "slower")]
    for path, count, fps, told in zip(names, (8, 8, 7, 8), (12, 12, 12, 6), "abaa", strict=True):
        write_film(path, frames(count), fps, told)
    own, same, *others = map(frames_sha256, names)
    assert own == same and own not in others
    assert names[0].read_bytes() != names[1].read_bytes()


def test_the_index_comes_first_so_that_browsers_play_while_they_download(tmp_path: Path) -> None:
    write_film(tmp_path / "walk.mp4", frames(), 12, "c")
    content = (tmp_path / "walk.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_an_interrupted_film_leaves_the_earlier_file(tmp_path: Path) -> None:
    (tmp_path / "walk.mp4").write_bytes(b"earlier")

    def broken() -> Iterator[np.ndarray]:
        yield from frames(5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_film(tmp_path / "walk.mp4", broken(), 12, "c")
    assert [path.name for path in tmp_path.iterdir()] == ["walk.mp4"]
    assert (tmp_path / "walk.mp4").read_bytes() == b"earlier"


def test_another_extension_is_refused_with_a_message(tmp_path: Path) -> None:
    with pytest.raises(AtelierError, match=r"walk\.gif is not named like a film: end the name in \.mp4 or \.webm"):
        write_film(tmp_path / "walk.gif", frames(), 12, "c")


@pytest.mark.parametrize(
    ("colour", "wanted"),
    [((0, 0, 0), (16, 128, 128)), ((255, 255, 255), (235, 128, 128)), ((128, 128, 128), (126, 128, 128)),
     ((255, 0, 0), (63, 102, 240)), ((0, 255, 0), (173, 42, 26)), ((0, 0, 255), (32, 240, 118))],
)  # fmt: skip
def test_colours_are_converted_according_to_bt_709(colour: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    flat = to_yuv420p(np.broadcast_to(np.array(colour, np.uint8), (2, 2, 3)).copy())
    assert flat.shape == (3, 2)
    assert tuple(flat.ravel()[[0, 4, 5]].tolist()) == wanted
