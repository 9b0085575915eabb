"""One night: harvest, train, compare with the champion, then promote the challenger or keep the champion.

A night works in a clone beside the user's tree (flows.clones.sibling). Enter the tree (flows.runtime.work_tree)
before importing this module: Prefect reads its settings on import. Prefect's runners and workers import the flow by
its module's name and call it in a process of its own, which starts in the user's tree.
"""

import contextlib
import json
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TypeVar

from prefect import flow, get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.exceptions import FailedRun
from prefect.logging import get_logger
from prefect.states import Completed, Failed

from atelier import model_store
from atelier.data.catalog import read_downloads
from atelier.errors import AtelierError
from atelier.files import digest, write_bytes
from atelier.metrics.comparison import Comparison
from atelier.paths import CONTACT_SHEET, COVERAGE, DATASET, DOWNLOADS, GENERATOR, MODEL, NIGHT, PARAMS
from atelier.settings.edit import Change, edit_params
from atelier.settings.load import load_params
from atelier.settings.schema import Params
from flows.clones.sibling import NightClone, committed_params, prepare_night_clone
from flows.night import champion
from flows.night.champion import Champion, Promotion
from flows.night.report import Night, Outcome, Report, compare_command, describe_harvest
from flows.orchestration.run_page import Logger, RunPage, notifier
from flows.orchestration.stage_tasks import RETRY_DELAYS_S, PipelineRun, failed, is_retried, without_traceback
from flows.repo import stages
from flows.runtime import process, work_tree
from flows.runtime.process import TICK_S, in_words

COMPARISON, SHEET, REPORT, PAGE = (NIGHT / name for name in ("verdict.json", "sheet.png", "report.md", "report.html"))
T = TypeVar("T")

notify = notifier(
    lambda: committed_params(Path.cwd()).nightly.notify,
    quiet=lambda state: state.is_completed() and state.name != "Promoted",
)


def scheduled_start() -> datetime:
    """The time for which the current flow run was scheduled, in local time; it may have started later."""
    start: datetime = runtime.flow_run.scheduled_start_time
    return start.astimezone()


def run_name() -> str:
    """The flow run's name in Prefect's UI."""
    return f"night of {runtime.flow_run.parameters.get('night') or scheduled_start().date()}"


@flow(
    name="nightly", flow_run_name=run_name, persist_result=False,
    on_completion=[notify], on_failure=[notify], on_cancellation=[notify], on_crashed=[notify],
)  # fmt: skip
def nightly(night: date | None = None) -> State:
    """Promote a better model, or keep the champion and say why. `night` defaults to the date of the scheduled start.

    The state's name is `Promoted`, `Kept`, `Nothing new`, `Skipped` or `Failed`.
    """
    if runtime.deployment.id is not None:  # in a process of a runner or a worker
        process.end_with_starter()
    started = datetime.now(UTC)
    try:
        work_tree.enter()
        user = Path.cwd()
        with work_tree.only_flow("night"):
            last = Night.last(user)
            if last and scheduled_start() < last.started:
                return Completed(name="Skipped", message=f"superseded by the night of {last.night}: {last.message}")
            which = night or scheduled_start().date()
            outcome, message = _night(user, which)
            incomplete = _try_to_report(lambda: Night(which, outcome, message, started).write(user))
            return Completed(name=outcome, message=f"{message}{incomplete}")
    except work_tree.AtWorkError as error:
        return Completed(name="Skipped", message=str(error))
    except (AtelierError, OSError) as error:  # expected: a sentence without a traceback
        return Failed(message=in_words(error))


