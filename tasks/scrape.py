"""Stage scrape: reads the source's metadata and writes the catalog and its coverage report."""

import functools
import hashlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Literal

from atelier.data.catalog import write_catalog
from atelier.data.coverage import SourceWorks, coverage_report
from atelier.data.folder import read_folder
from atelier.errors import AtelierError, counted
from atelier.files import write_json
from atelier.gallery.scene import GENRE
from atelier.gallery.server import serve, virtual_url
from atelier.paths import CATALOG, COVERAGE
from atelier.progress import Progress
from atelier.settings.load import csv_file, image_folder
from atelier.settings.schema import Folder, Gallery, WikiArt
from atelier.web.client import PoliteClient
from atelier.web.limits import Budget
from atelier.wikiart.cached_client import CachedClient, ResponseCache
from atelier.wikiart.harvest import harvest
from atelier.wikiart.lists import Query, collect
from atelier.wikiart.pages import fetch_slugs, unknown_slug
from tasks.stage import Stage, main

RETRIES = 5  # half a minute with back-off: enough for a short failure, short enough for a machine that is offline
TIMEOUT_S = 30.0
ADVICE = {  # for a source that gave no works
    "wikiart": "check the slug, scrape.wikiart.rights and scrape.wikiart.limit",
    "folder": "check scrape.folder.path, and that scrape.folder.catalog names files relative to it",
    "gallery": "check scrape.gallery.works",
}


def run(stage: Stage) -> str:
    """Read the source named in params.yaml; write data/catalog.parquet and data/catalog.json."""
    params = stage.params.scrape
    if params.source == "wikiart":
        source, found = _read_wikiart(stage, params.wikiart, params.snapshot)
    elif params.source == "gallery":
        source, found = _read_gallery(stage, params.gallery)
    else:
        source, found = _read_folder(stage, params.folder)
    skipped = ", ".join(f"{count:,} {reason}" for reason, count in sorted(found.skipped.items()))
    incomplete = "; ".join(found.incomplete)
    if not found.works:
        why = "; ".join(reason for reason in (skipped, incomplete) if reason)
        raise AtelierError(f"{source} gave no works{f' ({why})' if why else ''}: {ADVICE[params.source]}")
    write_catalog(found.works, CATALOG)
    write_json(COVERAGE, coverage_report(params.source, source, found))
    for note in found.notes:
        _print(note)
    summary = f"{counted(len(found.works), 'work')} of {source}{f'; left out: {skipped}' if skipped else ''}"
    if incomplete:
        summary += f"; INCOMPLETE: {incomplete}"
        if found.reach and (
            found.reach["failed"]["count"] or not found.reach["not_asked"]
        ):  # not for a budget, which is raised
            summary += ". `dvc repro --force --single-item scrape` goes on from there"
    return summary


def _read_wikiart(stage: Stage, wikiart: WikiArt, snapshot: str) -> tuple[str, SourceWorks]:
    kinds: tuple[Literal["genre", "style", "artist"], ...] = ("genre", "style", "artist")
    (query,) = (Query(kind, slug) for kind in kinds if (slug := getattr(wikiart, kind)))  # the schema allows one
    if query.kind != "artist" and (hint := unknown_slug(query.kind, query.slug)):
        _print(f"{hint}; asking all the same")
    # a budget counts over all runs with the same list and snapshot
    question = "\n".join((wikiart.base_url, query.kind, query.slug, snapshot))
    ledger = stage.state / f"{hashlib.sha256(question.encode()).hexdigest()[:16]}.requests"
    budget = Budget(wikiart.max_requests, ledger)
    before = budget.spent
    with (
        PoliteClient(
            wikiart.base_url,
            contact=wikiart.contact,
            rate_per_s=wikiart.rate_per_s,
            retries=RETRIES,
            timeout_s=TIMEOUT_S,
            budget=budget,
            may_train=wikiart.may_train,
        ) as client,
        closing(ResponseCache.of_site(stage.state, wikiart.base_url, _print)) as cache,
        stage.progress(wikiart.limit or 1, "works") as progress,
    ):
        found = harvest(
            CachedClient(client, cache, snapshot),
            query,
            free_only=wikiart.rights == "public-domain",
            limit=wikiart.limit,
            tell=_print,
            on_progress=functools.partial(_update, progress),
        )
    _print(f"{counted(budget.spent - before, 'request')} in this run, {budget.spent:,} for this question in all")
    return f"the {query.kind} {query.slug} at {wikiart.base_url}", found


def _read_gallery(stage: Stage, gallery: Gallery) -> tuple[str, SourceWorks]:
    with (
        serve(gallery.seed, gallery.works, gallery.size_px) as base_url,
        PoliteClient(base_url, contact="", rate_per_s=None, retries=RETRIES, timeout_s=TIMEOUT_S) as client,
        closing(ResponseCache()) as cache,  # in memory: the port differs from run to run
        stage.progress(gallery.works, "works") as progress,
    ):
        styles = [Query("style", style.slug) for style in fetch_slugs("style", client)]
        found = collect(
            CachedClient(client, cache, ""),
            [Query("genre", GENRE), *styles],
            on_progress=lambda done, expected: progress.update(done),
        )
    works = []
    for work in found.works:  # without the port, and in the public domain: their painter is fictional
        image_url, page_url = virtual_url(work.image_url, base_url), virtual_url(work.page_url, base_url)
        works.append(replace(work, image_url=image_url, page_url=page_url, rights="public-domain", source="gallery"))
    return f"the built-in archive {gallery.seed}", replace(found, works=works)


def _read_folder(stage: Stage, folder: Folder) -> tuple[str, SourceWorks]:
    with stage.progress(1, "files") as progress:
        report_progress = functools.partial(_update, progress)
        found = read_folder(image_folder(folder), csv_file(folder), report_progress, studio=Path.cwd())
    return f"a folder of images{' with a CSV' if folder.catalog else ''}", found


def _update(progress: Progress, done: int, expected: int, note: str = "") -> None:
    progress.total = expected
    progress.update(done, note)


def _print(sentence: str) -> None:
    print(f"scrape: {sentence}")


if __name__ == "__main__":
    main("scrape", run)
