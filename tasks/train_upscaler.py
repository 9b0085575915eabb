"""Stage train_upscaler: train a compact super-resolution network on the downloaded paintings; data/upscaler."""

import os
import platform
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
from atelier.training.processes import exclusive_gpu, stop_requests
from atelier.upscaling.data import PaintingSets, read_paintings
from atelier.upscaling.details_sheet import write_details
from atelier.upscaling.network import SRVGGNetCompact, save_upscaler
from atelier.upscaling.train import Compared, UpscalerTrainer, evaluate_upscaler
from tasks.stage import Stage, main
from tasks.states import States

EVALUATED_SCALES = {2: (2, 4), 4: (4,)}  # by the network's scale: one pass, and the usual number of passes


def run(stage: Stage) -> str:
    """Train on data/images with data/downloads.parquet; write data/upscaler."""
    params = stage.params.train_upscaler
    device = deterministic_device(stage.name, params.device)
    known, least_px = downloaded_pictures(read_downloads(DOWNLOADS)), params.patch_px * params.scale
    pictures = read_paintings(known, read_shards(SHARDS), least_px, params.paintings, os.cpu_count() or 1)
    settings = params.model_dump(exclude={"paintings", "device"})  # they decide a training's steps
    named = {f"{stage.name}.{name}": value for name, value in settings.items()}
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
            needs = f"train_upscaler.batch {params.batch}"
            raise AtelierError(f"{device} has not enough memory for {needs}: lower it") from None
    if not finished:
        print(f"{stage.name}: stopped at step {trainer.step:,}; `dvc repro` goes on from there")
        raise SystemExit(143)
    results = write_outputs(trainer.network.eval().requires_grad_(False), settings, pictures)
    stage.refuse_changed()
    states.finish(stage.name)
    return summary(results, pictures)


def write_outputs(network: SRVGGNetCompact, settings: dict[str, Any], pictures: PaintingSets) -> dict[int, Compared]:
    """Write the network, report.json, gain.json and a sheet of details to data/upscaler.

    Returns the comparison with Lanczos by scale.
    """
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
        **{f"x{scale}": result for scale, result in results.items()},
    }
    write_json(UPSCALER_MODEL / "report.json", report)
    gains = {f"x{scale}_gain_db": results[scale]["psnr_y"]["gain"]["mean"] for scale in scales}
    write_json(UPSCALER_MODEL / "gain.json", gains)
    write_details(UPSCALER_MODEL / "comparison.png", network, pictures.held_out, scales[-1])
    return results


def summary(results: dict[int, Compared], pictures: PaintingSets) -> str:
    """One line: PSNR at each scale, and the gain over Lanczos."""
    gains = ", ".join(
        f"×{scale} {result['psnr_y']['ours']['mean']:.2f} dB ({result['psnr_y']['gain']['mean']:+.2f} over Lanczos)"
        for scale, result in results.items()
    )
    return f"{gains} on {len(pictures.held_out)} held-out paintings; see {UPSCALER_MODEL}/comparison.png"


if __name__ == "__main__":
    main("train_upscaler", run)