def _night(user: Path, night: date) -> tuple[Outcome, str]:
    """Run a night in its clone. Returns its outcome and a sentence; raises AtelierError if it failed."""
    logger = get_run_logger()
    clone = prepare_night_clone(user, committed_params(user).nightly)
    logger.info("the night of %s, from commit %s, in %s", night, clone.base[:10], clone.root)
    if clone.uncommitted:
        logger.warning("not committed, so no part of this night: %s", ", ".join(clone.uncommitted))
    with contextlib.chdir(clone.root), work_tree.only_flow():
        before = champion.load_champion(clone, logger.info)
        changes = edit_params(PARAMS, champion.night_params(load_params(PARAMS), before, night.isoformat()))
        challenge = _Challenge(clone, before, night, load_params(PARAMS), logger)
        outcome, message = challenge.run()
        incomplete = _try_to_report(lambda: challenge.report(outcome, message, changes))
        return outcome, f"{message}{incomplete}"


class _Challenge:
    """A night's challenger: its training, the comparison with the champion and the promotion."""

    def __init__(self, clone: NightClone, before: Champion | None, night: date, params: Params, logger: Logger) -> None:
        self._clone, self._champion, self._night, self._params = clone, before, night, params
        self._page = RunPage(logger)
        self._pipeline = PipelineRun(stages.plan([], logger.info))
        self._comparison: Comparison | None = None
        self._promotion: Promotion | None = None

    def run(self) -> tuple[Outcome, str]:
        """Run the stages as far as they are needed, the comparison and the promotion."""
        try:
            return self._run()
        except AtelierError:
            self._pipeline.show(self._page)
            raise

    def _run(self) -> tuple[Outcome, str]:
        old = self._champion
        self._run_stages("train")  # and before it the harvest: scrape, download, augment
        if old and digest(GENERATOR) == old.generator_sha256:
            return "Nothing new", f"v{old.version} stays: the same paintings, settings and code make its bytes"
        self._run_stages("evaluate")
        reason = self._compare()
        if reason is None:
            assert old and self._comparison
            return "Kept", f"v{old.version} stays: {self._comparison.short}"
        self._run_stages()  # the artworks and prints of the new champion
        state = promote(self._clone, old, self._night, reason, wait_for=self._pipeline.leaves, return_state=True)
        self._promotion = _result(Promotion, state)
        return "Promoted", f"{self._promotion.tag}: {reason}"

    def _run_stages(self, *targets: str) -> None:
        if stopped := self._pipeline.run(*targets):
            raise AtelierError(stopped.message or "a stage failed")

    def _compare(self) -> str | None:
        """The reason to promote the challenger, or None to keep the champion."""
        if self._champion is None:
            return "the first champion"
        old, new = champion.read_model(self._champion.path), champion.read_model(MODEL)
        if not new.is_comparable(old):
            return f"{new.in_words} follows {old.in_words}, uncompared"
        generator = self._champion.path / model_store.GENERATOR_FILE
        state = compare(generator, self._params, wait_for=self._pipeline.leaves, return_state=True)
        self._comparison = comparison = _result(Comparison, state)
        if SHEET.is_file():
            self._page.picture("champion-and-challenger", SHEET, comparison.short)
            self._page.link("sheet", SHEET, "champion and challenger, the same seeds")
        return comparison.short if comparison.wins else None

    def report(self, outcome: Outcome, message: str, changes: Sequence[Change]) -> None:
        """Show the stages' table, the report and the pictures on the run page; write the report into the clone."""
        self._pipeline.show(self._page)
        promotion = self._promotion
        places = {"the night's tree": str(self._clone.root)}
        if promotion:
            places |= {"tag": promotion.tag, "commit": promotion.commit, "branch": self._clone.branch}
            places["data"] = promotion.pushed or "on this machine, for no DVC remote is set"
            places["to take it over"] = f"git merge {promotion.tag} && dvc checkout"
        report = Report(
            night=self._night, outcome=outcome, message=message, base=self._clone.base, harvest=self._harvest(),
            changes=changes, champion=f"v{self._champion.version}" if self._champion else None,
            comparison=self._comparison, places=places, uncommitted=self._clone.uncommitted,
        )  # fmt: skip
        write_bytes(REPORT, report.markdown().encode())
        report.write_page(PAGE, SHEET.name if self._comparison and SHEET.is_file() else None)
        self._page.markdown("night", report.markdown())
        self._page.link("report", PAGE, "the same report as a page")
        if promotion:
            self._page.link("champion", GENERATOR, f"the generator of {promotion.tag}")
            if CONTACT_SHEET.is_file():
                self._page.picture("artworks", CONTACT_SHEET, f"artworks of {promotion.tag}")
                self._page.link("contact-sheet", CONTACT_SHEET, f"artworks of {promotion.tag}")

    def _harvest(self) -> str:
        """Count what the stages before the training collected."""
        catalog = json.loads(COVERAGE.read_text())
        arrived = sum(entry.status == "ok" for entry in read_downloads(DOWNLOADS))
        dataset = json.loads((DATASET / "dataset.json").read_text())
        return describe_harvest(
            catalog["found"], arrived, dataset["train"], dataset["held_out"],
            self._champion.paintings if self._champion else None, catalog.get("incomplete_because", ()),
        )  # fmt: skip


