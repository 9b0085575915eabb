"""The night as Prefect sees it: harvest, train, judge, then promote or keep, in a clone beside the user's tree.

Enter the tree (flows.runtime.work_tree) before this module is imported: Prefect reads its settings when it is.
A runner or a worker imports this file by its name and calls `nightly` in a process of its own, which starts in the
user's tree.
"""

import contextlib
import json
import logging
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
from atelier.settings.edit import Change
from atelier.settings.load import load_params
from atelier.settings.schema import Params
from flows.clones import night_clone
from flows.clones.night_clone import Clone
from flows.night import champion
from flows.night import report as judging
from flows.night.champion import Champion, Promotion
from flows.night.report import Harvest, Night, Outcome, Report, Verdict
from flows.orchestration.page import Logger, Page, tell
from flows.orchestration.stage_tasks import WAITS_S, Course, failed, may_pass
from flows.repo import stages as dvc
from flows.runtime import process, work_tree
from flows.runtime.process import in_words

PARAMS = Path("params.yaml")
GENERATOR = champion.MODEL / model_store.GENERATOR_FILE
CONTACT_SHEET = Path("data/contact_sheet.png")
PAPERS = Path(".atelier/nightly")  # in the clone, of the night at work
T = TypeVar("T")
VERDICT, SHEET, REPORT = PAPERS / "verdict.json", PAPERS / "sheet.png", PAPERS / "report.md"


def scheduled() -> datetime:
    """When this run was to start, in local time; it may have started later."""
    start: datetime = runtime.flow_run.scheduled_start_time
    return start.astimezone()


def run_name() -> str:
    """What Prefect's page calls the run."""
    return f"night of {runtime.flow_run.parameters.get('night') or scheduled().date()}"


@flow(
    name="nightly",
    flow_run_name=run_name,
    persist_result=False,
    on_completion=[tell],
    on_failure=[tell],
    on_cancellation=[tell],
    on_crashed=[tell],
)
def nightly(night: date | None = None) -> State:
    """Promote a better model, or keep the champion and say why. `night` is a date, else that of the scheduled start."""
    if runtime.deployment.id is not None:  # a process of a runner's or a worker's
        process.end_with_starter()
    started = datetime.now(UTC)
    try:
        work_tree.enter()
        user = Path.cwd()
        with work_tree.only_flow("night"):
            last = Night.last(user)
            if last and scheduled() < last.started:
                return Completed(
                    name="Skipped", message=f"the night of {last.night} was had since: {last.message}"
                )
            which = night or scheduled().date()
            outcome, message = _night(user, which)
            untold = _said_in_words(lambda: Night(which, outcome, message, started).write(user))
            return Completed(name=outcome, message=f"{message}{untold}")
    except work_tree.AtWorkError as error:
        return Completed(name="Skipped", message=str(error))
    except (AtelierError, OSError) as error:  # a sentence for a person, not a traceback
        return Failed(message=in_words(error))


def _night(user: Path, night: date) -> tuple[Outcome, str]:
    """What came of it, in a word and in a sentence. Raises AtelierError where nothing did."""
    logger = get_run_logger()
    ours = night_clone.prepare(user, night_clone.committed_params(user).nightly)
    logger.info("the night of %s, from commit %s, in %s", night, ours.base[:10], ours.root)
    if ours.uncommitted:
        logger.warning("not committed, so no part of this night: %s", ", ".join(ours.uncommitted))
    with contextlib.chdir(ours.root), work_tree.only_flow():
        asked = load_params(PARAMS)
        before = champion.champion(ours, logger.info)
        settings = champion.night_params(asked, before, night.isoformat())
        changes = night_clone.set_params(ours, settings)
        attempt = _Attempt(ours, before, night, load_params(PARAMS), logger)
        outcome, message = attempt.go()
        untold = _said_in_words(lambda: attempt.tell(outcome, message, changes))
        return outcome, f"{message}{untold}"


def _said_in_words(tell: Callable[[], None]) -> str:
    """Call `tell`. Where it fails, log why and return a half-sentence that says so: the night's outcome stands."""
    try:
        tell()
    except (AtelierError, OSError) as error:
        get_run_logger().warning("the night's report is incomplete: %s", in_words(error))
        return f"; its report is incomplete: {in_words(error)}"
    except Exception as error:  # noqa: BLE001  (a promotion has happened, whatever its report fails by)
        get_run_logger().warning("the night's report is incomplete", exc_info=True)
        return f"; its report is incomplete: {type(error).__name__}: {error}"
    return ""


