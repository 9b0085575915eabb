"""Stage scrape: the source's metadata becomes the catalog and its coverage report."""

import hashlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from atelier.data.catalog import Work, write_catalog
from atelier.data.coverage import SourceWorks, coverage_report
from atelier.data.folder import read_folder
from atelier.errors import AtelierError
from atelier.files import write_json
from atelier.gallery.server import GENRE, serve, virtual_url
from atelier.settings.load import csv_file, image_folder
from atelier.settings.messages import counted
from atelier.settings.schema import Folder, Gallery, WikiArt
from atelier.web.client import PoliteClient
from atelier.web.rate_limit import Budget
from atelier.wikiart.asking import Asker, Store
from atelier.wikiart.harvest import harvest
from atelier.wikiart.lists import Query, collect
from atelier.wikiart.slugs import index, unknown_slug
from tasks.stage import DATA, Stage, main

RETRIES = 5  # with back-off half a minute: a site that hiccups comes back, a machine that is offline hears it
TIMEOUT_S = 30.0


def run(stage: Stage) -> str:
    """Ask the source that params.yaml names; write the catalog and what it covers."""
    params = stage.params.scrape
    if params.source == "wikiart":
        asked, found = _ask_wikiart(stage, params.wikiart, params.snapshot)
    elif params.source == "gallery":
        asked, found = _ask_gallery(stage, params.gallery)
    else:
        asked, found = _ask_folder(stage, params.folder)
    skipped = ", ".join(f"{count:,} {reason}" for reason, count in sorted(found.skipped.items()))
    incomplete = "; ".join(found.incomplete)
    if not found.works:
        why = "; ".join(reason for reason in (skipped, incomplete) if reason)
        raise AtelierError(f"{asked} gave no works{f' ({why})' if why else ''}: {_advice(params.source)}")
    write_catalog(found.works, DATA / "catalog.parquet")
    write_json(DATA / "catalog.json", coverage_report(params.source, asked, found))
    for note in found.notes:
        _say(note)
    summary = f"{counted(len(found.works), 'work')} of {asked}{f'; left out: {skipped}' if skipped else ''}"
    if incomplete:
        summary += f"; INCOMPLETE: {incomplete}"
        if found.reach and (found.reach.failed or not found.reach.not_asked):  # a budget is raised instead
            summary += ". `dvc repro --force --single-item scrape` goes on from there"
    return summary


def _ask_wikiart(stage: Stage, wikiart: WikiArt, snapshot: str) -> tuple[str, SourceWorks]:
    query = _query(wikiart)
    if query.kind != "artist" and (hint := unknown_slug(query.kind, query.slug)):
        _say(f"{hint}; asking all the same")
    # what one question may cost is counted over all runs of it; another snapshot is another question
    question = "\n".join((wikiart.base_url, query.kind, query.slug, snapshot))
    ledger = stage.state / f"{hashlib.sha256(question.encode()).hexdigest()[:16]}.requests"
    budget = Budget(wikiart.max_requests, ledger)
    before = budget.spent
    client = PoliteClient(
        wikiart.base_url,
        contact=wikiart.contact,
        rate_per_s=wikiart.rate_per_s,
        retries=RETRIES,
        timeout_s=TIMEOUT_S,
        budget=budget,
        may_train=wikiart.may_train,
    )
    with (
        client,
        closing(Store.of_site(stage.state, wikiart.base_url, _say)) as store,
        stage.progress(wikiart.limit or 1, "works") as progress,
    ):

        def report(done: int, expected: int, note: str = "") -> None:
            progress.total = expected
            progress.update(done, note)

        found = harvest(
            Asker(client, store, snapshot),
            query,
            free_only=wikiart.rights == "public-domain",
            limit=wikiart.limit,
            tell=_say,
            report=report,
        )
    _say(
        f"{counted(budget.spent - before, 'request')} in this run, {budget.spent:,} for this question in all"
    )
    return f"the {query.kind} {query.slug} at {wikiart.base_url}", found


def _query(wikiart: WikiArt) -> Query:
    """The one list that is asked for; params.py has seen to it that it is one."""
    if wikiart.genre:
        return Query("genre", wikiart.genre)
    if wikiart.style:
        return Query("style", wikiart.style)
    assert wikiart.artist
    return Query("artist", wikiart.artist)


def _ask_gallery(stage: Stage, gallery: Gallery) -> tuple[str, SourceWorks]:
    with (
        serve(gallery.seed, gallery.works, gallery.size_px) as base_url,
        PoliteClient(base_url, contact="", rate_per_s=None, retries=RETRIES, timeout_s=TIMEOUT_S) as client,
        closing(Store()) as store,
        stage.progress(gallery.works, "works") as progress,
    ):
        styles = [Query("style", style.slug) for style in index("style", client)]
        found = collect(
            Asker(client, store, ""),  # nothing to resume: the port differs each time
            [Query("genre", GENRE), *styles],
            report=lambda done, expected: progress.update(done),
        )
    works = [_of_gallery(work, base_url) for work in found.works]
    return f"the built-in archive {gallery.seed}", replace(found, works=works)


def _of_gallery(work: Work, base_url: str) -> Work:
    """Addresses without the port, and the rights that the list format has no word for: these painters never lived."""
    return replace(
        work,
        image_url=virtual_url(work.image_url, base_url),
        page_url=virtual_url(work.page_url, base_url),
        rights="public-domain",
        source="gallery",
    )


def _ask_folder(stage: Stage, folder: Folder) -> tuple[str, SourceWorks]:
    with stage.progress(1, "files") as progress:

        def report(done: int, expected: int) -> None:
            progress.total = expected
            progress.update(done)

        found = read_folder(image_folder(folder), csv_file(folder), report, studio=Path.cwd())
    return f"a folder of images{' with a CSV' if folder.catalog else ''}", found


def _say(sentence: str) -> None:
    print(f"scrape: {sentence}")


def _advice(source: str) -> str:
    match source:
        case "wikiart":
            return "check the slug, scrape.wikiart.rights and scrape.wikiart.limit"
        case "folder":
            return "check scrape.folder.path, and that scrape.folder.catalog names files relative to it"
        case _:
            return "check scrape.gallery.works"


if __name__ == "__main__":
    main("scrape", run)
