"""A studio with a history: commits whose dvc.lock names models, pictures and paintings in DVC's cache.

The cache's files are written directly, which is fast; tests/flows/repo/test_objects.py compares this with DVC.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML
from safetensors.numpy import save

from atelier.canvas.recipe import Recipe
from atelier.data.catalog import Work, write_catalog, write_table
from atelier.data.dataset import INDEX_SCHEMA
from atelier.provenance.facts import (
    ModelFacts,
    Provenance,
    SoftwareFacts,
    UpscaleFacts,
    provenance_of_print,
    read_provenance,
    write_png,
)
from tests.flows.histories import Repository
from tests.flows.toys import ROOT

SOFTWARE = SoftwareFacts(atelier="0.1.0", torch="2.15.0")
SETTINGS = {"nz": 4, "ngf": 8, "ndf": 8}


class KeptStudio(Repository):
    """A repository with a DVC cache, and a folder `scratch` beside it."""

    @classmethod
    def new(cls, root: Path, environment: dict[str, str]) -> "KeptStudio":
        """Make a studio without a commit."""
        studio = super().new(root, environment)
        assert isinstance(studio, KeptStudio)
        for name in ("params.yaml", "dvc.yaml", ".gitignore", ".dvcignore"):
            shutil.copy(ROOT / name, root / name)
        studio.write(".dvc/config", "")
        studio.write(".dvc/.gitignore", "/config.local\n/tmp\n/cache\n")
        return studio

    @property
    def scratch(self) -> Path:
        path = self.root.parent / "scratch"
        path.mkdir(exist_ok=True)
        return path

    def keep(self, content: bytes, suffix: str = "") -> str:
        """Add a file to the cache. Returns its MD5 with `suffix`."""
        md5 = hashlib.md5(content).hexdigest()
        path = self.object(f"{md5}{suffix}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return f"{md5}{suffix}"

    def object(self, md5: str) -> Path:
        return self.root / ".dvc/cache/files/md5" / md5[:2] / md5[2:]

    def keep_folder(self, files: dict[str, bytes]) -> str:
        entries = [{"md5": self.keep(content), "relpath": name} for name, content in sorted(files.items())]
        return self.keep(json.dumps(entries).encode(), ".dir")

    def model(self, **facts: Any) -> ModelFacts:
        """Add a generator's file to the cache; `facts` are put into its header."""
        header = {
            "arch": "dcgan",
            "resolution": 64,
            "settings": SETTINGS,
            "format": "atelier-model/1",
            **facts,
        }
        content = save({"w": np.zeros(2, np.float32)}, metadata={"atelier": json.dumps(header, sort_keys=True)})
        sha256 = hashlib.sha256(content).hexdigest()
        return ModelFacts(md5=self.keep(content), sha256=sha256, arch="dcgan", resolution=64, settings=SETTINGS)

    def artwork(self, model: ModelFacts, index: int) -> bytes:
        """The PNG file of a picture of noise whose provenance names the model."""
        pixels = np.random.default_rng([index, *model.md5.encode()]).integers(0, 256, (8, 12, 3), np.uint8)
        recipe = Recipe(seed=1, index=index, canvas=(1, 1), truncation=0.7)
        made = Provenance(model=model, latent=recipe, software=SOFTWARE)
        write_png(self.scratch / "artwork.png", pixels, made)
        return (self.scratch / "artwork.png").read_bytes()

    def print_of(self, artwork: bytes) -> bytes:
        """The PNG file of a print in which each pixel of the artwork becomes four."""
        path = self.scratch / "print.png"
        path.write_bytes(artwork)
        from PIL import Image

        pixels = np.asarray(Image.open(path)).repeat(2, 0).repeat(2, 1)
        upscale = UpscaleFacts(
            method="lanczos", scale=2, upscaler_sha256=None, settings={"pillow": "12"}, software=SOFTWARE
        )
        write_png(path, np.ascontiguousarray(pixels), provenance_of_print(read_provenance(path), upscale))
        return path.read_bytes()

    def dataset(self, works: list[Work]) -> tuple[str, str]:
        """Add a data set of these works, the last one held out, and their catalog to the cache. Returns their MD5s."""
        import pyarrow as pa

        rows = [
            {"row": row, "id": work.id, "left": 0, "top": 0, "side": 64, "split": "train"}
            for row, work in enumerate(works)
        ]
        rows[-1]["split"] = "held-out"
        write_table(pa.Table.from_pylist(rows, INDEX_SCHEMA), self.scratch / "index.parquet")
        write_catalog(works, self.scratch / "catalog.parquet")
        files = {"index.parquet": (self.scratch / "index.parquet").read_bytes(), "images.npy": b"large"}
        return self.keep_folder(files), self.keep((self.scratch / "catalog.parquet").read_bytes())

    def lock(
        self,
        model: ModelFacts,
        artworks: list[bytes],
        prints: list[bytes],
        data: tuple[str, str] | None = None,
    ) -> str:
        """The text of a dvc.lock that names the model, the pictures (1-00000.png and on) and the data."""
        folders = [
            self.keep_folder({f"1-{number:05d}.png": content for number, content in enumerate(contents)})
            for contents in (artworks, prints)
        ]
        dataset, catalog = data or (None, None)
        stages = {
            "scrape": {"cmd": "scrape", "outs": [_entry("data/catalog.parquet", catalog)] if catalog else []},
            "train": {
                "cmd": "python -m tasks.train",
                "deps": [_entry("data/dataset", dataset)] if dataset else [],
                "params": {"params.yaml": {"train.lr": 0.0002, "train.dcgan": SETTINGS}},
                "outs": [_entry("data/model/generator.safetensors", model.md5)],
            },
            "generate": {"cmd": "python -m tasks.generate", "outs": [_entry("data/artworks", folders[0])]},
            "upscale": {"cmd": "python -m tasks.upscale", "outs": [_entry("data/prints", folders[1])]},
        }
        path = self.scratch / "dvc.lock"
        with path.open("w") as file:
            YAML(typ="safe").dump({"schema": "2.0", "stages": stages}, file)
        return path.read_text()


def work(number: int, artist: str, year: int | None, genre: str = "marina", title: str = "Sea") -> Work:
    return Work(
        id=f"w{number}", title=title, artist=artist, artist_slug="a", year_text=str(year or ""), year=year,
        genre=genre, style="", width=None, height=None, image_url="", page_url="", rights="unknown", source="folder",
    )  # fmt: skip


def _entry(path: str, md5: str) -> dict[str, Any]:
    return {"path": path, "hash": "md5", "md5": md5, "size": 1}
