"""Where a picture comes from: its recipe, its model, what that was trained on and how, the models before it.

All of it is asked of git's history and of DVC's objects; what cannot be had is said. Paints nothing. Texts come from
strangers, and are cleaned.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from atelier.data.catalog import CATALOG_SCHEMA, Work, read_catalog, read_table
from atelier.data.dataset import INDEX_SCHEMA
from atelier.errors import AtelierError
from atelier.provenance import facts as telling
from atelier.provenance.facts import Provenance, printable
from atelier.settings.messages import counted
from atelier.text import escape_csv_cell
from flows.records import history
from flows.records.history import Lock
from flows.records.networks import Networks, Wanted
from flows.repo import storage

CATALOG, DATASET = "data/catalog.parquet", "data/dataset"
INDEX = "index.parquet"
MOST_SHOWN = 5  # artists and genres, those with most paintings
MOST_PARENTS = 50
UPSCALER_STAGE, TRAIN_STAGE = "train_upscaler", "train"

Say = Callable[[str], None]
Section = tuple[str, list[str]]


@dataclass(frozen=True, slots=True)
class Painting:
    """A work of a data set, and on which side of the split it is; its row of the catalog where that could be had."""

    id: str
    split: str
    work: Work | None


def explain(
    made: Provenance, say: Say, root: Path = Path(), keep: Callable[[str], Path] | None = None
) -> str:
    """The whole lineage in lines; `keep` writes a CSV with a row for each painting of the data set, and says where."""
    found = history.locks(root, naming=made.model.md5)
    header, why_not = _header(made, say, root)
    lock = _best([lock for lock in found if lock.makes(made.model.md5)] or found)
    sections: list[Section] = [("picture", _picture(made))]
    if made.print:
        sections.append(("print", _print(made, root)))
    sections += [
        ("model", _model(made, header, why_not)),
        ("training", _training(lock, TRAIN_STAGE)),
        ("named by", _named_by(made, found, root)),
    ]
    paintings, said = _paintings(lock, say, root)
    sections += [
        ("data set", _data_set(lock, header)),
        ("paintings", [*_told(paintings), *said]),
        ("parents", _parents(header, root)),
    ]
    if keep and paintings:
        sections.append(("", [f"{printable(keep(_table(paintings)))} lists the paintings"]))
    return "\n".join(_laid_out(sections))


def _picture(made: Provenance) -> list[str]:
    pixels, software = made.print.original if made.print else made.pixels, made.software
    lines = [telling.describe_recipe(made.latent)]
    if pixels:
        lines.append(
            f"{pixels.width:,} × {pixels.height:,} px, by Atelier {printable(software.atelier)} "
            f"and torch {printable(software.torch)}"
        )
    if made.pick:
        lines.append(
            f"one of the best {made.pick.keep} of {made.pick.of}, by the discriminator of SHA-256 "
            f"{made.pick.discriminator_sha256[:12]}…"
        )
    return lines


def _print(made: Provenance, root: Path) -> list[str]:
    assert made.print
    upscale = made.print.upscale
    lines = [telling.describe_enlargement(upscale)]
    if made.pixels:
        bits = f", {made.pixels.bits} bits" if made.pixels.bits != 8 else ""
        lines.append(f"{made.pixels.width:,} × {made.pixels.height:,} px{bits}")
    lines[-1] += (
        f", by Atelier {printable(upscale.software.atelier)} and torch {printable(upscale.software.torch)}"
    )
    if upscale.upscaler_md5:
        lock = _best(history.locks(root, naming=upscale.upscaler_md5))
        lines += [f"its network's training: {line}" for line in _training(lock, UPSCALER_STAGE)]
    return lines


def _model(made: Provenance, header: Mapping[str, Any], why_not: str) -> list[str]:
    model = made.model
    lines = [
        f"{printable(model.arch)} of {model.resolution} px: {telling.describe_settings(model.settings)}",
        f"MD5 {model.md5}, SHA-256 {model.sha256}",
    ]
    if not header:
        return [*lines, f"how it was trained is not known: {why_not}"]
    versions = header.get("versions")
    by = ", ".join(f"{printable(key)} {printable(value)}" for key, value in sorted(_map(versions).items()))
    return [*lines, f"{_course(header)}; by {by or 'an unknown version'}"]


def _training(lock: Lock | None, stage: str) -> list[str]:
    """The params of the stage, as dvc.lock has them."""
    if lock is None or stage not in lock.stages:
        return [f"its settings are not known: no dvc.lock here says how the stage {stage} made it"]
    told = {key: value for values in lock.stages[stage].params.values() for key, value in values.items()}
    words = [
        f"{printable(key.removeprefix(f'{stage}.').removeprefix(stage)).strip()} {printable(_flat(value))}".strip()
        for key, value in sorted(told.items())
    ]
    return [f"{', '.join(words) or 'no settings'} ({_where(lock)})"]


def _named_by(made: Provenance, found: Sequence[Lock], root: Path) -> list[str]:
    commits = {commit.id: commit for lock in found for commit in lock.commits}
    newest = sorted(commits.values(), key=lambda commit: commit.age)
    versions = [
        reign.version for reign in history.reigns(root) if reign.generator_sha256 == made.model.sha256
    ]
    lines = [f"champion {printable(version)}" for version in dict.fromkeys(versions)]
    lines += [f"tag {tag}" for commit in newest for tag in commit.tags]
    lines += [f"experiment {name}" for commit in newest for name in commit.experiments]
    lines += ["dvc.lock of the work tree"] if any(lock.in_work_tree for lock in found) else []
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
        lines.append(f"SHA-256 {printable(header.get('dataset_sha256', 'not told'))}")
    md5 = lock.md5_of(DATASET) if lock else None
    return [*lines, f"MD5 {md5} ({_where(lock)})" if lock and md5 else "no dvc.lock here names it"]


def _paintings(lock: Lock | None, say: Say, root: Path) -> tuple[list[Painting], list[str]]:
    """Those of the data set, and what could not be had. Only what a trusted commit names is brought."""
    if lock is None or not _trusted(lock):
        return [], [
            "not known: only a commit that HEAD, a branch or a tag of this repository reaches is followed so far"
        ]
    catalog, dataset = lock.md5_of(CATALOG), lock.md5_of(DATASET)
    index = _index(dataset, say, root) if dataset else None
    brought = storage.fetch_objects([catalog], say, root) if catalog else {}
    if index is None:
        return [], ["not known: the data set's list of them is neither in DVC's cache nor in its remote"]
    try:
        works = {work.id: work for work in read_catalog(brought[catalog])} if catalog in brought else {}
        table = read_table(index, INDEX_SCHEMA)
    except AtelierError as error:
        return [], [f"not known: {printable(error)}"]
    pairs = zip(table["id"].to_pylist(), table["split"].to_pylist(), strict=True)
    paintings = [Painting(id, split, works.get(id)) for id, split in pairs]
    if not works:
        return paintings, [
            "their titles are not known: the catalog is neither in DVC's cache nor in its remote"
        ]
    return paintings, []


def _index(dataset: str, say: Say, root: Path) -> Path | None:
    """The data set's index, by the list of its files; the pictures, which are large, are not brought."""
    listing = storage.bring_list(dataset, say, root)
    md5 = dict(storage.listed(listing) or ()).get(INDEX) if listing else None
    return storage.fetch_objects([md5], say, root).get(md5) if md5 else None


