"""Stage evaluate: the metrics of the generator beside those of real paintings, in metrics.json and data/evaluation."""

from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import torch

from atelier.data.dataset import open_dataset
from atelier.device import deterministic_device
from atelier.errors import counted
from atelier.files import digest, replacing_directory, write_bytes, write_json
from atelier.metrics.distances import rounded
from atelier.metrics.features import judge_for
from atelier.metrics.inception import Inception, InceptionUnavailable, read_inception_weights
from atelier.metrics.labels import label_scores
from atelier.metrics.panel import Metric, NearestPaintings, Quality, Scores, measure_quality, paint_samples
from atelier.metrics.patches import softness
from atelier.networks import read_model
from atelier.networks.efficientnet import LITE0
from atelier.paths import DATASET, EVALUATION, GENERATOR, METRICS
from atelier.pictures import Pixels
from atelier.pictures.sheets import write_sheet
from atelier.settings.schema import Evaluate
from tasks.stage import Stage, main

GRID_PICTURES = 64  # on the sheets of samples and of held-out paintings
PAIRS = 32  # of generated pictures and their nearest training paintings


def run(stage: Stage) -> str:
    """Evaluate data/model/generator.safetensors on data/dataset; write metrics.json and data/evaluation."""
    params = stage.params.evaluate
    device = deterministic_device(stage.name, params.device)
    dataset = open_dataset(DATASET)
    judge = judge_for(read_model(GENERATOR)[0])
    inception = load_inception(params, device, wanted=judge != LITE0)
    with stage.progress(params.samples, "pictures") as progress:
        pictures = paint_samples(GENERATOR, dataset, params.samples, params.seed, device, progress)
        progress.update(params.samples, "comparing")
        training, held_out = dataset.train.images, dataset.held_out.images
        quality, nearest = measure_quality(
            pictures, training, held_out, mirror=dataset.mirror, seed=params.seed, device=device, judge=judge
        )
        metrics = quality.to_metrics()
        labels = label_scores(GENERATOR, dataset, pictures, params.seed, device, judge)
        if labels:
            metrics["labels"] = rounded({name: asdict(score) for name, score in labels.items()})
        metrics["compared"]["generator_sha256"] = digest(GENERATOR)
        if judge != LITE0:
            metrics["compared"]["trained_by"] = LITE0.version
        metrics["softness_px"] = softness(pictures, training, held_out, params.seed)
        if isinstance(inception, Inception):
            progress.update(params.samples, "FID and KID")
            metrics["inception"] = inception.distances(pictures, training, held_out)
        elif inception:
            metrics["inception"] = {"not_computed": str(inception)}
    write_json(METRICS, metrics)
    with replacing_directory(EVALUATION) as directory:
        write_sheet(directory / "samples.png", pictures[:GRID_PICTURES])
        write_sheet(directory / "held_out.png", held_out[:GRID_PICTURES])
        write_sheet(directory / "nearest.png", pairs_with_nearest(pictures, training, nearest), columns=8)
        by_label = [f"{name}: {score.in_words}" for name, score in labels.items()]
        write_bytes(directory / "summary.txt", "\n".join([summary_table(quality), *by_label]).encode())
    for line in by_label:
        print(f"evaluate: {line}")
    words = []
    for name in ("kid", "kid_coarse", "kid_lite1", "coverage", "memorisation"):
        metric: Metric = getattr(quality, name)
        words.append(f"{name} {metric.value:.3g} (real {metric.floor:.3g})")
    if isinstance(inception, Inception):
        words.append(f"FID {metrics['inception']['fid']:.4g}")
    return f"{counted(len(pictures), 'picture')}, {quality.in_words}: {', '.join(words)}"


def summary_table(quality: Quality) -> str:
    """A sentence, and a table of the metrics beside those of real paintings and of the yardsticks."""
    rows = [["", "generated", "real", *(name.replace("_", " ") for name in quality.yardsticks)]]
    for field in fields(Scores):
        metric: Metric = getattr(quality, field.name)
        yardsticks = (getattr(scores, field.name) for scores in quality.yardsticks.values())
        rows.append([field.name, *(f"{number:.3g}" for number in (metric.value, metric.floor, *yardsticks))])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(map(str.rjust, row, widths)) for row in rows]
    return f"The generated pictures are {quality.in_words}.\n\n" + "\n".join(table) + "\n"


def load_inception(params: Evaluate, device: torch.device, wanted: bool) -> Inception | InceptionUnavailable | None:
    """Inception if evaluate.inception is set, or why it is unavailable, which raises if inception_weights is set.

    With `inception_weights` it is enough that it is `wanted`, as for a model that pretrained features have trained.
    Nothing is downloaded for that, and weights in torch's cache do not count, which other machines may not have.
    """
    if not (params.inception or (wanted and params.inception_weights)):
        return None
    given = Path(params.inception_weights) if params.inception_weights else None
    try:
        return Inception(read_inception_weights(given), device)
    except InceptionUnavailable as error:
        if given:
            raise
        print(f"evaluate: FID and KID are not computed, all other metrics are: {error}")
        return error


def pairs_with_nearest(pictures: Pixels, training: Pixels, nearest: NearestPaintings) -> Pixels:
    """Each picture followed by its nearest training painting, in order of their distance."""
    order = np.argsort(nearest.distances, kind="stable")[:PAIRS]
    paintings, mirrored = training[nearest.rows[order]], nearest.mirrored[order]
    paintings[mirrored] = paintings[mirrored][:, :, ::-1]
    pairs = np.stack([pictures[order], paintings], 1)
    return pairs.reshape(-1, *pairs.shape[2:])


if __name__ == "__main__":
    main("evaluate", run)
