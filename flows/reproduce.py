"""Paint past artworks again from their PNG files, and compare every pixel: `atelier reproduce` and `atelier vary`.

The pictures' provenance is read, their models are found, and the pictures are painted by the present code (`reproduce`
also tries earlier code from git), judged and written. This is a Prefect flow if a server is configured; otherwise
Prefect is not imported, which saves seconds.
"""

import contextlib
import functools
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atelier.errors import AtelierError, run_for_exit_code
from atelier.paths import REPRODUCE, REPRODUCED
from flows.orchestration.without_prefect import may_be_configured
from flows.records.history import Networks
from flows.repaint import job
from flows.repaint.job import Workspace
from flows.repaint.picture import OutputFolder, Picture, read_pictures
from flows.repaint.session import Changes, Session, paint_variations
from flows.repaint.verdict import Outcome, Report
from flows.runtime import process, work_tree
from flows.runtime.process import in_words, print_error

NOT_ALL = "Not all reproduced"  # the state of a flow that painted every picture, not all of them as they were


@dataclass(frozen=True, slots=True)
class Request:
    """The files and options of a command.

    With `changes`, only the present code paints, and then paints the changed pictures as well. `out` and `files` are
    relative to the current directory.
    """

    files: tuple[Path, ...]
    out: Path | None = None
    changes: Changes | None = None
    explain: bool = False
    device: str = "cpu"
    as_json: bool = False


def main(request: Request) -> int:
    """Run a request. Returns 0 if every picture is reproduced, 1 if one differs or failed, 130 or 143 if stopped."""
    return run_for_exit_code(lambda: _reproduce(request), "")


def _reproduce(request: Request) -> int:
    here = work_tree.enter()
    out = here / request.out if request.out else None
    if out and out.exists() and not out.is_dir():
        raise AtelierError(f"--out {request.out} is a file: name a folder, which is made where there is none")

    with contextlib.redirect_stdout(sys.stderr):  # the ledger shows its progress on stdout
        read = read_pictures({str(file): here / file for file in request.files}, print_error)
    report = Report(request.as_json, read)
    pictures = [picture for picture in read.values() if isinstance(picture, Picture)]
    for name, picture in read.items():
        if not isinstance(picture, Picture):
            report.add_refusal(name, picture)

    if pictures:
        output = OutputFolder(out or REPRODUCED, out is not None, [picture.path for picture in pictures])
        _paint(request, pictures, output, report)
        if request.explain:
            _explain(pictures, output, report)
    report.print_summary()
    return 0 if report.all_well else 1


def _paint(request: Request, pictures: Sequence[Picture], output: OutputFolder, report: Report) -> None:
    """Find the models and paint all pictures. Every picture has a verdict in `report` afterwards."""
    paint_all = _paint_all
    if may_be_configured():
        from flows.orchestration import server  # imports Prefect

        if server.running() is not None:  # raises AtelierError if it cannot be used
            paint_all = _paint_all_in_flow
    root = Path.cwd()
    networks = Networks(root, print_error)
    networks.find(set().union(*(job.network_keys(picture.provenance) for picture in pictures)))
    REPRODUCE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=REPRODUCE) as scratch:
        workspace = Workspace(root, root / scratch, networks, output, request.device, print_error)
        by_model: dict[tuple[str, str], list[Picture]] = {}
        for picture in pictures:
            model = picture.provenance.model
            by_model.setdefault((model.md5, model.sha256), []).append(picture)
        sessions = [Session(workspace, group) for group in by_model.values()]
        with sessions[0].started():
            try:
                failure = paint_all(sessions, request.changes, report)
            except AtelierError as error:
                failure = str(error)
            if failure:
                print_error(failure)
            report.refuse_rest(failure or "the command ended before it was painted")
    job.remove_murals(root)


def _explain(pictures: Sequence[Picture], output: OutputFolder, report: Report) -> None:
    """Print each picture's lineage, and write tables of paintings if the user named a folder."""
    from flows.records import lineage  # imports pyarrow

    for picture in pictures:
        name = f"{picture.path.stem}-paintings"
        write = functools.partial(output.write_csv, name) if output.keeps_all else None
        report.add_lineage(picture, lineage.explain(picture.provenance, print_error, keep=write))


def _paint_all(sessions: Sequence[Session], changes: Changes | None, report: Report) -> str:
    """Paint all pictures, and record the verdicts in `report`. Returns why any failed, or an empty string."""
    failures = []
    for session in sessions:
        try:
            paint_model(session, changes, report)
        except (AtelierError, OSError) as error:
            failures.append(in_words(error))
        except Exception as error:  # noqa: BLE001, a bug in one model's code does not stop the others
            traceback.print_exc()
            failures.append(f"{type(error).__name__}: {error}")
    return "; ".join(failures)


def paint_model(session: Session, changes: Changes | None, report: Report) -> bool:
    """Paint all pictures of one model, then their variations. Returns whether every picture is reproduced.

    Raises AtelierError with all reasons if a picture could not be painted or written.
    """
    outcomes: list[Outcome] = []
    failures: list[str] = []
    for outcome in session.run(with_past_code=not changes):
        report.add(outcome)
        outcomes.append(outcome)
        if outcome.verdict.kind == "refused":
            failures.append(outcome.verdict.words)
        elif outcome.write_error:
            failures.append(outcome.write_error)
    if changes:
        painted = [outcome.picture for outcome in outcomes if outcome.verdict.kind != "refused"]
        for variations in paint_variations(session.workspace, painted, changes):
            report.add_variations(variations.picture, variations.written, variations.error)
            if variations.error:
                failures.append(variations.error)
    if missing := len(session.pictures) - len(outcomes):
        failures.append(f"pictures that were not painted: {missing:,}")
    if failures:
        raise AtelierError("; ".join(dict.fromkeys(failures)))
    return all(outcome.verdict.reproduced for outcome in outcomes)


def _paint_all_in_flow(sessions: Sequence[Session], changes: Changes | None, report: Report) -> str:
    """Do the same as `_paint_all` in a Prefect flow with one task per model. Imports Prefect."""
    from prefect import flow, get_run_logger, task
    from prefect.cache_policies import NO_CACHE
    from prefect.client.schemas.objects import State
    from prefect.states import Completed, Failed

    from flows.orchestration.run_page import RunPage

    @task(cache_policy=NO_CACHE, persist_result=False)
    def paint_again(session: Session) -> State:
        try:
            reproduced = paint_model(session, changes, report)
        except (AtelierError, OSError) as error:
            return Failed(message=in_words(error))
        count = f"{len(session.pictures):,} pictures"
        return Completed(name="Completed" if reproduced else NOT_ALL, message=count)

    @flow(name="vary" if changes else "reproduce", persist_result=False, validate_parameters=False)
    def reproduce() -> State:
        states = []
        for session in sessions:  # called, not submitted: in the main thread Ctrl-C and SIGTERM stop the painting
            named = paint_again.with_options(name=f"model {session.model.md5[:8]}")
            states.append(named(session, return_state=True))
        failed = [state for state in states if not state.is_completed()]
        failure = "; ".join(state.message or "a model's pictures failed" for state in failed)
        if failure:
            report.refuse_rest(failure)
        RunPage(get_run_logger()).table("pictures", report.rows)
        if failure:
            return Failed(message=failure)
        return Completed(name="Completed" if report.all_well else NOT_ALL)

    with process.server_needed("the same command begins anew"):
        state = reproduce(return_state=True)
    return "" if state.is_completed() else state.message or "the flow failed"
