"""The page of a run, `index.html`: its artworks, training, quality, data set and lineage, from what the stages wrote.

Small copies of the pictures are written beside it, with links to the artworks, prints and murals where their stages
put them. All texts are inserted by Jinja2, which escapes them: titles and names may come from anybody.
"""

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from atelier import paths
from atelier.data.catalog import DownloadRecord, Work, read_catalog, read_downloads
from atelier.data.shards import find_picture
from atelier.errors import counted
from atelier.files import write_bytes
from atelier.page.parts import WEB, read_charts, read_script, render
from atelier.pictures import libvips
from atelier.progress import ignore_progress
from atelier.provenance.facts import describe_enlargement, describe_recipe, read_provenance

THUMBNAIL_PX = 192  # longer side, at most
PICTURE_PX = 1024  # of sheets and grids
SHOWN_PAINTINGS = 10
MAX_TEXT = 200  # characters of a title or a reason
MAX_BARS = 12  # of one table of counts
WEBP_QUALITY = 85
# of dvc.yaml, in order, and what each makes
STAGES = {
    "scrape": "the source's metadata: a catalog",
    "download": "the pictures, verified",
    "augment": "the training set, with mirror images",
    "train": "the model",
    "evaluate": "its quality, beside real paintings",
    "generate": "the artworks",
    "train_upscaler": "a network that enlarges",
    "upscale": "the prints",
    "page": "this page",
}
# what the numbers of metrics.json mean, and whether smaller is better
NUMBERS = {
    "kid": ("distance between generated and real pictures, as a pretrained network sees them", "smaller is better"),
    "kid_coarse": ("the same without fine detail: composition, shapes and colours", "smaller is better"),
    "kid_lite1": ("as kid, by a second network, which no setting was chosen by", "smaller is better"),
    "density": ("how typical the generated pictures are", "larger is better"),
    "coverage": ("share of the real pictures that have a generated one near them", "larger is better"),
    "swd": ("distance between patches, over several sizes", "smaller is better"),
    "memorisation": (
        "distance to the nearest training painting, compared with a real painting's; below 0.8 the model copies",
        "about 1 is right",
    ),
}


def write_page(
    to: Path, advance: Callable[[], None] = ignore_progress, paintings: bool = True, times: bool = True
) -> str:
    """Write index.html and its pictures into the folder `to`; return a one-line summary. Equal inputs, equal bytes.

    Reads the outputs of the stages below the working directory. `advance` is called after each artwork. Without
    `paintings` no picture of the data set is shown, without `times` not how long the stages took.
    """
    works, records = read_catalog(paths.CATALOG), read_downloads(paths.DOWNLOADS)
    artworks = [*_artworks(to, advance)]
    page = render(
        "index.html",
        **facts_of_run(),
        title="Atelier",
        artworks=artworks,
        grids=[*_grids(to)],
        losses=read_charts(paths.TRAINING / "losses.csv"),
        curves=read_charts(paths.TRAINING / "quality.csv"),
        nearest=_picture(paths.EVALUATION / "nearest.png", to, "nearest.webp") if paintings else None,
        paintings=[*_paintings(works, records, to)] if paintings else [],
        stages=STAGES,
        times=f"../../{paths.PAGE_TIMES.as_posix()}" if times else None,
        explorer=(to / paths.EXPLORER.name).is_file(),
        script=read_script("index.js"),
    )
    write_bytes(to / "openseadragon.min.js", (WEB / "vendor" / "openseadragon.min.js").read_bytes())
    write_bytes(to / "index.html", page.encode())
    return f"{counted(len(artworks), 'artwork')}; open {paths.PAGE / 'index.html'} in a browser"


def facts_of_run() -> dict[str, Any]:
    """What the stages' reports say: about the quality, the training, the lineage and the data set."""
    model = _json(paths.MODEL / "model.json")
    return {
        "course": _course(model),
        "data": _data_set(read_catalog(paths.CATALOG), read_downloads(paths.DOWNLOADS), _json(paths.COVERAGE)),
        "lineage": [*_lineage(model)],
        "quality": _quality(_json(paths.METRICS)),
        "settings": [(name, _text(value)) for name, value in sorted(model.get("training", {}).items())],
        "summary": _first_line(paths.EVALUATION / "summary.txt"),
    }


