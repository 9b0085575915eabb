"""A stage of a user's toy studio: `stage.py NAME` takes a moment and imports nothing of the studio.

It appends its name to `../ran`, beside the user's tree and the night's clone.
"""

import hashlib
import json
import sys
from pathlib import Path

from ruamel.yaml import YAML


def main(name: str) -> None:
    params = YAML(typ="safe").load(Path("params.yaml").read_text())
    with Path("../ran").open("a") as ran:
        ran.write(f"{name}\n")
    match name:
        case "scrape":
            _write("data/catalog", "".join(sorted(path.read_text() for path in Path("../source").iterdir())))
        case "train":
            _train(Path("data/catalog").read_text(), params)
        case "evaluate":
            _write("metrics.json", json.dumps({"kid": len(Path("data/catalog").read_text())}))
            _write("data/evaluation", "sheet")
        case "generate":
            _write("data/artworks", Path("data/model/generator.safetensors").read_text())


def _train(catalog: str, params: dict) -> None:
    train = params["train"]
    settings = train[train["arch"]]
    recipe = [catalog, train["arch"], train["init_from"], train["generation"], train["kimg"], settings]
    weights = f"weights of {json.dumps(recipe)}"
    if (train["init_from"] or "").startswith("models/"):  # the real stage needs the model, too
        weights += Path(train["init_from"], "generator.safetensors").read_text()[:7]
    _write("data/model/generator.safetensors", weights)
    _write("data/model/discriminator.safetensors", f"of {weights}")
    told = {
        "arch": train["arch"], "resolution": params["augment"]["resolution"], "settings": settings,
        "paintings": len(catalog.splitlines()), "dataset_sha256": hashlib.sha256(catalog.encode()).hexdigest(),
    }  # fmt: skip
    _write("data/model/model.json", json.dumps(told))


def _write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


if __name__ == "__main__":
    main(sys.argv[1])
