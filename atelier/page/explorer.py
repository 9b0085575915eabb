"""The explorer: one HTML file in which a generator runs in the browser, without a server or any other file.

The network is an ONNX file, rendered by onnxruntime-web's WebAssembly, which is embedded. Of the runtimes that work
from `file://`, it is the one that is maintained and reads ONNX; compressed it takes 3.7 MB. The scripts in `web/` draw
the latents exactly as `atelier.canvas.latents` does, so a picture that the page saves can be reproduced.
"""

import base64
import gzip
import json
import re
from pathlib import Path

from markupsafe import Markup

from atelier import __version__
from atelier.canvas.latents import directions
from atelier.export.onnx_file import convert
from atelier.files import write_bytes
from atelier.networks import load_generator
from atelier.page.parts import WEB, read_script, render
from atelier.pictures import size_in_words
from atelier.provenance.facts import ModelFacts

VENDOR = WEB / "vendor"
RUNTIME = "onnxruntime-web 1.30.0"
SHOWN_DIRECTIONS = 6
CREDITS = f"Made by Atelier {__version__}. Rendered by {RUNTIME}, © Microsoft Corporation, MIT licence."


def write_explorer(path: Path, to: Path, network: bytes | None = None) -> str:
    """Write the explorer of a generator.safetensors; return a sentence about it. Equal inputs give equal bytes.

    `network` is the ONNX file of `convert(path, field=True)`, if there is one. Raises AtelierError as `convert` does.
    """
    page = explorer_html(path, convert(path, field=True) if network is None else network)
    write_bytes(to, page)
    return f"{to}: {len(page) / 1e6:.1f} MB; open it in a browser"


def explorer_html(path: Path, network: bytes) -> bytes:
    """The page for the generator.safetensors at `path`, in UTF-8; `network` is the ONNX file of `convert` with `field`.

    Raises AtelierError if the generator cannot be read.
    """
    generator, header = load_generator(path)
    facts = ModelFacts.of(path, header).model_dump(mode="json")
    shown = directions(generator)[0][:SHOWN_DIRECTIONS].tolist()
    model = {
        "directions": shown,
        "grain": generator.grain_numbers,
        "labels": [*generator.labels.names] if generator.labels else [],
        "model": facts,
        "nz": generator.nz,
        # as SoftwareFacts: no torch renders these pictures
        "software": {"atelier": __version__, "torch": f"none, but {RUNTIME}"},
    }
    scripts = [read_script(name) for name in ("latents.js", "png.js", "explorer.js")]
    page = render(
        "explorer.html",
        title="A model to explore",
        description=f"{header['arch']}, {size_in_words(*generator.size_px)}, {facts['sha256'][:12]}.",
        directions=len(shown),
        labels=model["labels"],
        credits=CREDITS,
        # "<" escaped, so that no text can end the script element
        model_json=Markup(json.dumps(model, sort_keys=True).replace("<", "\\u003c")),
        network=_packed(gzip.compress(network, 9, mtime=0)),
        runtime=_packed((VENDOR / "ort-wasm-simd-threaded.wasm.gz").read_bytes()),
        runtime_script=Markup(_as_global((VENDOR / "ort.wasm.bundle.min.mjs").read_text(encoding="utf-8"), "ort")),
        script=Markup("\n".join(map(_without_modules, scripts))),
    )
    return f"{page}\n".encode()


def _packed(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _as_global(module: str, name: str) -> str:
    """A module's text with a global variable instead of its exports, because inline modules cannot import others."""
    body, _, exports = module.rpartition("export{")
    names = re.findall(r"([\w$]+) as (\w+)", exports)
    return f"{body}globalThis.{name}={{{','.join(f'{public}:{own}' for own, public in names if public != 'default')}}};"


def _without_modules(script: str) -> str:
    """A script of ours without its imports and exports, to be concatenated with those that it imports."""
    return re.sub(r"^export ", "", re.sub(r"^import .*\n", "", script, flags=re.MULTILINE), flags=re.MULTILINE)