def _artworks(to: Path, advance: Callable[[], None]) -> Iterable[dict[str, Any]]:
    """The artworks by name, murals last, with their thumbnails and a mural's tiles written beside the page."""
    for path in sorted(paths.ARTWORKS.glob("*.png")) + sorted(paths.ARTWORKS.glob("*.tif")):
        provenance = read_provenance(path)
        assert provenance.pixels  # otherwise read_provenance raised
        is_mural, printed = path.suffix == ".tif", paths.PRINTS / path.name
        facts = read_provenance(printed).print if printed.is_file() else None
        thumbnail = f"artworks/{path.stem}.webp"
        (_mural_thumbnail if is_mural else _thumbnail)(path, to / thumbnail)
        yield {
            "name": path.stem,
            "file": _from_page(path),
            "thumbnail": thumbnail,
            "width": provenance.pixels.width,
            "height": provenance.pixels.height,
            "recipe": describe_recipe(provenance.latent),
            "command": f"atelier reproduce {path.as_posix()}",
            "print": _from_page(printed) if facts else None,
            "enlargement": describe_enlargement(facts.upscale) if facts else "",
            "tiles": _tiles(path, to) if is_mural else None,
        }
        advance()


def _from_page(path: Path) -> str:
    """A path in data/ as the page, in data/page/, names it."""
    return f"../{path.relative_to(paths.DATA).as_posix()}"


def _thumbnail(path: Path, to: Path, side_px: int = THUMBNAIL_PX) -> None:
    with Image.open(path) as image:
        _save(image.convert("RGB"), to, side_px)


def _save(image: Image.Image, to: Path, side_px: int) -> None:
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    content = BytesIO()
    image.save(content, format="WEBP", quality=WEBP_QUALITY)
    write_bytes(to, content.getvalue())


def _mural_thumbnail(path: Path, to: Path) -> None:
    vips = libvips()
    small = vips.Image.thumbnail(str(path), THUMBNAIL_PX)
    write_bytes(to, small.webpsave_buffer(Q=WEBP_QUALITY, keep="none"))


def _tiles(path: Path, to: Path) -> str:
    """Cut a mural into a pyramid of tiles beside the page; return OpenSeadragon's description of them as JSON.

    The description is in the page, because a page from `file://` may not read other files.
    """
    vips = libvips()
    folder = to / "murals" / path.stem
    folder.parent.mkdir(parents=True, exist_ok=True)
    image = vips.Image.new_from_file(str(path), access="sequential")
    image.dzsave(str(folder), suffix=f".webp[Q={WEBP_QUALITY}]", tile_size=510, overlap=1, keep="none")
    size = {"Width": image.width, "Height": image.height}
    facts = {"xmlns": "http://schemas.microsoft.com/deepzoom/2008", "Url": f"murals/{path.stem}_files/"}
    return json.dumps({"Image": {**facts, "Format": "webp", "Overlap": "1", "TileSize": "510", "Size": size}})


def _picture(path: Path, to: Path, name: str) -> str | None:
    """Write a smaller copy of a sheet beside the page and return its name; None if there is no sheet."""
    if not path.is_file():
        return None
    _thumbnail(path, to / name, PICTURE_PX)
    return name


def _grids(to: Path) -> Iterable[dict[str, str]]:
    for path in sorted((paths.TRAINING / "grids").glob("*.png"), key=lambda path: float(path.stem)):
        yield {"file": str(_picture(path, to, f"grids/{path.stem}.webp")), "kimg": f"{float(path.stem):g}"}


def _quality(metrics: dict[str, Any]) -> list[dict[str, str]]:
    """A row for each number of the panel: its value, what real paintings score, and what it says."""
    rows = []
    for name, (meaning, better) in NUMBERS.items():
        if isinstance(entry := metrics.get(name), dict):
            values = {key: _number(entry.get(key)) for key in ("value", "spread", "floor", "floor_spread")}
            rows.append({"name": name, "meaning": meaning, "better": better, **values})
    return rows