class _Attempt:
    """A challenger in the making, and what is known of it so far."""

    def __init__(
        self, ours: Clone, before: Champion | None, night: date, params: Params, logger: Logger
    ) -> None:
        self._clone, self._before, self._night, self._params = ours, before, night, params
        self._page = Page(logger)
        self._course = Course(dvc.plan([], logger.info))
        self._verdict: Verdict | None = None
        self._promotion: Promotion | None = None

    def go(self) -> tuple[Outcome, str]:
        """Run the stages as far as they are needed, the contest and the promotion."""
        try:
            return self._decide()
        except AtelierError:
            self._course.show(self._page)
            raise

    def tell(self, outcome: Outcome, message: str, changes: Sequence[Change]) -> None:
        """Show the stages' table, the night's report and its pictures, on Prefect's page and in the clone."""
        self._course.show(self._page)
        report = Report(
            night=self._night, outcome=outcome, message=message, base=self._clone.base, harvest=_harvest(self._before),
            changes=changes, champion=f"v{self._before.version}" if self._before else None, verdict=self._verdict,
            where=self._where(), uncommitted=self._clone.uncommitted,
        )  # fmt: skip
        write_bytes(REPORT, report.markdown().encode())
        self._page.markdown("night", report.markdown())
        self._page.link("report", REPORT, "the same words as a file")
        if self._promotion:
            self._page.link("champion", GENERATOR, f"the generator of {self._promotion.tag}")
            if CONTACT_SHEET.is_file():
                self._page.picture("artworks", CONTACT_SHEET, f"artworks of {self._promotion.tag}")
                self._page.link("contact-sheet", CONTACT_SHEET, f"artworks of {self._promotion.tag}")

    def _decide(self) -> tuple[Outcome, str]:
        self._run("train")
        if self._before and digest(GENERATOR) == self._before.generator_sha256:
            return (
                "Nothing new",
                f"v{self._before.version} stays: the same paintings, settings and code make its bytes",
            )
        self._run("evaluate")
        reason = self._reason_to_promote()
        if reason is None:
            assert self._before and self._verdict
            return "Kept", f"v{self._before.version} stays: {self._verdict.short}"
        self._run()
        promoted = promote(
            self._clone, self._before, self._night, reason, wait_for=self._course.ends, return_state=True
        )
        self._promotion = _result(Promotion, promoted)
        return "Promoted", f"{self._promotion.tag}: {reason}"

    def _reason_to_promote(self) -> str | None:
        """None where the champion stays."""
        if self._before is None:
            return "the first champion"
        was, now = champion.model(self._before.path), champion.model(champion.MODEL)
        if not now.paints_like(was):
            return f"{now.arch} of {now.resolution} px follows {was.arch} of {was.resolution} px, uncompared"
        judged = contest(
            self._before.path / model_store.GENERATOR_FILE,
            self._params,
            wait_for=self._course.ends,
            return_state=True,
        )
        self._verdict = verdict = _result(Verdict, judged)
        if SHEET.is_file():
            self._page.picture("champion-and-challenger", SHEET, verdict.short)
            self._page.link("sheet", SHEET, "champion and challenger, the same seeds")
        return verdict.short if verdict.wins else None

    def _run(self, *stages: str) -> None:
        if stopped := self._course.run(*stages):
            raise AtelierError(stopped.message or "a stage failed")

    def _where(self) -> dict[str, str]:
        where = {"the night's tree": str(self._clone.root)}
        if self._promotion:
            where |= {
                "tag": self._promotion.tag,
                "commit": self._promotion.commit,
                "branch": self._clone.branch,
            }
            where["data"] = self._promotion.pushed or "on this machine, for no DVC remote is set"
            where["to take it over"] = f"git merge {self._promotion.tag} && dvc checkout"
        return where


@task(task_run_name="contest", cache_policy=NO_CACHE, persist_result=False)
def contest(before: Path, params: Params) -> State:
    """Champion and challenger paint the same seeds; both are held against the held-out paintings."""
    logger = get_run_logger()
    command = [*judging.command(before, GENERATOR, params, sheet=SHEET), f"--json={VERDICT}"]
    PAPERS.mkdir(parents=True, exist_ok=True)
    for paper in (VERDICT, SHEET):  # an earlier night's
        paper.unlink(missing_ok=True)
    last = ""
    with process.Child(command, work_tree.environment()) as child:
        for line in child.lines(dvc.TICK_S):
            if line:
                last = line
                logger.info(line)
        status = child.wait()
    if status:
        return Failed(message=f"contest: {last}" if status > 0 else f"contest: killed by signal {-status}")
    try:
        verdict = Verdict.read(VERDICT)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Failed(message=f"contest: it ended without a verdict that can be read: {in_words(error)}")
    return Completed(message=verdict.reason, data=verdict)


@task(
    task_run_name="promote",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=len(WAITS_S),
    retry_delay_seconds=list(WAITS_S),
    retry_condition_fn=may_pass,
)
def promote(ours: Clone, before: Champion | None, night: date, reason: str) -> State:
    """The challenger becomes the champion: its bytes, a commit, a tag, pushed together."""
    try:
        promotion = champion.promote(ours, before, night.isoformat(), reason, get_run_logger().info)
    except AtelierError as error:
        return failed(type(error)(f"won, but not promoted: {error}"))
    except OSError as error:
        return failed(AtelierError(f"won, but not promoted: {in_words(error)}"))
    return Completed(message=f"{promotion.tag}, commit {promotion.commit[:10]}", data=promotion)


def _harvest(before: Champion | None) -> Harvest:
    """What the stages before the training left. Catalog and account name each work and what became of it."""
    catalog = json.loads(Path("data/catalog.json").read_text())
    arrived = sum(entry.status == "ok" for entry in read_downloads(Path("data/downloads.parquet")))
    packed = json.loads(Path("data/dataset/dataset.json").read_text())
    return Harvest(
        catalog["found"], arrived, packed["train"], packed["held_out"], before.paintings if before else None,
        catalog.get("incomplete_because", ()),
    )  # fmt: skip


def _result(kind: type[T], state: object) -> T:
    """What a task of ours made. Raises AtelierError with its sentence where it failed."""
    assert isinstance(state, State)  # as return_state=True has it
    if not state.is_completed():
        raise AtelierError(state.message or "a task failed and did not say why")
    made = state.result()
    assert isinstance(made, kind)
    return made


def _in_words(record: logging.LogRecord) -> bool:
    """A night that failed has said why: a runner's or a worker's process would say it again, with a traceback."""
    return not (record.exc_info and isinstance(record.exc_info[1], FailedRun))


for name in ("prefect.flow_runs", "prefect.engine"):
    get_logger(name).addFilter(_in_words)
