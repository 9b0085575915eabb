"""Pack pictures of any size into the training set: cut a box from each, resize it, split into train and held-out.

Boxes have the shape of the images, a square by default, and are as large as their pictures allow. With several crops,
the whole training paintings are packed besides, as strips: at a shorter side of 1.5 times that of the images, line by
line along the longer side, all in one array. That stores each pixel once and shows all of a painting in about 3 times
the bytes of its square; two squares of 1.5 times the resolution would take 4.5 times.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing.pool import ThreadPool
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from PIL import Image

from atelier.data.catalog import Work, write_rows
from atelier.data.dataset import (
    HELD_OUT,
    INDEX_SCHEMA,
    STRIPS_SCHEMA,
    TRAIN,
    WORKS_SCHEMA,
    Crop,
    IndexRow,
    Placement,
    StripRow,
    WorkRow,
    strip_side,
)
from atelier.data.duplicates import LookAlike, Picture, group_near_duplicates
from atelier.data.shards import Item
from atelier.errors import AtelierError, counted
from atelier.files import replacing, write_json
from atelier.images.verify import claimed_pixels, decoding_slot, read_rgb
from atelier.pictures import AS_THE_SET, SQUARE, Pixels, largest_box, nearest_aspect, picture_size

STRIP_FILES = ("strips.npy", "strips.parquet")
Write = Callable[[int, Pixels], None]  # writes pixels from an index of a file's first axis on
CHUNK_PICTURES = 256  # read ahead of the threads that resize them


@dataclass(frozen=True, slots=True)
class CropBox:
    """The box that is cut from a picture, in its pixels."""

    left: int
    top: int
    width: int
    height: int

    @property
    def side(self) -> int:
        """The shorter side."""
        return min(self.width, self.height)


def write_dataset(
    pictures: Sequence[Picture],
    items: Iterable[Item],
    path: Path,
    *,
    resolution: int,
    crop: Crop,
    mirror: bool,
    held_out: float,
    workers: int,
    look_alikes: Mapping[str, LookAlike],
    advance: Callable[[], None],
    placed: Sequence[Placement] = (),
    crops: int = 1,
    works: Iterable[Work] = (),
    aspect: str = SQUARE,
) -> Mapping[str, Any]:
    """Write the training set of `pictures` to the directory `path` and return the content of its dataset.json.

    `items` are the picture files, in any order; files of other pictures are ignored. Rows are the training pictures by
    id, then the held-out ones by id. `aspect` is a key of `atelier.pictures.CELLS`, or AS_THE_SET for the one that is
    nearest to the median of the pictures that are not left out as `look_alikes`. Left out and counted are these, and
    pictures whose box has less than half the images' size; boxes between that and the size are enlarged. `held_out`
    is the share to hold out, and `placed` gives the sides on which paintings were before, see `split`. `advance` is
    called after each picture. With `crops` above 1 the whole training paintings are written too, see
    `atelier.data.dataset.Strips`; images.npy and index.parquet stay the same. works.parquet is written if the catalog
    is given as `works`. Raises AtelierError where too few pictures are left to split, some have no file, or the disk
    has no room for the strips.
    """
    distinct = [picture for picture in pictures if picture.id not in look_alikes]
    aspect = nearest_aspect((one.width, one.height) for one in distinct) if aspect == AS_THE_SET else aspect
    height, width = picture_size(resolution, aspect)
    side_px = min(height, width)
    cuts = {picture.id: largest_cut(picture, crop, aspect) for picture in distinct}
    usable = [picture for picture in distinct if 2 * cuts[picture.id].side >= side_px]
    relatives = sorted({*pictures} - {*usable}, key=lambda picture: picture.id)
    train, held = split(usable, held_out, relatives, placed)
    if not train or not held:
        are = "is" if len(usable) == 1 else "are"
        raise AtelierError(
            f"{counted(len(usable), 'different painting')} of at least {side_px // 2} px {are} too few: "
            "training and evaluation need 2, more like 1,000; widen what `scrape` asks for, and set scrape.snapshot to "
            "another date where pictures were added since the last scrape"
        )
    rows = {picture.id: row for row, picture in enumerate([*train, *held])}
    strips = _strip_rows(train, side_px, aspect) if crops > 1 else {}
    strip_lines, side = sum(strip.length for strip in strips.values()), strip_side(side_px)
    path.mkdir(parents=True, exist_ok=True)
    for name in STRIP_FILES:  # of an earlier run with other settings
        (path / name).unlink(missing_ok=True)
    _check_room(path, strip_lines * side * 3, crops)
    packed = _resized((item for item in items if item.id in rows), cuts, strips, (height, width), workers)
    with ExitStack() as files:
        images = files.enter_context(_array_file(path / "images.npy", (len(rows), height, width, 3)))
        lines = files.enter_context(_array_file(path / "strips.npy", (strip_lines, side, 3))) if strips else None
        _write_pictures(packed, rows, strips, images, lines, advance)
    if strips:
        write_rows([*strips.values()], STRIPS_SCHEMA, path / "strips.parquet")
    index = [
        IndexRow(row, id, cuts[id].left, cuts[id].top, cuts[id].side, TRAIN if row < len(train) else HELD_OUT)
        for id, row in rows.items()
    ]
    write_rows(index, INDEX_SCHEMA, path / "index.parquet")
    _write_works(path / "works.parquet", works, [*rows])
    boxes_area = fmean(cuts[one.id].width * cuts[one.id].height / (one.width * one.height) for one in train)
    facts = {
        "resolution": resolution,
        **({} if aspect == SQUARE else {"aspect": aspect}),
        "crop": crop,
        "mirror": mirror,
        "pictures": len(rows),
        "train": len(train),
        "held_out": len(held),
        "left_out_look_alike": len(pictures) - len(distinct),
        "left_out_too_small": len(distinct) - len(usable),
        "enlarged": sum(cuts[picture.id].side < side_px for picture in usable),
        "length": len(rows) * (2 if mirror else 1),
        "crops": crops,
        # mean share of a training painting's area that training shows; of a strip, windows reach every place
        "area_seen": round(1.0 if strips else boxes_area, 4),
        "area_in_square": round(boxes_area, 4),
        "strips_bytes": strip_lines * side * 3,
    }
    write_json(path / "dataset.json", facts)
    return facts


def split(
    pictures: Sequence[Picture], share: float, relatives: Sequence[Picture] = (), placed: Sequence[Placement] = ()
) -> tuple[list[Picture], list[Picture]]:
    """Split pictures into training and held-out ones, each list sorted by id; near-duplicates stay together.

    A group of near-duplicates, which `relatives` outside the data set may link, keeps the side on which one of its
    members was `placed` before. If any was trained on, all are: no model is evaluated on a picture that it, or the
    model it continues from, has seen. A new group is held out where the hash of each of its ids is below `share`, so
    that single pictures are held out with that probability. A group larger than the held-out share is trained on.
    """
    present = {(picture.id, picture.phash) for picture in pictures}
    known = {(one.id, one.phash) for one in relatives} | {(one.id, one.phash) for one in placed}
    others = [Picture(id, 0, 0, phash) for id, phash in sorted(known - present)]
    trained = {placement.id for placement in placed if placement.split == TRAIN}
    held_before = {placement.id for placement in placed if placement.split == HELD_OUT}

    def is_held(ids: set[str]) -> bool:
        if ids & (trained | held_before):
            return not ids & trained
        return all(_uniform(id, "split") < share for id in ids)

    groups: list[tuple[set[str], list[Picture]]] = []  # all ids of a group, and its members among `pictures`
    for group in group_near_duplicates([*pictures, *others]):
        if own := [picture for picture in group if (picture.id, picture.phash) in present]:
            groups.append(({picture.id for picture in group}, own))
    small = [(ids, own) for ids, own in groups if len(own) <= max(1, share * len(pictures))]
    held = [own for ids, own in small if is_held(ids)]
    if not held and small and len(groups) > 1:  # hold out at least one, if possible one never trained on
        _, own = min(small, key=lambda group: (bool(group[0] & trained), _uniform(min(group[0]), "split")))
        held = [own]
    held_ids = {picture.id for own in held for picture in own}
    ordered = sorted(pictures, key=lambda picture: picture.id)
    return (
        [picture for picture in ordered if picture.id not in held_ids],
        [picture for picture in ordered if picture.id in held_ids],
    )


def largest_cut(picture: Picture, crop: Crop, aspect: str = SQUARE) -> CropBox:
    """Return the largest box of a shape in a picture: in the middle, or at a place that a hash of the id decides."""
    width, height = largest_box(picture.width, picture.height, aspect)
    spare_x, spare_y = picture.width - width, picture.height - height
    if crop == "random":
        place = _uniform(picture.id, "crop")
        return CropBox(int(place * (spare_x + 1)), int(place * (spare_y + 1)), width, height)
    return CropBox(spare_x // 2, spare_y // 2, width, height)


def _strip_rows(train: Sequence[Picture], side_px: int, aspect: str) -> dict[str, StripRow]:
    """The place of each training picture in strips.npy, by id, in the order of `train`."""
    side = strip_side(side_px)
    strips: dict[str, StripRow] = {}
    start = 0
    for picture in train:
        shorter, longer = sorted((picture.width, picture.height))
        length = max(side, round(side * longer / shorter))
        landscape = picture.width > picture.height
        largest = min(largest_box(*((length, side) if landscape else (side, length)), aspect))
        min_side = min(largest, max(side_px, -(-side_px * side // shorter)))
        strips[picture.id] = StripRow(picture.id, start, length, landscape, min_side)
        start += length
    return strips


def _write_works(path: Path, works: Iterable[Work], ids: Sequence[str]) -> None:
    """Write what the catalog says of the works of these ids, in their order; no file without a catalog."""
    path.unlink(missing_ok=True)
    if by_id := {work.id: work for work in works}:
        _, *texts = WORKS_SCHEMA.names
        rows = [WorkRow(id, *(getattr(by_id.get(id), text, "") for text in texts)) for id in ids]
        write_rows(rows, WORKS_SCHEMA, path)


def _check_room(path: Path, strip_bytes: int, crops: int) -> None:
    """Raise AtelierError where the disk has no room for strips.npy."""
    free = shutil.disk_usage(path).free
    if strip_bytes > free:
        raise AtelierError(
            f"augment.crops {crops}: the whole paintings take {strip_bytes / 1e9:.1f} GB, the disk has "
            f"{free / 1e9:.1f} GB left: make room, set augment.crops to 1, or augment.resolution lower"
        )


@contextmanager
def _array_file(path: Path, shape: tuple[int, ...]) -> Iterator[Write]:
    """Write a .npy file of uint8 atomically; yields the function that writes to it."""
    row_bytes = int(np.prod(shape[1:]))
    # written, not memory-mapped: a full disk raises OSError here, and would kill the process there
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        start = file.tell()

        def write(row: int, pixels: Pixels) -> None:
            file.seek(start + row * row_bytes)
            file.write(pixels.tobytes())

        yield write


def _write_pictures(
    packed: Iterable["_Packed"],
    rows: Mapping[str, int],
    strips: Mapping[str, StripRow],
    write_image: Write,
    write_lines: Write | None,
    advance: Callable[[], None],
) -> None:
    missing = set(rows)
    for picture in packed:
        write_image(rows[picture.id], picture.image)
        if write_lines and picture.lines is not None:
            write_lines(strips[picture.id].start, picture.lines)
        missing.discard(picture.id)
        advance()
    if missing:
        raise AtelierError(
            f"the shards lack {counted(len(missing), 'picture')} that data/downloads.parquet names, "
            f"the first {min(missing)}: `dvc repro download` makes them again"
        )


@dataclass(frozen=True, slots=True)
class _Packed:
    """A picture's image (H, W, 3) and, for a strip, its lines (length, S, 3)."""

    id: str
    image: Pixels
    lines: Pixels | None


