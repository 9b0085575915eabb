"""The Prefect flow that paints pictures again: one task per model, not one per picture.

Enter the tree (flows.runtime.work_tree) before this module is imported: Prefect reads its settings when it is.
"""

from collections.abc import Sequence

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from atelier.errors import AtelierError
from flows.orchestration.page import Page
from flows.repaint.job import Studio
from flows.repaint.reproduced import Account
from flows.repaint.session import Outcome, Sitting
from flows.repaint.variations import families
from flows.runtime.ending import in_words

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
    Page(get_run_logger()).table("pictures", account.rows)
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
