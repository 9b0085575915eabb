"""A stage of the explorations' toy pipeline: `explore_stage.py NAME` ends at once, with scores computed from params.

The scores are best at train.lr 0.0002, and improve with each of the five snapshots of a training.
"""

import json
import math
import os
import sys
import time
from pathlib import Path

from PIL import Image

from atelier.errors import AtelierError
from atelier.files import write_json
from atelier.paths import DATA, STATE
from tasks.stage import Stage, main

SNAPSHOTS = 5


def scrape(stage: Stage) -> str:
    if stage.params.scrape.gallery.works == 13:
        raise AtelierError("thirteen works bring bad luck")
    (DATA / "scrape").write_text(f"{stage.params.scrape.gallery.works} works\n")
    return "found"


def augment(stage: Stage) -> str:
    (DATA / "augment").write_text((DATA / "scrape").read_text() + f"crop {stage.params.augment.crop}\n")
    return "cropped"


def train(stage: Stage) -> str:
    params = stage.params.train
    if params.batch == 13:
        raise AtelierError("thirteen pictures a step bring bad luck")
    worst = abs(math.log10(params.lr / 0.0002)) + 0.1 * (stage.params.augment.crop == "random")
    colour = (round(params.lr * 1e5) % 256, params.step_batch % 256, 200)
    curve = []
    with stage.progress(SNAPSHOTS, "kimg") as progress:
        for step in range(1, SNAPSHOTS + 1):
            time.sleep(float(os.environ.get("TOY_SNAPSHOT_S", "0")))
            curve.append({"kimg": float(step), "kid_coarse": worst + 0.5 / step})
            progress.update(step)
            grid = STATE / f"grid-{step}.png"
            Image.new("RGB", (64, 64), colour).save(grid)
            progress.show_picture(grid, curve)
    write_json(DATA / "train", {"lr": params.lr, "batch": params.step_batch, **curve[-1]})
    return "trained"


def evaluate(stage: Stage) -> str:
    trained = json.loads((DATA / "train").read_text())
    if trained["batch"] == 17:  # what no version of ours writes
        write_json(Path("metrics.json"), ["seventeen"])
        return "judged badly"
    write_json(Path("metrics.json"), {"kid_coarse": {"value": trained["kid_coarse"], "floor": 0.0}, "held_out": 9})
    return "judged"


def generate(stage: Stage) -> str:
    trained = json.loads((DATA / "train").read_text())
    Image.new("RGB", (96, 96), (round(trained["lr"] * 1e5) % 256, 90, 200)).save(DATA / "contact_sheet.png")
    return "painted"


def upscale(stage: Stage) -> str:
    (DATA / "upscale").write_bytes((DATA / "contact_sheet.png").read_bytes())
    return "printed"


if __name__ == "__main__":
    DATA.mkdir(exist_ok=True)
    with Path(os.environ["TOY_RUNS"]).open("a") as runs:
        runs.write(f"{sys.argv[1]}\n")
    main(sys.argv[1], globals()[sys.argv[1]])
