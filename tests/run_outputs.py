"""The outputs of a small run in the current directory, made by the library's own writers instead of the stages."""

import io
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from atelier.canvas.artworks import load_painter, provenance_of, write_artworks
from atelier.canvas.recipe import Recipe
from atelier.data.catalog import DownloadRecord, Rights, Work, write_catalog, write_downloads
from atelier.data.shards import Item, write_shards
from atelier.files import digest
from atelier.networks import NetworkConfig
from atelier.progress import Progress
from tests.models import SMALL, save_small_generator


def make_outputs(
    artworks: int = 3, network: NetworkConfig = SMALL, title: str = "Calm", rights: Rights = "public-domain"
) -> None:
    """Write data/ and metrics.json: twelve works, a model that paints blots, `artworks` pictures, two snapshots."""
    generator = Path("data/model/generator.safetensors")
    generator.parent.mkdir(parents=True)
    save_small_generator(generator, network=network)
    works = [_work(number, title, rights) for number in range(12)]
    write_catalog(works, Path("data/catalog.parquet"))
    Path("data/catalog.json").write_text(json.dumps({"asked": title, "found": 12}))
    records = [
        DownloadRecord(id=work.id, status="missing", reason=f"HTTP 404 {title}") if number == 0
        else DownloadRecord(id=work.id, status="ok", sha256="0" * 64, phash="0" * 16, width=64, height=64, bytes=100)
        for number, work in enumerate(works)
    ]  # fmt: skip
    write_downloads(records, Path("data/downloads.parquet"))
    write_shards(
        [Item(work.id, "png", _picture(number)) for number, work in enumerate(works) if number], Path("data/images")
    )
    facts = {
        "arch": network.arch, "dataset_sha256": "d" * 64, "ended_by": "kimg", "generator_sha256": digest(generator),
        "kimg": 2.0, "pick": {"which": "last"},
        "rollbacks": [{"from_kimg": 1.5, "to_kimg": 1.0, "reason": "its coverage fell"}],
        "start": None, "training": {"seed": 0, "augment": ["translation"]},
    }  # fmt: skip
    Path("data/model/model.json").write_text(json.dumps(facts))
    for folder in ("data/training/grids", "data/evaluation", "data/prints"):
        Path(folder).mkdir(parents=True)
    for name in ("training/grids/000001.000.png", "training/grids/000002.000.png", "evaluation/nearest.png"):
        Path("data", name).write_bytes(_picture(99, 128))
    Path("data/training/losses.csv").write_text("kimg,loss_d\n1,0.5\n2,0.4\n")
    Path("data/training/quality.csv").write_text("kimg,kid\n1,9\n2,7.5\n")
    Path("data/evaluation/summary.txt").write_text("As far off as a painting blurred by 1.0 px.\n\nmore")
    entry = {"value": 7.5, "spread": 0.1, "floor": 0.01, "floor_spread": 0.02}
    judged = {"generator_sha256": digest(generator)}
    Path("metrics.json").write_text(json.dumps({"kid": entry, "coverage": entry, "compared": judged}))
    painter, model = load_painter(generator, torch.device("cpu"))
    recipes = (Recipe(seed=1, index=index, canvas=(1, 1), truncation=1.0) for index in range(artworks))
    pictures = (provenance_of(painter, model, recipe) for recipe in recipes)
    sheet = Path("data/contact_sheet.png")
    with Progress("generate", artworks, "pictures", None) as progress:
        write_artworks(painter, pictures, Path("data/artworks"), sheet, progress)


def _work(number: int, title: str, rights: Rights) -> Work:
    return Work(
        id=f"w{number:02d}", title=f"{title} {number}", artist=f"Somebody {title}", artist_slug="somebody",
        year_text=str(1880 + number), year=1880 + number, genre="marina", style=title, width=64, height=64,
        image_url=f"gallery:/{number}", page_url="https://example.org/", rights=rights, source="gallery",
    )  # fmt: skip


def _picture(seed: int, side_px: int = 64) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((side_px, side_px), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()
