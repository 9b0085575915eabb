"""Run one operation of DVC's Python API: `python -m flows.repo.worker FILE dvc OPERATION`.

FILE is the descriptor of an open file. Its first line has the operation's arguments as a JSON object. The events are
appended to it, one JSON object a line: {"stage": NAME} when a stage's command starts, and at the end {"result": …} or
{"error": {"message", "kind", "stage", "status"}}. What DVC and the stage print goes to stdout and stderr.
"""

import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import dvc.stage.run
from dvc.exceptions import CheckoutError, DvcException, FileTransferError, ReproductionError
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.stage import Stage
from dvc.stage.exceptions import StageCmdFailedError
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree
from dvc_objects.errors import ObjectFormatError

from atelier.errors import TransientError, describe_error
from flows.repo.operations import NO_SCM, default_remote, is_refused, remote_error


def main(words: Sequence[str]) -> int:
    """Run an operation for the exit status: 0 done, 1 failed, 130 interrupted."""
    file, operation = int(words[0]), words[2]
    os.set_inheritable(file, False)
    arguments = json.loads(os.pread(file, os.fstat(file).st_size, 0))
    sys.argv = ["dvc", operation, *arguments.get("targets", [])]  # as messages of other DVC processes show it
    # without the first entry, which was added for this process: stages run with the user's own
    if rest := os.environ.pop("PYTHONPATH").partition(os.pathsep)[2]:
        os.environ["PYTHONPATH"] = rest

    def report(event: dict[str, Any]) -> None:
        os.write(file, f"{json.dumps(event)}\n".encode())

    work = _Work(report)
    try:
        with Repo(_wait_for_lock=True, config=NO_SCM if operation == "fetch" else None) as repo:
            repo.scm_context.quiet = True  # no advice to `git add` files
            work.remote = default_remote(repo) if operation in ("push", "pull", "fetch") else None
            if perform := OPERATIONS.get(operation):
                report({"result": perform(repo, work, **arguments)})
            else:
                getattr(repo, operation)(**arguments)
                report({"result": None})
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001  (every failure is data for the parent)
        report({"error": work.error(error)})
        return 1
    return 0


class CommandError(StageCmdFailedError):  # type: ignore[misc]  # DVC is not typed
    """DVC's exception for a failed command, with the exit status, which DVC's own has in its message only."""

    def __init__(self, cmd: str, status: int | None = None) -> None:
        super().__init__(cmd, status)
        self.status = status


class _Work(logging.Handler):
    """Observes DVC at work: the stage that it reproduces, the stages whose command ran, the exceptions it only logs."""

    def __init__(self, report: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self.stage: str | None = None
        self.ran: set[str] = set()
        self.remote: tuple[str, str] | None = None  # name and address, while the operation uses it
        self._logged: list[BaseException] = []
        for name in ("dvc", "dvc_data", "dvc_objects"):
            logging.getLogger(name).addHandler(self)
        reproduce, command = Stage.reproduce, dvc.stage.run.cmd_run

        def observed_reproduce(stage: Stage, *args: Any, **kwargs: Any) -> Any:
            self.stage = stage.addressing
            return reproduce(stage, *args, **kwargs)

        def observed_command(stage: Stage, *args: Any, **kwargs: Any) -> Any:
            self.ran.add(stage.addressing)
            report({"stage": stage.addressing})
            return command(stage, *args, **kwargs)

        # DVC has no callbacks for this
        Stage.reproduce = observed_reproduce
        dvc.stage.run.cmd_run = observed_command
        dvc.stage.run.StageCmdFailedError = CommandError

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self._logged.append(record.exc_info[1])

    def error(self, error: Exception) -> dict[str, Any]:
        """Describe why the operation failed, as the keyword arguments of OperationError."""
        chain = list(_causes(error))
        if any(isinstance(each, LockError) for each in chain):
            return {"message": _text(chain), "kind": "busy", "stage": self.stage}
        if isinstance(error, ReproductionError):
            status = next((each.status for each in chain if isinstance(each, CommandError)), None)
            return {"message": _text(chain[1:]), "kind": "stage", "stage": self.stage, "status": status}
        if isinstance(error, CheckoutError):
            names = ", ".join(str(name) for name in error.target_infos)
            return {"message": f"not in the cache: {names}", "kind": "dvc"}
        transfer = isinstance(error, FileTransferError)  # its causes are in the log alone
        causes = self._logged if transfer else [] if isinstance(error, DvcException) else [error]
        if self.remote and causes and isinstance(cause := causes[0], Exception):
            shown = remote_error(*self.remote, cause)
            kind = "refused" if is_refused(cause) else "remote" if isinstance(shown, TransientError) else "dvc"
            return {"message": str(shown), "kind": kind}
        if isinstance(error, OSError) and (sentence := describe_error(error)):
            return {"message": sentence, "kind": "dvc"}
        if not isinstance(error, DvcException):
            traceback.print_exception(error)
        return {"message": _text(chain) or type(error).__name__, "kind": "dvc"}


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__


def _text(chain: Sequence[BaseException]) -> str:
    return ": ".join(filter(None, (str(error).strip() for error in chain)))


def _reproduce(repo: Repo, work: _Work, targets: list[str]) -> str:
    """Reproduce one stage: `executed`, `restored` from the cache, or `unchanged`."""
    changed = repo.reproduce(targets, single_item=True)
    return "executed" if work.ran else "restored" if changed else "unchanged"


def _experiment(repo: Repo, work: _Work, name: str, targets: list[str]) -> None:
    logging.getLogger("dvc.dvcfile").setLevel(logging.WARNING)  # each update of dvc.lock
    logging.getLogger("dvc_data.index.checkout").setLevel(logging.ERROR)  # each output that is still to be made
    repo.experiments.run(name=name, targets=targets)


def _commit(repo: Repo, work: _Work, targets: list[str]) -> None:
    for target in targets:
        repo.commit(target, force=True)


def _push(repo: Repo, work: _Work, targets: list[str]) -> int:
    """Send the work tree's objects and the run cache, and those of `targets`; the number of files that were sent."""
    sent = int(repo.push(run_cache=True))
    return sent + int(repo.push(targets=targets)) if targets else sent


def _fetch(repo: Repo, work: _Work, md5s: Collection[str]) -> None:
    """Copy objects from the default remote to the cache, as far as the remote has them; lists with their files."""
    wanted = []
    for each in (HashInfo("md5", md5) for md5 in md5s):
        try:
            files = Tree.load(repo.cloud.get_remote_odb(), each) if each.isdir else ()
        except (FileNotFoundError, ObjectFormatError):
            continue  # the remote lacks it, or has something else in its place
        wanted += [each, *(md5 for _, _, md5 in files)]
    repo.cloud.pull(wanted)  # a list after its files, and only where all of them arrive


OPERATIONS: dict[str, Callable[..., Any]] = {
    "repro": _reproduce,
    "exp": _experiment,
    "commit": _commit,
    "push": _push,
    "fetch": _fetch,
}  # others are the repository's method of that name


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