def _told(paintings: Sequence[Painting]) -> list[str]:
    """Counts, artists, years, genres."""
    if not paintings:
        return []
    works = [painting.work for painting in paintings if painting.work]
    trained = sum(painting.split == "train" for painting in paintings)
    lines = [f"{trained:,} trained on, {len(paintings) - trained:,} held out"]
    if works:
        years = [work.year for work in works if work.year is not None]
        undated = f", {len(works) - len(years):,} undated" if len(years) < len(works) else ""
        lines.append(_most("artist", [work.artist for work in works]))
        lines.append((f"of {min(years)} to {max(years)}" if years else "of unknown years") + undated)
        lines.append(_most("genre", [work.genre for work in works if work.genre]))
        lines.append(f"from {', '.join(sorted({printable(work.source) for work in works}))}")
    return lines


def _parents(header: Mapping[str, Any], root: Path) -> list[str]:
    """The models that training started from, the last first."""
    lines: list[str] = []
    told = header.get("start")
    versions = {reign.generator_sha256: reign.version for reign in history.reigns(root)} if told else {}
    while isinstance(told, Mapping) and len(lines) < MOST_PARENTS:
        sha256 = printable(told.get("generator_sha256", ""))
        champion = f", champion {printable(versions[sha256])}" if sha256 in versions else ""
        imported = f", imported: {printable(_flat(told['imported']))}" if told.get("imported") else ""
        lines.append(f"SHA-256 {sha256[:12]}…{champion}: {_course(told)}{imported}")
        told = told.get("start")
    if not header:
        return ["not known, as the model is not at hand"]
    return lines or ["none: its training began with nothing"]


