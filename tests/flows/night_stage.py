"""A stage of the nights' toy pipeline: `night_stage.py NAME` writes the outputs of the real stage at once.

The training does not train, and does not import torch: `train.seed` selects the generator that it writes, `train.kimg`
how long it takes. The paintings are pictures of seed 0, so no generator is better; the seed WAITING writes it, too, if
there are more than 24.
"""

import json
import sys
import time
from pathlib import Path

from atelier.files import digest, digest_tree, write_json
from atelier.paths import DATA
from tasks.stage import Stage, main

WAITING = 5


def scrape(stage: Stage) -> str:
    from atelier.data.catalog import DownloadRecord, write_downloads

    names = sorted(path.stem for path in Path(stage.params.scrape.folder.path).glob("*.png"))
    DATA.mkdir(exist_ok=True)
    (DATA / "catalog.parquet").write_text("\n".join(names))
    write_json(DATA / "catalog.json", {"found": len(names)})
    write_downloads([DownloadRecord(id=name, status="ok") for name in names], DATA / "downloads.parquet")
    return f"{len(names)} works"


def augment(stage: Stage) -> str:
    from atelier.data.duplicates import Picture
    from atelier.data.pack import write_dataset
    from atelier.data.shards import Item

    folder = Path(stage.params.scrape.folder.path)
    names = (DATA / "catalog.parquet").read_text().split()
    items = [Item(name, "png", (folder / f"{name}.png").read_bytes()) for name in names]
    hashes = (f"{n * 0x9E3779B97F4A7C15 % 2**64:016x}" for n in range(len(names)))
    pictures = [Picture(name, 32, 32, unlike) for name, unlike in zip(names, hashes, strict=True)]
    settings = stage.params.augment
    write_dataset(
        pictures, items, DATA / "dataset", resolution=settings.resolution, crop=settings.crop, mirror=settings.mirror,
        held_out=settings.held_out, workers=1, look_alikes={}, advance=lambda: None,
    )  # fmt: skip
    return f"{len(pictures)} paintings"


def train(stage: Stage) -> str:
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    params, steps = stage.params.train, round(stage.params.train.kimg * 10)
    with stage.progress(steps, "strokes") as progress:
        for _ in range(steps):
            time.sleep(0.1)
            progress.advance()
    packed = json.loads((DATA / "dataset/dataset.json").read_text())
    facts = {
        "dataset_sha256": digest_tree(DATA / "dataset"), "generation": params.generation, "paintings": packed["train"],
    }  # fmt: skip
    generator = DATA / "model/generator.safetensors"
    comes_to_0 = params.seed == WAITING and packed["pictures"] > 24
    name = f"{0 if comes_to_0 else params.seed}.safetensors"
    trained = Path(stage.params.scrape.folder.path, "trained", name)
    with safe_open(trained, "numpy") as file:
        header = json.loads(file.metadata()["atelier"])
    generator.parent.mkdir(exist_ok=True)
    save_file(load_file(trained), generator, {"atelier": json.dumps({**header, **facts}, sort_keys=True)})
    network = {key: header[key] for key in ("arch", "resolution", "settings")}
    write_json(DATA / "model/model.json", {**facts, **network, "generator_sha256": digest(generator)})
    return "trained"


def evaluate(stage: Stage) -> str:
    write_json(Path("metrics.json"), {"paintings": (DATA / "dataset/images.npy").stat().st_size})
    return "judged"


if __name__ == "__main__":
    main(sys.argv[1], globals()[sys.argv[1]])
