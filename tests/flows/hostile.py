"""Hostile and damaged picture files, made from a valid picture, with the verdict that each must get.

Some of them name the path `canary`, which `atelier reproduce` must not open.
"""

import hashlib
import io
import json
import os
import pickle
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from atelier.canvas.paint import paint
from atelier.canvas.recipe import Recipe
from atelier.networks import load_generator
from atelier.networks.latent_field import in_double_precision
from atelier.pictures import tiff
from atelier.pictures.png import SIGNATURE
from atelier.provenance.facts import ModelFacts, Provenance, SoftwareFacts, read_provenance, write_png
from tests.flows.kept_studio import KeptStudio
from tests.models import save_small_generator

Json = dict[str, Any]
SOFTWARE = SoftwareFacts(atelier="0.1.0", torch=torch.__version__)
RECIPE = Recipe(seed=1, index=7, canvas=(1, 1), truncation=0.7)
NOWHERE = {"md5": "0" * 32, "sha256": "0" * 64}
BOMB_SIZE_BYTES = 1 << 29


@dataclass(frozen=True)
class Hostile:
    """A file, its expected verdict, and words of the expected message."""

    path: Path
    verdict: str
    words: str


class Workshop:
    """Makes the files in `folder`, from a picture that the studio painted."""

    def __init__(self, studio: KeptStudio, folder: Path, canary: Path) -> None:
        self.studio, self.folder, self.canary = studio, folder, canary
        self.made: list[Hostile] = []
        generator = studio.root / "data/model/generator.safetensors"
        save_small_generator(generator)
        studio.keep(generator.read_bytes())
        network, header = load_generator(generator)
        self.pixels = paint(in_double_precision(network, torch.device("cpu")), RECIPE)
        made = Provenance(model=ModelFacts.of(generator, header), latent=RECIPE, software=SOFTWARE)
        self.good = folder / "good.png"
        write_png(self.good, self.pixels, made)
        self.facts: Json = json.loads(read_provenance(self.good).model_dump_json())

    def all(self) -> list[Hostile]:
        for make in (
            self.edited_pixels, self.edited_words, self.bad_chunks, self.bad_pictures, self.no_files,
            self.bad_recipes, self.bad_models, self.bad_prints, self.bad_tiffs,
        ):  # fmt: skip
            make()
        return self.made

    def edited_pixels(self) -> None:
        touched = self.pixels.copy()
        touched[5, 3] ^= 255
        self.put(
            "touched",
            "edited",
            "edited after it was made: 1 of 1,024 pixels differ, in columns 3 to 3, rows 5",
        )
        self.keep_chunk(touched)
        self.put(
            "cropped",
            "damaged",
            "another kind (32 × 16 px, 8 bits, RGB) than its provenance names (32 × 32 px",
        )
        self.keep_chunk(self.pixels[:16])

    def edited_words(self) -> None:
        """Change a field of each kind in the provenance."""
        self.claim("seed", "different", "values differ", latent__seed=2)
        self.claim("truncation", "different", "values differ", latent__truncation=1.5)
        self.claim("layout", "identical", "", latent__layout="smooth")  # says nothing of one cell
        self.claim("model-md5", "refused", "the provenance was edited", model__md5="0" * 32)
        self.claim("model-sha256", "refused", "the provenance was edited", model__sha256="0" * 64)
        self.claim("model-both", "refused", "was not found", model=self.facts["model"] | NOWHERE)
        self.claim("arch", "refused", "the provenance was edited", model__arch="stylegan")
        self.claim("resolution", "refused", "the provenance was edited", model__resolution=2**31 - 1)
        self.claim("settings", "refused", "the provenance was edited", model__settings={"ngf": 10**9, "nz": 16})
        self.claim("digest", "edited", "its provenance names others", pixels__sha256="0" * 64)
        self.claim("width", "refused", "it was edited", pixels__width=2**31 - 1)
        self.claim("format", "refused", "another version of Atelier made it", format="atelier-provenance/99")
        self.claim("text-for-number", "refused", "latent.seed", latent__seed="1; rm -rf /")
        self.claim("nan", "refused", "was altered", latent__truncation=float("nan"))
        self.claim("many-digits", "refused", "was altered", latent__seed=10**4000)
        self.claim("unknown-key", "refused", "model.path: Extra", model__path=str(self.canary))
        self.claim("path-as-md5", "refused", "model.md5", model__md5=str(self.canary))
        self.claim("path-as-arch", "refused", "the provenance was edited", model__arch=str(self.canary))
        named = {**self.facts["model"]["settings"], "file": str(self.canary)}
        self.claim("path-as-setting", "refused", "the provenance was edited", model__settings=named)
        self.claim("escape-codes", "refused", "characters that cannot be printed", software__torch="\x1b[2J\r\u202e")

    def bad_chunks(self) -> None:
        text = chunk(b"iTXt", words(json.dumps(self.facts).encode()))
        pixels = self.pixel_chunks()
        rest = SIGNATURE + pixels[0]
        self.raw(
            "huge-chunk",
            "carries no Atelier provenance",
            rest,
            chunk(b"iTXt", words(b" " * 10**6)),
            *pixels[1:],
        )
        self.raw("nested", "was altered", rest, chunk(b"iTXt", words(b"[" * 60_000)), *pixels[1:])
        deep = words(b'{"model":' * 6000 + b"1" + b"}" * 6000)
        self.raw("nested-inside", "was altered", rest, chunk(b"iTXt", deep), *pixels[1:])
        self.raw("two-chunks", "more than one", rest, text, text, *pixels[1:])
        bomb = b"atelier\0\1\0\0\0" + zlib.compress(bytes(10**7))
        self.raw("compressed", "compressed provenance", rest, chunk(b"iTXt", bomb), *pixels[1:])
        self.raw("checksum", "checksum of a text chunk", rest, text[:-1] + b"\0", *pixels[1:])
        self.raw("endless", "more than 64 chunks", rest, chunk(b"tEXt", b"") * 9999, text, *pixels[1:])
        self.raw("length", "was cut off", rest, struct.pack(">I", 2**32 - 1) + b"iTXt")
        self.raw("headless", "without a header", SIGNATURE, text, *pixels[1:], verdict="damaged")

    def bad_pictures(self) -> None:
        good = self.good.read_bytes()
        self.raw("cut-off", "cannot be decoded", good[:-200], verdict="damaged")
        self.raw("only-words", "before its pixels", good[: good.index(b"IDAT") - 4])
        spoilt = bytearray(good)
        spoilt[good.index(b"IDAT") + 9] ^= 255
        self.raw("data-checksum", "cannot be decoded", bytes(spoilt), verdict="damaged")
        start = good.index(b"IDAT") - 4
        transparent = good[:start] + chunk(b"tRNS", bytes(6)) + good[start:]
        self.raw("transparent", "a transparent colour", transparent, verdict="damaged")
        square = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)
        self.with_header("size-bomb", square, "it was edited", pixels__width=2**31 - 1, pixels__height=2**31 - 1)
        self.with_header("size-lie", square, "another kind", verdict="damaged")
        for name, kind in (
            ("palette", (8, 3, 0)),
            ("deep", (16, 2, 0)),
            ("woven", (8, 2, 1)),
            ("method", (8, 2, 9)),
        ):
            bits, colour, woven = kind
            header = struct.pack(">IIBBBBB", 32, 32, bits, colour, 0, 0, woven)
            self.with_header(name, header, "another kind", verdict="damaged")
        self.raw("data-bomb", "1,024 of 1,024 pixels", *self.with_data(bytes_of_nothing()), verdict="edited")
        frames = [Image.fromarray(self.pixels), Image.fromarray(self.pixels[::-1].copy())]
        frames[0].save(self.folder / "frames.png", save_all=True, append_images=frames[1:])
        animated = chunks(self.folder.joinpath("frames.png").read_bytes())
        (self.folder / "frames.png").unlink()
        text = chunk(b"iTXt", words(json.dumps(self.facts).encode()))
        self.raw("animated", "", SIGNATURE, animated[0], text, *animated[1:], verdict="identical")

    def no_files(self) -> None:
        image = Image.fromarray(self.pixels)
        for extension in ("jpg", "gif", "webp"):
            image.save(self.folder / f"another.{extension}")
            self.made.append(Hostile(self.folder / f"another.{extension}", "refused", "is no PNG"))
        (self.folder / "stripped.png").write_bytes(without_words(self.good))
        self.made.append(Hostile(self.folder / "stripped.png", "refused", "carries no Atelier provenance"))
        self.raw("empty", "is no PNG", b"")
        self.raw("name\n\x1b[31m\u202ered", "is no PNG", b"GIF89a")
        os.mkfifo(self.folder / "pipe.png")
        (self.folder / "folder.png").mkdir()
        (self.folder / "zero.png").symlink_to("/dev/zero")
        (self.folder / "loop.png").symlink_to("loop.png")
        kinds = (("pipe", "a pipe"), ("folder", "a folder"), ("zero", "a device"), ("loop", "back to itself"))
        if os.geteuid():  # root may read everything
            self.raw("unreadable", "may not be read", b"")
            self.made[-1].path.chmod(0)
        for name, what in (*kinds, ("absent", "is missing")):
            self.made.append(Hostile(self.folder / f"{name}.png", "refused", what))
        self.made.append(Hostile(Path("/dev/zero"), "refused", "a device"))

    def bad_recipes(self) -> None:
        """Well-formed recipes that no machine can paint."""
        side = 4096 * 32
        self.claim(
            "canvas",
            "refused",
            "it was edited",
            latent__canvas=[4096, 4096],
            pixels__width=side,
            pixels__height=side,
        )
        self.claim("canvas-of-a-small-picture", "refused", "it was edited", latent__canvas=[4096, 4096])
        self.claim("no-canvas", "refused", "latent.canvas", latent__canvas=[10**9, 10**9])
        self.claim(
            "direction",
            "refused",
            "direction 4000 does not exist",
            latent__moves=[{"direction": 4000, "amount": 1.0}],
        )
        self.claim("moved-far", "refused", "was altered", latent__moves=[{"direction": 0, "amount": 1e300}])
        self.claim("grown-from", "refused", "cannot grow from", latent__grown_from=[4096, 4096])
        near = [{"number": 1, "strength": 0.5}]
        self.claim("varied-on-the-way-to-nothing", "refused", "was altered", latent__varied=near)
        self.claim("varied-before-it-never-grew", "refused", "was altered", latent__grown_varied=near)
        self.claim(
            "varied-without-end",
            "refused",
            "was altered",
            latent__varied=near * 1000,
            latent__variation=near[0],
        )
        stations = [{"seed": 1, "index": 1}, {"seed": 2, "index": 2}]
        walk = {"stations": stations, "frame": 2**31 - 1, "frames": 2, "loop": False, "easing": "linear"}
        self.claim("walk-beyond-its-end", "refused", "there is no frame", latent__walk=walk)
        self.claim("walk-of-many", "refused", "was altered", latent__walk={**walk, "stations": stations * 99})
        self.claim("walk-forever", "refused", "was altered", latent__walk={**walk, "frames": 10**12})

    def bad_models(self) -> None:
        """Model files in DVC's cache with the digests that the picture names; see also test_networks_hostile.py."""
        replaced = self.studio.keep(b"what the picture was painted by")
        self.studio.object(replaced).write_bytes(b"something else")
        facts = {"md5": replaced, "sha256": "0" * 64}
        self.claim(
            "replaced-model",
            "refused",
            "does not hold what it is named for",
            model=self.facts["model"] | facts,
        )
        self.model("pickled-model", pickle.dumps(Payload(self.canary)), "no whole safetensors file")
        header = {"arch": "dcgan", "resolution": 32, "settings": {"nz": 16, "ngf": 10**9, "ndf": 8}}
        told = {"atelier": json.dumps({**header, "format": "atelier-model/1"})}
        self.model("terabytes", save({"w": torch.zeros(1)}, told), "does not hold the weights", header)

    def bad_prints(self) -> None:
        """Prints that name a file that is no upscaler, or another upscaler."""
        original = self.facts["pixels"]
        generator = self.facts["model"]
        settings = {"bits": 8, "scale": 2, "features": 8, "blocks": 2, "passes": 1}
        upscale = {
            "method": "learned", "scale": 2, "upscaler_md5": generator["md5"],
            "upscaler_sha256": generator["sha256"], "settings": settings, "software": self.facts["software"],
        }  # fmt: skip
        payload = torch_file(Payload(self.canary))
        (self.studio.root / "models").mkdir(exist_ok=True)
        (self.studio.root / "models/external.pth").write_bytes(payload)
        external = {"upscaler_md5": None, "upscaler_sha256": hashlib.sha256(payload).hexdigest()}
        bare = {"upscaler_md5": None, "upscaler_sha256": None}
        for name, changes, said in (
            ("generator-as-upscaler", {}, "atelier-upscaler/1"),
            (
                "no-such-upscaler",
                {"upscaler_md5": "0" * 32, "upscaler_sha256": "0" * 64},
                "was not found",
            ),
            ("upscaler-of-other-digest", {"upscaler_sha256": "0" * 64}, "the provenance was edited"),
            ("pickled-upscaler", {**external, "method": "external"}, "Weights only load failed"),
            ("path-as-method", {"method": str(self.canary)}, "does not support"),
            ("learned-by-none", bare, "does not support"),
            (
                "odd-tiles",
                {**external, "method": "external", "settings": {**settings, "tile_px": 10**9}},
                "no print is made of such tiles",
            ),
        ):
            self.claim(name, "refused", said, print={"upscale": upscale | changes, "original": original})

    def bad_tiffs(self) -> None:
        """TIFFs with a circular directory, a huge one, and one whose description is beyond the end of the file."""
        text = json.dumps(self.facts).encode()
        circle = struct.pack("<HHHII", 1, 270, 2, len(text), 64) + struct.pack("<I", 8)
        self.tiff("circle", b"II*\0" + struct.pack("<I", 8) + circle.ljust(56, b"\0") + text, "in a circle")
        many = struct.pack("<H", 65535) + bytes(12 * 65535)
        self.tiff("many-entries", b"II*\0" + struct.pack("<I", 8) + many, "a directory of a kind")
        far = struct.pack("<HHHII", 1, 270, 2, 60_000, 2**32 - 1) + struct.pack("<I", 0)
        self.tiff("beyond", b"II*\0" + struct.pack("<I", 8) + far, "cut off")
        self.tiff("big-beyond", b"II+\0" + struct.pack("<HHQ", 8, 0, 2**64 - 1), "cut off")
        plain = struct.pack("<HHHII", 1, 270, 2, len(text), 64) + struct.pack("<I", 0)
        content = b"II*\0" + struct.pack("<I", 8) + plain.ljust(56, b"\0") + text
        self.made.append(self.write("words-alone.tif", content, "damaged", "a TIFF of another size"))
        assert tiff.is_tiff(content)

    # helpers that write a file

    def claim(self, name: str, verdict: str, said: str, **changes: Any) -> None:
        """Add the picture with a changed provenance; `latent__seed` is the key `seed` in `latent`."""
        self.put(name, verdict, said)
        self.keep_chunk(self.pixels, self.changed(changes))

    def changed(self, changes: Json) -> Json:
        facts: Json = json.loads(json.dumps(self.facts))
        for place, value in changes.items():
            *path, last = place.split("__")
            node = facts
            for key in path:
                node = node[key]
            node[last] = value
        return facts

    def model(self, name: str, content: bytes, said: str, told: Json | None = None) -> None:
        """Add a picture whose provenance names a model file with this content."""
        named = {"md5": self.studio.keep(content), "sha256": hashlib.sha256(content).hexdigest()}
        self.claim(name, "refused", said, model={**self.facts["model"], **(told or {}), **named})

    def put(self, name: str, verdict: str, said: str) -> None:
        self.made.append(Hostile(self.folder / f"{name}.png", verdict, said))

    def keep_chunk(self, pixels: np.ndarray[Any, Any], facts: Json | None = None) -> None:
        """Write the file that was added last, with these pixels and this provenance."""
        path = self.made[-1].path
        Image.fromarray(np.ascontiguousarray(pixels)).save(path)
        header, *rest = chunks(path.read_bytes())
        text = chunk(b"iTXt", words(json.dumps(facts or self.facts).encode()))
        path.write_bytes(b"".join([SIGNATURE, header, text, *rest]))

    def pixel_chunks(self) -> list[bytes]:
        return [each for each in chunks(self.good.read_bytes()) if each[4:8] != b"iTXt"]

    def with_data(self, data: bytes) -> tuple[bytes, ...]:
        header, *rest = chunks(self.good.read_bytes())
        text = next(each for each in rest if each[4:8] == b"iTXt")
        return SIGNATURE, header, text, chunk(b"IDAT", data), chunk(b"IEND", b"")

    def with_header(self, name: str, header: bytes, said: str, verdict: str = "refused", **changes: Any) -> None:
        text = chunk(b"iTXt", words(json.dumps(self.changed(changes)).encode()))
        rest = self.pixel_chunks()[1:]
        self.raw(name, said, SIGNATURE, chunk(b"IHDR", header), text, *rest, verdict=verdict)

    def raw(self, name: str, said: str, *parts: bytes, verdict: str = "refused") -> None:
        self.made.append(self.write(f"{name}.png", b"".join(parts), verdict, said))

    def tiff(self, name: str, content: bytes, said: str) -> None:
        self.made.append(self.write(f"{name}.tif", content, "refused", said))

    def write(self, name: str, content: bytes, verdict: str, said: str) -> Hostile:
        (self.folder / name).write_bytes(content)
        return Hostile(self.folder / name, verdict, said)


class Payload:
    """An object that makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (f"{self.path}.executed",)


def torch_file(payload: object) -> bytes:
    buffer = io.BytesIO()
    torch.save({"params": payload}, buffer)
    return buffer.getvalue()


def bytes_of_nothing() -> bytes:
    """Half a GiB of zeros, compressed."""
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    return b"".join(packer.compress(block) for _ in range(BOMB_SIZE_BYTES >> 20)) + packer.flush()


def without_words(path: Path) -> bytes:
    """A PNG without its text chunks, as optimisers write it."""
    return SIGNATURE + b"".join(each for each in chunks(path.read_bytes()) if each[4:8] != b"iTXt")


def words(text: bytes) -> bytes:
    return b"atelier\0\0\0\0\0" + text


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def chunks(content: bytes) -> list[bytes]:
    """The chunks of a PNG, each with its length and checksum."""
    found, start = [], len(SIGNATURE)
    while start < len(content):
        end = start + 12 + int.from_bytes(content[start : start + 4], "big")
        found.append(content[start:end])
        start = end
    return found