def _header(made: Provenance, say: Say, root: Path) -> tuple[Mapping[str, Any], str]:
    """What the model's file says of itself, or why it is not known."""
    wanted = Wanted("model", made.model.sha256, made.model.md5)
    networks = Networks(root, lambda text: None)
    try:
        networks.find([wanted])
        with safe_open(networks.path(wanted), framework="numpy") as file:
            told = json.loads((file.metadata() or {})["atelier"])
    except AtelierError as error:
        return {}, str(error)
    except (SafetensorError, OSError, ValueError, KeyError, RecursionError) as error:
        return {}, f"its file is no model of ours ({printable(error)})"
    return (told, "") if isinstance(told, dict) else ({}, "its file is no model of ours")


def _course(told: Mapping[str, Any]) -> str:
    """`120 kimg, seed 1`, of a header or of a parent in it."""
    words = [f"{_number(told['kimg'])} kimg"] if "kimg" in told else []
    words += [f"{key} {_number(told[key])}" for key in ("seed", "generation") if told.get(key) is not None]
    return ", ".join(words) or "no training of ours"


def _table(paintings: Sequence[Painting]) -> str:
    """A row a painting, with the catalog's columns."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["split", *CATALOG_SCHEMA.names])
    for painting in paintings:
        work = painting.work
        facts = [getattr(work, name) if work else "" for name in CATALOG_SCHEMA.names[1:]]
        writer.writerow([painting.split, painting.id, *(_cell(fact) for fact in facts)])
    return text.getvalue()


def _cell(fact: object) -> object:
    return escape_csv_cell(printable(fact)) if isinstance(fact, str) else fact


def _best(found: Sequence[Lock]) -> Lock | None:
    """The newest that is trusted, else the newest."""
    return next((lock for lock in found if _trusted(lock)), next(iter(found), None))


def _trusted(lock: Lock) -> bool:
    return lock.in_work_tree or any(commit.trusted for commit in lock.commits)


def _where(lock: Lock) -> str:
    return f"dvc.lock of {lock.commits[0]}" if lock.commits else "dvc.lock of the work tree"


def _most(what: str, names: Sequence[str]) -> str:
    counted = Counter(map(printable, names)).most_common()
    shown = ", ".join(f"{name} {count:,}" for name, count in counted[:MOST_SHOWN])
    more = f", and {len(counted) - MOST_SHOWN:,} more" if len(counted) > MOST_SHOWN else ""
    return (
        f"{len(counted):,} {what}{'' if len(counted) == 1 else 's'}: {shown}{more}"
        if counted
        else f"no {what} is told"
    )


def _flat(value: object) -> str:
    """A setting without its brackets and quotes, at most a few lines of it."""
    return json.dumps(value, sort_keys=True, default=str).translate({ord(sign): None for sign in '{}"'})


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> str:
    fits = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:,.10g}" if fits else printable(value)


def _laid_out(sections: Sequence[Section]) -> Iterator[str]:
    """Each line after its section's name, which stands once."""
    for name, lines in sections:
        for number, line in enumerate(lines):
            yield f"{name if number == 0 else '':<10} {line}"
