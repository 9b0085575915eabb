"""Stage evaluate: how good, how varied, how original the generator is; metrics.json, data/evaluation."""

from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import torch

from atelier.data.dataset import open_dataset
from atelier.device import deterministic_device
from atelier.errors import AtelierError
from atelier.files import replacing_directory, write_bytes, write_json
from atelier.metrics.inception import Inception, InceptionUnavailable, read_inception_weights
from atelier.metrics.panel import Metric, NearestPaintings, Quality, Scores, measure_quality
from atelier.metrics.patches import softness
from atelier.networks import load_generator
from atelier.networks.latent_field import render_seed
from atelier.paths import DATASET, EVALUATION, GENERATOR, METRICS
from atelier.pictures import Pixels
from atelier.pictures.sheets import write_sheet
from atelier.settings.messages import counted
from atelier.settings.schema import Evaluate
from tasks.stage import Stage, main

GRID = 64  # pictures in the grids of samples and of held-out paintings
PAIRS = 32  # generated pictures shown beside their nearest training paintings


def run(stage: Stage) -> str:
    """params `evaluate`; data/dataset and data/model/generator.safetensors → metrics.json, data/evaluation."""
    params = stage.params.evaluate
    device = deterministic_device(stage.name, params.device)
    dataset = open_dataset(DATASET)
    generator, header = load_generator(GENERATOR, device)
    if header["resolution"] != dataset.resolution:
        raise AtelierError(
            f"the generator paints {header['resolution']} px, the dataset holds {dataset.resolution} px: "
            "`dvc repro train` makes them fit"
        )
    inception = inception_for(params, device)
    with stage.progress(params.samples, "pictures") as progress:
        pieces = []
        for piece in render_seed(generator, params.seed, params.samples):
            pieces.append(piece)
            progress.advance(len(piece))
        progress.update(params.samples, "comparing")
        pictures = np.concatenate(pieces)
        training, held_out = dataset.train.images, dataset.held_out.images
        quality, kin = measure_quality(
            pictures, training, held_out, mirror=dataset.mirror, seed=params.seed, device=device
        )
        metrics = quality.to_metrics()
        metrics["softness_px"] = asdict(softness(pictures, training, held_out, params.seed))
        if isinstance(inception, Inception):
            progress.update(params.samples, "FID and KID")
            metrics["inception"] = inception.distances(pictures, training, held_out).to_metrics()
        elif inception:
            metrics["inception"] = {"not_computed": str(inception)}
    write_json(METRICS, metrics)
    with replacing_directory(EVALUATION) as directory:
        write_sheet(directory / "samples.png", pictures[:GRID])
        write_sheet(directory / "held_out.png", held_out[:GRID])
        write_sheet(directory / "nearest.png", beside_nearest(pictures, training, kin), columns=8)
        write_bytes(directory / "summary.txt", in_words(quality).encode())
    panel = {
        "kid": quality.kid,
        "kid_coarse": quality.kid_coarse,
        "coverage": quality.coverage,
        "memorisation": quality.memorisation,
    }
    words = [f"{name} {measure.value:.3g} (real {measure.floor:.3g})" for name, measure in panel.items()]
    if isinstance(inception, Inception):
        words.append(f"FID {metrics['inception']['fid']:.4g}")
    return f"{counted(len(pictures), 'picture')}, {quality.in_words}: {', '.join(words)}"


def in_words(quality: Quality) -> str:
    """A sentence and a table of the panel's numbers beside what real and spoilt paintings score."""
    rows = [["", "generated", "real", *(name.replace("_", " ") for name in quality.yardsticks)]]
    for field in fields(Scores):
        measure: Metric = getattr(quality, field.name)
        spoilt = (getattr(scores, field.name) for scores in quality.yardsticks.values())
        rows.append([field.name, *(f"{number:.3g}" for number in (measure.value, measure.floor, *spoilt))])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(map(str.rjust, row, widths)) for row in rows]
    return f"The generated pictures are {quality.in_words}.\n\n" + "\n".join(table) + "\n"


def inception_for(params: Evaluate, device: torch.device) -> Inception | InceptionUnavailable | None:
    """Inception where it is asked for, or why it cannot be had, which takes nothing from the other metrics.

    A file that params.yaml names wrongly is a mistake like any other, and raises AtelierError.
    """
    if not params.inception:
        return None
    given = Path(params.inception_weights) if params.inception_weights else None
    try:
        return Inception(read_inception_weights(given), device)
    except InceptionUnavailable as error:
        if given:
            raise
        print(f"evaluate: FID and KID are not computed, all else is: {error}")
        return error


def beside_nearest(pictures: Pixels, training: Pixels, kin: NearestPaintings) -> Pixels:
    """Each picture followed by its nearest training painting: the likeliest copies first."""
    shown = np.argsort(kin.distances, kind="stable")[:PAIRS]
    nearest = training[kin.rows[shown]]
    nearest[kin.mirrored[shown]] = nearest[kin.mirrored[shown]][:, :, ::-1]
    pairs = np.stack([pictures[shown], nearest], 1)
    return pairs.reshape(-1, *pairs.shape[2:])


if __name__ == "__main__":
    main("evaluate", run)