def _course(model: dict[str, Any]) -> list[str]:
    sentences = [f"{model.get('kimg', 0):g} thousand images were shown to the networks."]
    if model.get("ended_by") == "minutes":
        sentences.append("It ended when train.minutes had passed.")
    if start := model.get("start"):
        after = f", after {start['kimg']:g} kimg" if "kimg" in start else ", which was imported"
        sentences.append(f"It started from the model {start['generator_sha256'][:12]}{after}.")
        if "grown_from_px" in start:
            sentences.append(f"That model was of {start['grown_from_px']:g} px; its coarse layers were copied.")
    if pick := model.get("pick"):
        sentences.append(f"The model is that of the {pick['which']} snapshot.")
    for back in model.get("rollbacks", []):
        span = f"At {back['from_kimg']:g} kimg it went back to {back['to_kimg']:g} kimg"
        sentences.append(f"{span}: {_short(back['reason'])}.")
    return sentences


def _lineage(model: dict[str, Any]) -> Iterable[dict[str, str]]:
    """The model and those that it was started from, newest first."""
    current: dict[str, Any] | None = model
    while current:
        yield {
            "generator": str(current.get("generator_sha256", "")),
            "data": str(current.get("dataset_sha256", "")),
            "kimg": f"{current.get('kimg', 0):g}",
        }
        current = current.get("start")


def _data_set(works: Sequence[Work], records: Sequence[DownloadRecord], coverage: dict[str, Any]) -> dict[str, Any]:
    years = [work.year for work in works if work.year is not None]
    return {
        "source": _short(str(coverage.get("asked", ""))),
        "works": f"{len(works):,}",
        "pictures": f"{sum(record.status == 'ok' for record in records):,}",
        "years": f"{min(years)} to {max(years)}" if years else "none is dated",
        "undated": f"{len(works) - len(years):,}",
        "tables": {
            "Genres": _counts(work.genre or "none given" for work in works),
            "Styles": _counts(work.style or "none given" for work in works),
            "Rights": _counts(work.rights for work in works),
            "Downloads": _counts(record.status for record in records),
            "Reasons of refusals": _counts(record.reason for record in records if record.status != "ok"),
        },
    }


def _counts(values: Iterable[str]) -> list[tuple[str, str]]:
    """The most frequent values and how often they occur; the rest is counted together."""
    counts = Counter(_short(value) for value in values)
    common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(count for _, count in common[MAX_BARS:])
    rows = [(name, f"{count:,}") for name, count in common[:MAX_BARS]]
    return [*rows, ("others", f"{rest:,}")] if rest else rows


def _paintings(works: Sequence[Work], records: Sequence[DownloadRecord], to: Path) -> Iterable[dict[str, str]]:
    """Ten paintings of the data set, chosen at random but the same for the same data."""
    arrived = {record.id for record in records if record.status == "ok"}
    there = [work for work in works if work.id in arrived]
    for work in sorted(random.Random(0).sample(there, min(SHOWN_PAINTINGS, len(there))), key=lambda work: work.id):
        if found := find_picture(paths.SHARDS, work.id):
            name = f"paintings/{work.id}.webp"
            with Image.open(BytesIO(found.content)) as image:
                _save(image.convert("RGB"), to / name, THUMBNAIL_PX)
            year = _short(work.year_text) or "undated"
            yield {"title": _short(work.title), "artist": _short(work.artist), "year": year, "thumbnail": name}


def _short(text: str) -> str:
    """A text of somebody else's in at most MAX_TEXT characters, without control characters."""
    words = " ".join("".join(character for character in text if character.isprintable()).split())
    return words if len(words) <= MAX_TEXT else f"{words[:MAX_TEXT]}…"


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) and math.isfinite(value) else "–"


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _first_line(path: Path) -> str:
    return path.read_text(encoding="utf-8").partition("\n")[0] if path.is_file() else ""
