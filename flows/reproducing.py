"""Pictures painted again as Prefect sees it: one task a model, never one a picture.

Enter the tree (flows.tree) before this module is imported: Prefect reads its settings when it is.
"""

from collections.abc import Sequence

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.commission import Studio
from flows.families import families
from flows.page import Page
from flows.reproduced import Account
from flows.sitting import Sitting

NOT_ALL = "Not all reproduced"  # a finding, and no failure of the flow's


@flow(name="reproduce", persist_result=False, validate_parameters=False)
def reproduce(sittings: Sequence[Sitting], studio: Studio, account: Account) -> State:
    """Paint every model's pictures; what comes of each is told to the account."""
    for sitting in sittings:
        # called, not submitted: in the main thread Ctrl-C and SIGTERM reach the painting
        paint_again.with_options(name=f"model {sitting.model.md5[:8]}")(
            sitting, studio, account, return_state=True
        )
    Page(get_run_logger()).table("pictures", account.rows)
    return Completed(name="Completed" if account.all_well else NOT_ALL)


@task(cache_policy=NO_CACHE, persist_result=False)
def paint_again(sitting: Sitting, studio: Studio, account: Account) -> State:
    """All pictures of one model."""
    outcomes = []
    for outcome in sitting.run(studio):
        account.tell(outcome)
        outcomes.append(outcome)
    if studio.changes:
        for family in families(studio, outcomes):
            account.introduce(family)
    well = all(outcome.verdict.reproduced for outcome in outcomes)
    count = f"{len(sitting.pictures):,} pictures"
    return Completed(name="Completed" if well else NOT_ALL, message=count)
