"""Explain a picture's lineage: its recipe, its model, that model's training and paintings, and the models before it.

The facts come from the provenance, git's history and DVC's objects; the text names those that are missing. All texts
may come from other people, so control characters are removed from them (`printable`).
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from atelier import paths
from atelier.data.catalog import CATALOG_SCHEMA, Work, read_catalog, read_table
from atelier.data.dataset import INDEX_SCHEMA
from atelier.errors import AtelierError, counted
from atelier.progress import ignore_progress
from atelier.provenance import facts
from atelier.provenance.facts import Provenance
from atelier.text import escape_csv_cell, printable
from flows.records import history
from flows.records.history import Lock, NetworkKey, Networks
from flows.repo import storage
from flows.runtime.process import Log

CATALOG, DATASET = paths.CATALOG.as_posix(), paths.DATASET.as_posix()  # as dvc.lock has them
INDEX = "index.parquet"
MAX_SHOWN = 5  # artists and genres, those with most paintings
MAX_PARENTS = 50
IN_FLOAT32 = ", in float32: another device paints about one value of a million otherwise"
UPSCALER_STAGE, TRAIN_STAGE = "train_upscaler", "train"


@dataclass(frozen=True, slots=True)
class Painting:
    """A painting of the data set, `split` "train" or "held-out"; `work` is its row of the catalog, if available."""

    id: str
    split: str
    work: Work | None


def explain(made: Provenance, log: Log, root: Path = Path(), keep: Callable[[str], Path] | None = None) -> str:
    """Return the whole lineage as lines of text.

    `keep` writes a CSV table with a row for each painting of the data set and returns its path.
    """
    locks = history.locks(root, containing=made.model.md5)
    header, header_missing = _header(made, root)
    lock = _best([lock for lock in locks if lock.has_output(made.model.md5)] or locks)
    paintings, missing = _paintings(lock, log, root)
    sections = {
        "picture": _picture(made),
        "print": _print(made, root),
        "model": _model(made, header, header_missing),
        "training": _training(lock, TRAIN_STAGE),
        "named by": _named_by(made, locks, root),
        "data set": _data_set(lock, header),
        "paintings": [*_summary(paintings), *missing],
        "parents": _parents(header, root),
        "": [f"{printable(keep(_csv(paintings)))} lists the paintings"] if keep and paintings else [],
    }
    rows = [(name if n == 0 else "", line) for name, lines in sections.items() for n, line in enumerate(lines)]
    return "\n".join(f"{name:<10} {line}" for name, line in rows)


def _picture(made: Provenance) -> list[str]:
    pixels, software = made.print.original if made.print else made.pixels, made.software
    lines = [facts.describe_recipe(made.latent)]
    if pixels:
        lines.append(
            f"{pixels.width:,} × {pixels.height:,} px, by Atelier {printable(software.atelier)} "
            f"and torch {printable(software.torch)}{IN_FLOAT32 if software.precision == 'float32' else ''}"
        )
    if made.pick:
        lines.append(
            f"one of the best {made.pick.keep} of {made.pick.of}, by the discriminator of SHA-256 "
            f"{made.pick.discriminator_sha256[:12]}…"
        )
    return lines


def _print(made: Provenance, root: Path) -> list[str]:
    if made.print is None:
        return []
    upscale = made.print.upscale
    lines = [facts.describe_enlargement(upscale)]
    if made.pixels:
        bits = f", {made.pixels.bits} bits" if made.pixels.bits != 8 else ""
        lines.append(f"{made.pixels.width:,} × {made.pixels.height:,} px{bits}")
    lines[-1] += f", by Atelier {printable(upscale.software.atelier)} and torch {printable(upscale.software.torch)}"
    if upscale.upscaler_md5:
        lock = _best(history.locks(root, containing=upscale.upscaler_md5))
        lines += [f"its network's training: {line}" for line in _training(lock, UPSCALER_STAGE)]
    return lines


def _model(made: Provenance, header: Mapping[str, Any], header_missing: str) -> list[str]:
    model = made.model
    lines = [
        f"{printable(model.arch)} of {model.resolution} px: {facts.describe_settings(model.settings)}",
        f"MD5 {model.md5}, SHA-256 {model.sha256}",
    ]
    if not header:
        return [*lines, f"how it was trained is not known: {header_missing}"]
    versions = header.get("versions")
    versions = sorted(versions.items()) if isinstance(versions, Mapping) else []
    by = ", ".join(f"{printable(key)} {printable(value)}" for key, value in versions)
    return [*lines, f"{_length(header)}; by {by or 'an unknown version'}"]


def _training(lock: Lock | None, stage: str) -> list[str]:
    """The params of the stage that dvc.lock records."""
    if lock is None or stage not in lock.stages:
        return [f"its settings are not known: no dvc.lock here says how the stage {stage} made it"]
    params = {key: value for values in lock.stages[stage].params.values() for key, value in values.items()}
    words = [
        f"{printable(key.removeprefix(f'{stage}.').removeprefix(stage)).strip()} {printable(_flat(value))}".strip()
        for key, value in sorted(params.items())
    ]
    return [f"{', '.join(words) or 'no settings'} ({_where(lock)})"]


def _named_by(made: Provenance, locks: Sequence[Lock], root: Path) -> list[str]:
    """The champion versions, tags, experiments and commits that name the model."""
    commits = {commit.id: commit for lock in locks for commit in lock.commits}
    newest = sorted(commits.values(), key=lambda commit: commit.age)
    champions = history.champions(root)
    versions = [each.version for each in champions if each.generator_sha256 == made.model.sha256]
    lines = [f"champion {printable(version)}" for version in dict.fromkeys(versions)]
    lines += [f"tag {tag}" for commit in newest for tag in commit.tags]
    lines += [f"experiment {name}" for commit in newest for name in commit.experiments]
    lines += ["dvc.lock of the work tree"] if any(lock.in_work_tree for lock in locks) else []
    if newest:
        lines.append(f"{counted(len(newest), 'commit')}, the newest {newest[0]}")
    if newest[1:]:
        lines.append(f"the oldest {newest[-1]}")
    return lines or ["no commit, tag or experiment here names it: the picture is of another studio"]


def _data_set(lock: Lock | None, header: Mapping[str, Any]) -> list[str]:
    lines = []
    if header:
        mirrored = ", each mirrored too" if header.get("mirror") else ""
        lines.append(f"{_number(header.get('paintings'))} paintings to train on{mirrored}")
        lines.append(f"SHA-256 {printable(header.get('dataset_sha256', 'unknown'))}")
    md5 = lock.md5_of(DATASET) if lock else None
    return [*lines, f"MD5 {md5} ({_where(lock)})" if lock and md5 else "no dvc.lock here names it"]


def _paintings(lock: Lock | None, log: Log, root: Path) -> tuple[list[Painting], list[str]]:
    """The paintings of the data set, and sentences about what is missing.

    Files are fetched from the remote only if a trusted commit names them.
    """
    if lock is None or not lock.trusted:
        why = "only a commit that HEAD, a branch or a tag of this repository reaches is followed so far"
        return [], [f"not known: {why}"]
    catalog, dataset = lock.md5_of(CATALOG), lock.md5_of(DATASET)
    index = _index(dataset, log, root) if dataset else None
    fetched = storage.fetch_objects([catalog], log, root) if catalog else {}
    if index is None:
        return [], ["not known: the data set's list of them is neither in DVC's cache nor in its remote"]
    try:
        works = {work.id: work for work in read_catalog(fetched[catalog])} if catalog in fetched else {}
        table = read_table(index, INDEX_SCHEMA)
    except AtelierError as error:
        return [], [f"not known: {printable(error)}"]
    pairs = zip(table["id"].to_pylist(), table["split"].to_pylist(), strict=True)
    paintings = [Painting(id, split, works.get(id)) for id, split in pairs]
    if not works:
        return paintings, ["their titles are not known: the catalog is neither in DVC's cache nor in its remote"]
    return paintings, []


def _index(dataset: str, log: Log, root: Path) -> Path | None:
    """The data set's index.parquet, fetched without the pictures, which are large; None if it is missing."""
    listing = storage.fetch_list(dataset, log, root)
    md5 = dict(storage.listed(listing) or ()).get(INDEX) if listing else None
    return storage.fetch_objects([md5], log, root).get(md5) if md5 else None