@task(task_run_name="compare", cache_policy=NO_CACHE, persist_result=False)
def compare(champion_generator: Path, params: Params) -> State:
    """Compare the champion with the challenger on the held-out paintings, in a child process that loads torch."""
    logger = get_run_logger()
    command = [*compare_command(champion_generator, GENERATOR, params, sheet=SHEET), f"--json={COMPARISON}"]
    NIGHT.mkdir(parents=True, exist_ok=True)
    for path in (COMPARISON, SHEET):  # of an earlier night
        path.unlink(missing_ok=True)
    last = ""
    with process.Child(command, work_tree.environment()) as child:
        for line in child.lines(TICK_S):
            if line:
                last = line
                logger.info(line)
        status = child.wait()
    if status:
        return Failed(message=f"compare: {last}" if status > 0 else f"compare: killed by signal {-status}")
    try:
        comparison = Comparison.read(COMPARISON)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Failed(message=f"compare: it ended without a result that can be read: {in_words(error)}")
    return Completed(message=comparison.reason, data=comparison)


@task(
    task_run_name="promote", cache_policy=NO_CACHE, persist_result=False, retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=list(RETRY_DELAYS_S), retry_condition_fn=is_retried,
)  # fmt: skip
def promote(clone: NightClone, before: Champion | None, night: date, reason: str) -> State:
    """Make the challenger the champion, see `champion.promote`. The state is Failed if that is not possible."""
    try:
        promotion = champion.promote(clone, before, night.isoformat(), reason, get_run_logger().info)
    except AtelierError as error:
        return failed(type(error)(f"won, but not promoted: {error}"))
    except OSError as error:
        return failed(AtelierError(f"won, but not promoted: {in_words(error)}"))
    return Completed(message=f"{promotion.tag}, commit {promotion.commit[:10]}", data=promotion)


def _try_to_report(write: Callable[[], None]) -> str:
    """Call `write`. If it fails, log why and return a clause that says so: the night's outcome does not change."""
    try:
        write()
    except Exception as error:  # noqa: BLE001  (a promotion that has happened stays one, whatever the report raises)
        expected = isinstance(error, (AtelierError, OSError))
        why = in_words(error) if expected else f"{type(error).__name__}: {error}"
        get_run_logger().warning("the night's report is incomplete: %s", why, exc_info=not expected)
        return f"; its report is incomplete: {why}"
    return ""


def _result(kind: type[T], state: object) -> T:
    """Return a task's result. Raises AtelierError with the task's message if it failed."""
    assert isinstance(state, State)  # because of return_state=True
    if not state.is_completed():
        raise AtelierError(state.message or "a task failed and did not say why")
    result = state.result()
    assert isinstance(result, kind)
    return result


# the traceback with which a runner's or a worker's process reports a failed night a second time
for name in ("prefect.flow_runs", "prefect.engine"):
    get_logger(name).addFilter(without_traceback(FailedRun))
