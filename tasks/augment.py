"""Stage augment: pack the downloaded pictures into the training set."""

import os
from collections.abc import Mapping
from typing import Any

from atelier.data.catalog import read_catalog, read_downloads, read_table
from atelier.data.dataset import INDEX_SCHEMA, read_placements, write_placements
from atelier.data.duplicates import downloaded_pictures, find_look_alikes
from atelier.data.pack import write_dataset
from atelier.data.shards import read_shards
from atelier.errors import counted
from atelier.paths import CATALOG, DATASET, DOWNLOADS, SHARDS
from atelier.pictures import AS_THE_SET, SQUARE, picture_size, size_in_words
from tasks.stage import Stage, main

MAX_NAMED_LOOK_ALIKES = 10  # in the log; data/downloads.parquet names all


def run(stage: Stage) -> str:
    """Make data/dataset from data/images and data/downloads.parquet, with the section `augment` of params.yaml."""
    section = stage.params.augment
    arrived = downloaded_pictures(read_downloads(DOWNLOADS))
    alike = find_look_alikes(arrived) if section.near_duplicates == "exclude" else {}
    for id in sorted(alike)[:MAX_NAMED_LOOK_ALIKES]:
        print(f"left out: {id} looks like {alike[id].id}, {alike[id].bits} bits apart")
    if len(alike) > MAX_NAMED_LOOK_ALIKES:
        print(f"left out: {len(alike) - MAX_NAMED_LOOK_ALIKES:,} more; data/downloads.parquet names them all")
    # one file for each share, so that a change of augment.held_out makes a new split
    placements = stage.state / f"split-{section.held_out:g}.parquet"
    placed = read_placements(placements)
    with stage.progress(len(arrived) - len(alike), "images") as progress:
        facts = write_dataset(
            arrived,
            read_shards(SHARDS),
            DATASET,
            resolution=section.resolution,
            crop=section.crop,
            mirror=section.mirror,
            held_out=section.held_out,
            workers=os.cpu_count() or 1,
            look_alikes=alike,
            advance=progress.advance,
            placed=placed,
            crops=section.crops,
            works=read_catalog(CATALOG),
            aspect=section.aspect,
        )
    index = read_table(DATASET / "index.parquet", INDEX_SCHEMA)
    sides = zip(index["id"].to_pylist(), index["split"].to_pylist(), strict=True)
    write_placements(placements, placed, arrived, sides)
    left_out, aspect = facts["left_out_too_small"], facts.get("aspect", SQUARE)
    return (
        f"{counted(facts['pictures'], 'picture')} of {size_in_words(*picture_size(section.resolution, aspect))}"
        f"{f' ({aspect}, the nearest to their median)' if section.aspect == AS_THE_SET else ''}"
        f"{', doubled by their mirror images' if section.mirror else ''}; "
        f"{facts['train']:,} to train on, {facts['held_out']:,} held out"
        f"; {_area_in_words(facts)}"
        f"{f'; {len(alike):,} left out that look like others' if alike else ''}"
        f"{f'; {left_out:,} too small for this resolution' if left_out else ''}"
    )


def _area_in_words(facts: Mapping[str, Any]) -> str:
    """How much of the training paintings' area the training shows."""
    boxes = "squares" if facts.get("aspect", SQUARE) == SQUARE else f"boxes of {facts['aspect']}"
    shown = f"{boxes} show {facts['area_in_square']:.0%} of the paintings' area"
    if facts["crops"] == 1:
        return f"the {shown}"
    size = f"{facts['strips_bytes'] / 1e6:,.1f} MB"
    return f"windows show {facts['area_seen']:.0%}, {facts['crops']} an epoch, from {size}; {shown}"


if __name__ == "__main__":
    main("augment", run)
