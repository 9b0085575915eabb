"""Stage train_upscaler: train a compact super-resolution network on the downloaded paintings; data/upscaler."""

import os
import platform
from dataclasses import asdict
from typing import Any

import torch

from atelier import __version__
from atelier.data.catalog import read_downloads
from atelier.data.duplicates import downloaded_pictures
from atelier.data.shards import read_shards
from atelier.device import deterministic_device, is_out_of_memory
from atelier.errors import AtelierError
from atelier.files import write_json
from atelier.paths import DOWNLOADS, SHARDS, UPSCALER_MODEL
from atelier.settings.schema import TrainUpscaler
from atelier.training.processes import exclusive_gpu, stop_requests
from atelier.upscaling.data import PaintingSets, read_paintings
from atelier.upscaling.details_sheet import write_details
from atelier.upscaling.network import save_upscaler
from atelier.upscaling.train import ComparedMetric, UpscalerTrainer, evaluate_upscaler
from tasks.stage import Stage, main
from tasks.states import States

EVALUATED_SCALES = {2: (2, 4), 4: (4,)}  # by the network's scale: one pass, and the usual number of passes


def run(stage: Stage) -> str:
    """Train on data/images with data/downloads.parquet; write data/upscaler."""
    params = stage.params.train_upscaler
    device = deterministic_device(stage.name, params.device)
    pictures = load_paintings(params)
    named = {f"{stage.name}.{name}": value for name, value in training_settings(params).items()}
    states = States.of(stage, {**named, SHARDS.as_posix(): pictures.content_key, f"{stage.name}.device": device.type})
    states.begin()
    trainer = UpscalerTrainer(params, pictures.train, device, states.directory / "state.safetensors")
    resumed = trainer.resume()
    states.print_resumed(stage.name, resumed, f"step {trainer.step:,}")
    with exclusive_gpu(stage.name, device), stop_requests() as stopping:
        try:
            with stage.progress(params.steps, "steps", trainer.step) as progress:
                finished = trainer.train(progress, stopping.is_set)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise AtelierError(
                f"{device} has not enough memory for train_upscaler.batch {params.batch}: lower it"
            ) from None
    if not finished:
        print(f"{stage.name}: stopped at step {trainer.step:,}; `dvc repro` goes on from there")
        raise SystemExit(143)
    results = write_outputs(trainer, pictures)
    stage.refuse_changed()
    if message := states.finish():
        print(f"{stage.name}: {message}")
    return summary(results, pictures)


def training_settings(params: TrainUpscaler) -> dict[str, Any]:
    """The settings that decide a training's steps."""
    return params.model_dump(exclude={"paintings", "device"})


def load_paintings(params: TrainUpscaler) -> PaintingSets:
    """Read the downloaded paintings, at most `train_upscaler.paintings` of them."""
    known = downloaded_pictures(read_downloads(DOWNLOADS))
    smallest_px = params.patch_px * params.scale
    return read_paintings(known, read_shards(SHARDS), smallest_px, params.paintings, os.cpu_count() or 1)


def write_outputs(trainer: UpscalerTrainer, pictures: PaintingSets) -> dict[int, dict[str, ComparedMetric]]:
    """Write the network, its comparison with Lanczos at each scale, and a sheet of details."""
    settings, network = training_settings(trainer.config), trainer.network.eval().requires_grad_(False)
    facts = {
        "paintings": len(pictures.train),
        "versions": {"atelier": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }
    save_upscaler(UPSCALER_MODEL / "upscaler.safetensors", network, {**facts, **settings})
    scales = EVALUATED_SCALES[network.scale]
    results = {scale: evaluate_upscaler(network, pictures.held_out, scale) for scale in scales}
    report = {
        "paintings": {"found": pictures.found, "trained_on": len(pictures.train), "held_out": len(pictures.held_out)},
        "training": settings,
        **{f"x{scale}": {name: asdict(metric) for name, metric in result.items()} for scale, result in results.items()},
    }
    write_json(UPSCALER_MODEL / "report.json", report)
    write_json(
        UPSCALER_MODEL / "gain.json", {f"x{scale}_gain_db": results[scale]["psnr_y"].gain.mean for scale in scales}
    )
    write_details(UPSCALER_MODEL / "comparison.png", network, pictures.held_out, scales[-1])
    return results


def summary(results: dict[int, dict[str, ComparedMetric]], pictures: PaintingSets) -> str:
    """One line: PSNR at each scale, and the gain over Lanczos."""
    gains = ", ".join(
        f"×{scale} {result['psnr_y'].ours.mean:.2f} dB ({result['psnr_y'].gain.mean:+.2f} over Lanczos)"
        for scale, result in results.items()
    )
    return f"{gains} on {len(pictures.held_out)} held-out paintings; see {UPSCALER_MODEL}/comparison.png"


if __name__ == "__main__":
    main("train_upscaler", run)