def _summary(paintings: Sequence[Painting]) -> list[str]:
    """The paintings' number, artists, years, genres and sources."""
    if not paintings:
        return []
    works = [painting.work for painting in paintings if painting.work]
    trained = sum(painting.split == "train" for painting in paintings)
    lines = [f"{trained:,} trained on, {len(paintings) - trained:,} held out"]
    if works:
        years = [work.year for work in works if work.year is not None]
        undated = f", {len(works) - len(years):,} undated" if len(years) < len(works) else ""
        lines.append(_most_frequent("artist", [work.artist for work in works]))
        lines.append((f"of {min(years)} to {max(years)}" if years else "of unknown years") + undated)
        lines.append(_most_frequent("genre", [work.genre for work in works if work.genre]))
        lines.append(f"from {', '.join(sorted({printable(work.source) for work in works}))}")
    return lines


def _parents(header: Mapping[str, Any], root: Path) -> list[str]:
    """The models that the training started from, the last one first."""
    if not header:
        return ["not known, because the model's file was not found"]
    lines: list[str] = []
    parent = header.get("start")
    versions = {each.generator_sha256: each.version for each in history.champions(root)} if parent else {}
    while isinstance(parent, Mapping) and len(lines) < MAX_PARENTS:
        sha256 = printable(parent.get("generator_sha256", ""))
        champion = f", champion {printable(versions[sha256])}" if sha256 in versions else ""
        imported = f", imported: {printable(_flat(parent['imported']))}" if parent.get("imported") else ""
        grown = f", grown from {_number(parent['grown_from_px'])} px" if parent.get("grown_from_px") else ""
        lines.append(f"SHA-256 {sha256[:12]}…{champion}: {_length(parent)}{imported}{grown}")
        parent = parent.get("start")
    return lines or ["none: its training began with random weights"]


