"""Stage augment: the downloaded pictures as a packed set of squares, with its mirrored view."""

import os
from collections.abc import Mapping

from atelier.data.catalog import read_downloads, read_table
from atelier.data.dataset import INDEX_SCHEMA, read_placements, write_placements
from atelier.data.duplicates import LookAlike, downloaded_pictures, find_look_alikes
from atelier.data.pack import write_dataset
from atelier.data.shards import read_shards
from atelier.settings.messages import counted
from tasks.stage import DATA, Stage, main

NAMED = 10  # look-alikes that the log names; data/downloads.parquet names all


def run(stage: Stage) -> str:
    """params `augment`; data/images and data/downloads.parquet → data/dataset."""
    section = stage.params.augment
    arrived = downloaded_pictures(read_downloads(DATA / "downloads.parquet"))
    alike = find_look_alikes(arrived) if section.near_duplicates == "exclude" else {}
    _tell(alike)
    # another share is another split, so that `augment.held_out` has the effect that it says
    memory = stage.state / f"split-{section.held_out:g}.parquet"
    placed = read_placements(memory)
    with stage.progress(len(arrived) - len(alike), "images") as progress:
        facts = write_dataset(
            arrived,
            read_shards(DATA / "images"),
            DATA / "dataset",
            resolution=section.resolution,
            crop=section.crop,
            mirror=section.mirror,
            held_out=section.held_out,
            workers=os.cpu_count() or 1,
            look_alikes=alike,
            advance=progress.advance,
            placed=placed,
        )
    index = read_table(DATA / "dataset" / "index.parquet", INDEX_SCHEMA)
    sides = zip(index["id"].to_pylist(), index["split"].to_pylist(), strict=True)
    write_placements(memory, placed, arrived, sides)
    left_out = facts["left_out_too_small"]
    return (
        f"{counted(facts['pictures'], 'picture')} of {section.resolution} px"
        f"{', doubled by their mirror images' if section.mirror else ''}; "
        f"{facts['train']:,} to train on, {facts['held_out']:,} held out"
        f"{f'; {len(alike):,} left out that look like others' if alike else ''}"
        f"{f'; {left_out:,} too small for this resolution' if left_out else ''}"
    )


def _tell(alike: Mapping[str, LookAlike]) -> None:
    for id in sorted(alike)[:NAMED]:
        print(f"left out: {id} looks like {alike[id].id}, {alike[id].bits} bits apart")
    if len(alike) > NAMED:
        print(f"left out: {len(alike) - NAMED:,} more; data/downloads.parquet names them all")


if __name__ == "__main__":
    main("augment", run)
