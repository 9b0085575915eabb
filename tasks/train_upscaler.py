"""Stage train_upscaler: a compact super-resolution network on the downloaded paintings; data/upscaler."""

import os
import platform
import shutil
from dataclasses import asdict

import torch

from atelier import __version__
from atelier.download.account import read_account
from atelier.errors import AtelierError
from atelier.files import write_json
from atelier.params import TrainUpscaler
from atelier.resemblance import kept_pictures
from atelier.shards import read_shards
from atelier.training.checkpoint import inputs_key
from atelier.upscaling.comparison import write_comparison
from atelier.upscaling.judge import Judgement, judge
from atelier.upscaling.loop import UpscalerPlan, UpscalerTrainer
from atelier.upscaling.network import save_upscaler
from atelier.upscaling.pictures import Pictures, read_pictures
from tasks.stage import DATA, Stage, main
from tasks.trainer import asked_to_stop, deterministic_device, only_trainer

JUDGED_SCALES = {2: (2, 4), 4: (4,)}  # one pass, and as far as chained passes usually go
OUT = DATA / "upscaler"


def run(stage: Stage) -> str:
    """params `train_upscaler`; data/images and data/downloads.parquet → data/upscaler."""
    params = stage.params.train_upscaler
    device = deterministic_device(stage.name, params.device)
    plan = UpscalerPlan(**params.model_dump(exclude={"device", "paintings"}))
    pictures = paintings(params)
    key = inputs_key(asdict(plan), pictures.content_key, device.type)
    trainer = UpscalerTrainer(plan, pictures.train, device, stage.state / key / "state.safetensors")
    if trainer.resume():
        print(f"{stage.name}: goes on from step {trainer.step:,} (.atelier/{stage.name}/{key})")
    with only_trainer(stage.name, device), asked_to_stop() as stopping:
        try:
            with stage.progress(plan.steps, "steps", trainer.step) as progress:
                finished = trainer.train(progress, stopping.is_set)
        except torch.OutOfMemoryError:
            raise AtelierError(
                f"{device} has not enough memory for train_upscaler.batch {plan.batch}: lower it"
            ) from None
    if not finished:
        print(f"{stage.name}: stopped at step {trainer.step:,}; `dvc repro` goes on from there")
        raise SystemExit(143)
    judgements = write_outs(trainer, pictures)
    for other in {*stage.state.iterdir()} - {stage.state / key}:
        shutil.rmtree(other)
    return summary(judgements, pictures)


def paintings(params: TrainUpscaler) -> Pictures:
    """The downloaded paintings, or as many of them as `train_upscaler.paintings` allows, ready to learn from."""
    known = kept_pictures(read_account(DATA / "downloads.parquet"))
    smallest_px = params.patch_px * params.scale
    return read_pictures(
        known, read_shards(DATA / "images"), smallest_px, params.paintings, os.cpu_count() or 1
    )


def write_outs(trainer: UpscalerTrainer, pictures: Pictures) -> dict[int, dict[str, Judgement]]:
    """The network, how much better it is than Lanczos at which scale, and a sheet to see it."""
    plan, network = trainer.plan, trainer.network.eval().requires_grad_(False)
    facts = {
        "paintings": len(pictures.train),
        "versions": {"atelier": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }
    save_upscaler(OUT / "upscaler.safetensors", network, {**facts, **asdict(plan)})
    scales = JUDGED_SCALES[plan.scale]
    judgements = {scale: judge(network, pictures.held_out, scale) for scale in scales}
    report = {
        "paintings": {
            "found": pictures.found,
            "trained_on": len(pictures.train),
            "held_out": len(pictures.held_out),
        },
        "training": asdict(plan),
        **{
            f"x{scale}": {name: asdict(figure) for name, figure in judgement.items()}
            for scale, judgement in judgements.items()
        },
    }
    write_json(OUT / "report.json", report)
    write_json(
        OUT / "gain.json", {f"x{scale}_gain_db": judgements[scale]["psnr_y"].gain.mean for scale in scales}
    )
    write_comparison(OUT / "comparison.png", network, pictures.held_out, scales[-1])
    return judgements


def summary(judgements: dict[int, dict[str, Judgement]], pictures: Pictures) -> str:
    """What the held-out paintings say."""
    gains = ", ".join(
        f"×{scale} {judgement['psnr_y'].ours.mean:.2f} dB ({judgement['psnr_y'].gain.mean:+.2f} over Lanczos)"
        for scale, judgement in judgements.items()
    )
    return f"{gains} on {len(pictures.held_out)} held-out paintings; see {OUT}/comparison.png"


if __name__ == "__main__":
    main("train_upscaler", run)
