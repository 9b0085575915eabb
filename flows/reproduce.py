"""A past artwork again, from its PNG: what goes before the flow, and the exit code.

Knows nothing of Prefect until the tree is entered, the files are looked at, and there is something to paint.

The Prefect flow that paints pictures again: one task per model, not one per picture.

Enter the tree (flows.runtime.work_tree) before this module is imported: Prefect reads its settings when it is.
"""

import contextlib
import functools
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from atelier.errors import AtelierError
from flows.orchestration.run_page import RunPage
from flows.records import lineage
from flows.records.networks import Networks
from flows.repaint import job
from flows.repaint.destination import Shelf
from flows.repaint.job import Studio
from flows.repaint.output import Account
from flows.repaint.picture import Changes, Given, look
from flows.repaint.session import Outcome, Sitting
from flows.repaint.variations import families
from flows.runtime import process, work_tree
from flows.runtime.process import in_words

PLACE = Path(".atelier/reproduce")

REPRODUCED = Path(".atelier/reproduced")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person asked for."""

    files: tuple[Path, ...]
    out: Path | None = None
    changes: Changes = field(default_factory=Changes)
    explain: bool = False
    device: str = "cpu"
    as_json: bool = False


def main(wish: Wish) -> int:
    """Paint the pictures again: 0 where all are as they were, 1 where one is not or failed, 130 and 143 stopped."""
    return process.run_for_exit_code(lambda: _reproduce(wish), "")


def _reproduce(wish: Wish) -> int:
    here = Path.cwd()
    work_tree.enter()
    if wish.out and (here / wish.out).exists() and not (here / wish.out).is_dir():
        raise AtelierError(f"--out {wish.out} is a file: name a folder, which is made where there is none")
    with contextlib.redirect_stdout(sys.stderr):  # the ledger's bar
        looked = look({str(file): here / file for file in wish.files}, _say)
    account, pictures = Account(wish.as_json, looked), []
    for name, found in looked.items():
        if isinstance(found, Given):
            pictures.append(found)
        else:
            account.refuse(name, found)
    if pictures:
        shelf = Shelf(here / wish.out if wish.out else REPRODUCED, wish.out is not None, _paths(pictures))
        _paint(wish, pictures, shelf, account)
        for given in pictures if wish.explain else ():
            keep = functools.partial(shelf.list, f"{given.path.stem}-paintings") if wish.out else None
            account.explain(given, lineage.explain(given.made, _say, keep=keep))
    account.sum_up()
    return 0 if account.all_well else 1


def _paint(wish: Wish, pictures: Sequence[Given], shelf: Shelf, account: Account) -> None:
    from flows.orchestration import server

    wait_for_server = server.start()
    root = Path.cwd()
    sittings = _sittings(pictures)
    networks = Networks(root, _say)
    networks.find(set().union(*(sitting.wanted() for sitting in sittings)))

    PLACE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=PLACE) as place:
        studio = Studio(root, root / place, networks, shelf, wish.changes, wish.device, _say)
        with sittings[0].begun(studio):
            wait_for_server()
            try:
                with process.server_needed("the same command begins anew"):
                    state = reproduce(sittings, studio, account, return_state=True)
                why = "" if state.is_completed() else state.message or "the flow failed"
            except AtelierError as error:
                why = str(error)
            if why:
                _say(why)
            account.give_up(why or "the flow did not reach it")
    job.forget_murals(root)


def _sittings(pictures: Sequence[Given]) -> list[Sitting]:
    """The pictures by their models, each in the order in which they were named."""
    models = dict.fromkeys((given.made.model.md5, given.made.model.sha256) for given in pictures)
    return [
        Sitting(group[0].made.model, group)
        for model in models
        if (group := [each for each in pictures if (each.made.model.md5, each.made.model.sha256) == model])
    ]


def _paths(pictures: Sequence[Given]) -> list[Path]:
    return [given.path for given in pictures]


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr)


NOT_ALL = "Not all reproduced"  # every picture was painted again, and one at least is not what it was


@flow(name="reproduce", persist_result=False, validate_parameters=False)
def reproduce(sittings: Sequence[Sitting], studio: Studio, account: Account) -> State:
    """Paint every model's pictures again and record the verdicts in `account`.

    `Failed` where anything failed or could not be painted; `Not all reproduced` where a picture differs.
    """
    states = [
        # called, not submitted: in the main thread Ctrl-C and SIGTERM reach the painting
        paint_again.with_options(name=f"model {sitting.model.md5[:8]}")(
            sitting, studio, account, return_state=True
        )
        for sitting in sittings
    ]
    failures = [state.message or "a model's pictures failed" for state in states if not state.is_completed()]
    why = "; ".join(failures)
    if failures:
        account.give_up(why)
    RunPage(get_run_logger()).table("pictures", account.rows)
    if failures:
        return Failed(message=why)
    return Completed(name="Completed" if account.all_well else NOT_ALL)


@task(cache_policy=NO_CACHE, persist_result=False)
def paint_again(sitting: Sitting, studio: Studio, account: Account) -> State:
    """Paint all pictures of one model, then the variations that were asked for."""
    outcomes: list[Outcome] = []
    failures: list[str] = []
    try:
        for outcome in sitting.run(studio):
            account.tell(outcome)
            outcomes.append(outcome)
            if outcome.verdict.kind == "refused":
                failures.append(outcome.verdict.words)
            elif outcome.unwritten:
                failures.append(outcome.unwritten)
        if studio.changes:
            for family in families(studio, outcomes):
                account.introduce(family)
                if family.refused:
                    failures.append(family.refused)
    except (AtelierError, OSError) as error:
        return Failed(message=in_words(error))
    if missing := len(sitting.pictures) - len(outcomes):
        failures.append(f"pictures that were not painted: {missing:,}")
    if failures:
        return Failed(message="; ".join(dict.fromkeys(failures)))
    well = all(outcome.verdict.reproduced for outcome in outcomes)
    return Completed(name="Completed" if well else NOT_ALL, message=f"{len(outcomes):,} pictures")
