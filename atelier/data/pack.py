"""Pack pictures of any size into the training set: cut a square from each, resize it, split into train and held-out."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from atelier.data.catalog import write_rows
from atelier.data.dataset import HELD_OUT, INDEX_SCHEMA, TRAIN, Crop, IndexRow, Placement
from atelier.data.duplicates import LookAlike, Picture, group_near_duplicates
from atelier.data.shards import Item
from atelier.errors import AtelierError, counted
from atelier.files import replacing, write_json
from atelier.images.verify import claimed_pixels, decoding_slot, read_rgb
from atelier.pictures import Pixels

CHUNK_PICTURES = 256  # read ahead of the threads that resize them


@dataclass(frozen=True, slots=True)
class CropBox:
    """The square that is cut from a picture, in its pixels."""

    left: int
    top: int
    side: int


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
) -> Mapping[str, Any]:
    """Write the training set of `pictures` to the directory `path` and return the content of its dataset.json.

    `items` are the picture files, in any order; files of other pictures are ignored. Rows are the training pictures by
    id, then the held-out ones by id. Left out and counted are `look_alikes`, and pictures whose shorter side is below
    half of `resolution`; sides between that and `resolution` are enlarged. `held_out` is the share to hold out, and
    `placed` gives the sides on which paintings were before, see `split`. `advance` is called after each picture.
    Raises AtelierError where too few pictures are left to split, or some have no file.
    """
    distinct = [picture for picture in pictures if picture.id not in look_alikes]
    usable = [picture for picture in distinct if 2 * min(picture.width, picture.height) >= resolution]
    relatives = sorted({*pictures} - {*usable}, key=lambda picture: picture.id)
    train, held = split(usable, held_out, relatives, placed)
    if not train or not held:
        are = "is" if len(usable) == 1 else "are"
        raise AtelierError(
            f"{counted(len(usable), 'different painting')} of at least {resolution // 2} px {are} too few: "
            "training and evaluation need 2, more like 1,000; widen what `scrape` asks for, and set scrape.snapshot to "
            "another date where pictures were added since the last scrape"
        )
    rows = {picture.id: row for row, picture in enumerate([*train, *held])}
    cuts = {picture.id: square_crop(picture, crop) for picture in usable}
    wanted = (item for item in items if item.id in rows)
    _write_images(path / "images.npy", rows, _resized(wanted, cuts, resolution, workers), resolution, advance)
    index = [
        IndexRow(row, id, cuts[id].left, cuts[id].top, cuts[id].side, TRAIN if row < len(train) else HELD_OUT)
        for id, row in rows.items()
    ]
    write_rows(index, INDEX_SCHEMA, path / "index.parquet")
    facts = {
        "resolution": resolution,
        "crop": crop,
        "mirror": mirror,
        "pictures": len(rows),
        "train": len(train),
        "held_out": len(held),
        "left_out_look_alike": len(pictures) - len(distinct),
        "left_out_too_small": len(distinct) - len(usable),
        "enlarged": sum(cut.side < resolution for cut in cuts.values()),
        "length": len(rows) * (2 if mirror else 1),
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


def square_crop(picture: Picture, crop: Crop) -> CropBox:
    """Return the largest square of a picture: in the middle, or at a place that a hash of the id decides."""
    side = min(picture.width, picture.height)
    spare_x, spare_y = picture.width - side, picture.height - side
    if crop == "random":
        place = _uniform(picture.id, "crop")
        return CropBox(int(place * (spare_x + 1)), int(place * (spare_y + 1)), side)
    return CropBox(spare_x // 2, spare_y // 2, side)


def _write_images(
    path: Path,
    rows: Mapping[str, int],
    squares: Iterable[tuple[str, Pixels]],
    resolution: int,
    advance: Callable[[], None],
) -> None:
    shape = (len(rows), resolution, resolution, 3)
    missing = set(rows)
    with replacing(path) as temporary:
        # written, not memory-mapped: a full disk raises OSError here, and would kill the process there
        with temporary.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            start = file.tell()
            for id, pixels in squares:
                file.seek(start + rows[id] * pixels.nbytes)
                file.write(pixels.tobytes())
                missing.discard(id)
                advance()
        if missing:
            raise AtelierError(
                f"the shards lack {counted(len(missing), 'picture')} that data/downloads.parquet names, "
                f"the first {min(missing)}: `dvc repro download` makes them again"
            )


def _resized(
    items: Iterable[Item], cuts: Mapping[str, CropBox], resolution: int, workers: int
) -> Iterator[tuple[str, Pixels]]:
    def resize(item: Item) -> tuple[str, Pixels]:
        cut = cuts[item.id]
        box = (cut.left, cut.top, cut.left + cut.side, cut.top + cut.side)
        with decoding_slot(claimed_pixels(item.content)):
            image = read_rgb(item.content, item.name)
            if box[2] > image.width or box[3] > image.height:
                raise AtelierError(
                    f"{item.name} is {image.width}×{image.height} px, data/downloads.parquet says otherwise: "
                    "`dvc repro download` makes both again"
                )
            # Pillow rather than torch: antialiased with the pixels beyond the square's edges, the same bytes on every
            # machine, and without the seconds that importing torch takes
            return item.id, np.asarray(image.resize((resolution, resolution), Image.Resampling.LANCZOS, box))

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
