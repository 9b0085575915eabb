"""Stage augment: the downloaded pictures as a packed set of squares, with its mirrored view."""

import os

from atelier.account import read_account
from atelier.packing import Picture, write_dataset
from atelier.shards import read_shards
from tasks.stage import DATA, Stage, main


def run(stage: Stage) -> str:
    """params `augment`; data/images and data/downloads.parquet → data/dataset."""
    section = stage.params.augment
    pictures = [
        Picture(entry.id, entry.width or 0, entry.height or 0, entry.phash or "0")
        for entry in read_account(DATA / "downloads.parquet")
        if entry.status == "ok"
    ]
    with stage.progress(len(pictures), "images") as progress:
        facts = write_dataset(
            pictures,
            read_shards(DATA / "images"),
            DATA / "dataset",
            resolution=section.resolution,
            crop=section.crop,
            mirror=section.mirror,
            held_out=section.held_out,
            workers=os.cpu_count() or 1,
            advance=progress.advance,
        )
    left_out = facts["left_out_too_small"]
    return (
        f"{facts['pictures']:,} pictures of {section.resolution} px"
        f"{', doubled by their mirror images' if section.mirror else ''}; "
        f"{facts['train']:,} to train on, {facts['held_out']:,} held out"
        f"{f'; {left_out:,} too small for this resolution' if left_out else ''}"
    )


if __name__ == "__main__":
    main("augment", run)