def _header(made: Provenance, root: Path) -> tuple[Mapping[str, Any], str]:
    """The header of the model's file; empty, with the reason, if it cannot be read."""
    key = NetworkKey("model", made.model.sha256, made.model.md5)
    networks = Networks(root, ignore_progress)
    try:
        networks.find([key])
        with safe_open(networks.path(key), framework="numpy") as file:
            header = json.loads((file.metadata() or {})["atelier"])
    except AtelierError as error:
        return {}, str(error)
    except (SafetensorError, OSError, ValueError, KeyError, RecursionError) as error:
        return {}, f"its file is not a model of Atelier ({printable(error)})"
    return (header, "") if isinstance(header, dict) else ({}, "its file is not a model of Atelier")


def _length(header: Mapping[str, Any]) -> str:
    """The length and seed of a training, for example `120 kimg, seed 1`."""
    words = [f"{_number(header['kimg'])} kimg"] if "kimg" in header else []
    words += [f"{key} {_number(header[key])}" for key in ("seed", "generation") if header.get(key) is not None]
    return ", ".join(words) or "not trained by Atelier"


def _csv(paintings: Sequence[Painting]) -> str:
    """A CSV table with a row for each painting and the catalog's columns."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["split", *CATALOG_SCHEMA.names])
    for painting in paintings:
        values = [getattr(painting.work, name, "") for name in CATALOG_SCHEMA.names[1:]]
        cells = [escape_csv_cell(printable(value)) if isinstance(value, str) else value for value in values]
        writer.writerow([painting.split, painting.id, *cells])
    return text.getvalue()


def _best(locks: Sequence[Lock]) -> Lock | None:
    """The newest trusted one, otherwise the newest."""
    return next((lock for lock in locks if lock.trusted), next(iter(locks), None))


def _where(lock: Lock) -> str:
    return f"dvc.lock of {lock.commits[0]}" if lock.commits else "dvc.lock of the work tree"


def _most_frequent(what: str, names: Sequence[str]) -> str:
    """For example `4 artists: Turner 2, Homer 2, …`."""
    counts = Counter(map(printable, names)).most_common()
    if not counts:
        return f"no {what} is known"
    listed = ", ".join(f"{name} {count:,}" for name, count in counts[:MAX_SHOWN])
    more = f", and {len(counts) - MAX_SHOWN:,} more" if len(counts) > MAX_SHOWN else ""
    return f"{counted(len(counts), what)}: {listed}{more}"


def _flat(value: object) -> str:
    """A setting as JSON without braces and quotes."""
    return json.dumps(value, sort_keys=True, default=str).translate({ord(sign): None for sign in '{}"'})


def _number(value: object) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:,.10g}" if is_number else printable(value)