def _resized(
    items: Iterable[Item], cuts: Mapping[str, CropBox], strips: Mapping[str, StripRow], size: tuple[int, int],
    workers: int,
) -> Iterator[_Packed]:  # fmt: skip
    (height, width), side = size, strip_side(min(size))

    def resize(item: Item) -> _Packed:
        cut, strip = cuts[item.id], strips.get(item.id)
        box = (cut.left, cut.top, cut.left + cut.width, cut.top + cut.height)
        with decoding_slot(claimed_pixels(item.content)):
            image = read_rgb(item.content, item.name)
            if box[2] > image.width or box[3] > image.height:
                raise AtelierError(
                    f"{item.name} is {image.width}×{image.height} px, data/downloads.parquet says otherwise: "
                    "`dvc repro download` makes both again"
                )
            # Pillow rather than torch: antialiased with the pixels beyond the box's edges, the same bytes on every
            # machine, and without the seconds that importing torch takes
            packed = np.asarray(image.resize((width, height), Image.Resampling.LANCZOS, box))
            if strip is None:
                return _Packed(item.id, packed, None)
            whole_size = (strip.length, side) if strip.landscape else (side, strip.length)
            whole = np.asarray(image.resize(whole_size, Image.Resampling.LANCZOS))
            return _Packed(item.id, packed, whole.swapaxes(0, 1) if strip.landscape else whole)

    with ThreadPool(workers) as pool:
        for chunk in _chunks(items):  # imap alone would read all shards ahead
            yield from pool.imap_unordered(resize, chunk)


def _chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    remaining = iter(items)
    while chunk := [*islice(remaining, CHUNK_PICTURES)]:
        yield chunk


def _uniform(id: str, purpose: str) -> float:
    """Return a number in [0, 1) from a hash of the purpose and the id."""
    return int.from_bytes(hashlib.sha256(f"{purpose}:{id}".encode()).digest()[:6]) / 2**48
