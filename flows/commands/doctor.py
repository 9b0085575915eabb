"""Whether this studio can work, line by line: what is well, what is not, how to mend it. Changes nothing."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from atelier.download import arrivals
from atelier.download.report import format_size
from atelier.errors import AtelierError, Finding
from atelier.files import size_bytes
from atelier.settings.messages import counted
from flows.repo import stages, storage
from flows.repo.git import SET_IDENTITY, OwnerError, git, holds, identity
from flows.runtime import work_tree
from tasks.stage import FINISHED

MARKS = {"ok": "[green]ok     [/]", "warning": "[yellow]warning[/]", "wrong": "[red]wrong  [/]"}
OLDEST_GIT = (2, 30)
LONGEST_S = 180  # for torch to be loaded and a GPU to wake


def main() -> int:
    """Print the report; 0 where nothing is wrong, else 1."""
    console = Console(soft_wrap=True, highlight=False)
    wrong = 0
    for line in report():
        wrong += line.state == "wrong"
        console.print(f"{MARKS[line.state]} {escape(line.what)}: {escape(line.message)}")
        if line.fix and line.state != "ok":
            console.print(f"        to mend it: {escape(line.fix)}")
    return 1 if wrong else 0


def report() -> Iterator[Finding]:
    """All there is to know, each as soon as it is known."""
    yield from _machine()
    yield from _user()
    yield from _git()
    yield _stages()
    yield _remote()
    yield _prefect()
    yield from _arrived()
    yield from kept_states(Path.cwd())


def _machine() -> Iterator[Finding]:
    """What atelier.doctor finds, in a process that may die of a broken driver."""
    command = [sys.executable, "-m", "atelier.doctor"]
    process = subprocess.Popen(
        command, env=work_tree.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        out, err = process.communicate(timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        err += f"\nno answer within {LONGEST_S} s"
    for line in out.splitlines():
        yield Finding(**json.loads(line))
    if process.returncode:
        reason = (err.strip().splitlines() or [f"ended with status {process.returncode}"])[-1]
        yield Finding(
            "machine", "wrong", reason, "run `python -m atelier.doctor` to see it happen; `make setup`"
        )


def _user() -> Iterator[Finding]:
    """What a user may not do here: a tree of another user's, a container's number without a name."""
    home = str(Path.cwd() / work_tree.HOME)
    if os.environ.get("HOME") == home:
        mend = f"`mkdir -p {home} && export HOME={home}`, or start the container with another HOME"
        said = "this user has no name and no HOME: `atelier` goes on with .atelier/home, `dvc` typed by hand fails"
        yield Finding("user", "warning", said, mend)
    places = [
        Path(),
        *(Path(name) for name in (".atelier", ".dvc", ".dvc/cache", ".git", "data", "params.yaml")),
    ]
    kept = sorted(Path(".atelier").glob("*/")) if os.access(".atelier", os.R_OK) else []
    locked = [str(path) for path in (*places, *kept) if path.exists() and not os.access(path, os.W_OK)]
    if locked:
        said = f"{', '.join(locked)} may not be written by this user (uid {os.getuid()})"
        mend = f"`sudo chown -R {os.getuid()} {Path.cwd()}`, or work in a clone of your own: `git clone {Path.cwd()}`"
        yield Finding("permissions", "wrong", said, mend)


def _git() -> Iterator[Finding]:
    here = Path.cwd()
    try:
        has_commit = holds(here, "rev-parse", "HEAD")
    except OwnerError as error:
        yield Finding("git", "wrong", *str(error).rsplit(": ", 1))
        return
    if not has_commit:
        mend = "`git init && git add . && git commit -m 'My studio'`"
        yield Finding("git", "wrong", "this directory has no commit that DVC could refer to", mend)
        return
    try:
        name, email = identity(here)
    except AtelierError:
        yield Finding(
            "git", "warning", "has no name and e-mail for commits, which the nightly makes", SET_IDENTITY
        )
    else:
        yield Finding("git", "ok", f"commits are {name}'s, {email}")
    told = git(here, "--version")
    if (match := re.search(r"(\d+)\.(\d+)", told)) and (int(match[1]), int(match[2])) < OLDEST_GIT:
        oldest = ".".join(map(str, OLDEST_GIT))
        yield Finding("git", "warning", f"{told}; Atelier is made for {oldest} and newer", "update git")


def _stages() -> Finding:
    try:
        return Finding("dvc.yaml", "ok", f"{stages.check()} stages, and dvc.lock, can be read")
    except AtelierError as error:
        return Finding("dvc.yaml", "wrong", str(error), "edit the file that it names")


def _remote() -> Finding:
    try:
        remote = storage.remote()
    except AtelierError as error:
        return Finding(
            "DVC remote", "wrong", str(error), "`dvc remote list` shows its address; see .dvc/config"
        )
    if remote is None and _config_was_emptied():
        said = ".dvc/config is empty, and the last commit's is not: `dvc remote add` empties it at an umlaut"
        mend = "`git checkout .dvc/config`, then write the remote into it as README.md shows"
        return Finding("DVC remote", "wrong", said, mend)
    if remote is None:
        mend = "`dvc remote add -d store /a/folder/elsewhere`, or s3://…, then `dvc push`"
        said = "none is set: data and models are on this machine only"
        return Finding("DVC remote", "warning", said, mend)
    return Finding("DVC remote", "ok", f"{remote} can be reached")


def _arrived() -> Iterator[Finding]:
    """How much room the downloaded pictures take that .atelier/images keeps from run to run."""
    directory = Path(".atelier/images")
    try:
        kept = arrivals.usage(directory, arrivals.recent_since(directory, arrivals.RECENT_DAYS))
    except sqlite3.Error as error:
        yield Finding(
            "arrived pictures", "warning", f"{directory}: {error}", "is it yours to read and write?"
        )
        return
    if not kept:
        return
    said = f"{format_size(sum(file.bytes for file in kept)) or '0 B'} in {directory}"
    if unnamed := sum(file.unused_bytes for file in kept):
        said += f", {format_size(unnamed)} of it in no recent catalog: `atelier clean` lists it"
    yield Finding("arrived pictures", "ok", said)


def kept_states(root: Path) -> Iterator[Finding]:
    """The states that trainings can be resumed from, in this tree and in its clones, and how much room they take."""
    for tree_ in (root, *(root.with_name(f"{root.name}.{kind}") for kind in ("nightly", "explore"))):
        for stage in ("train", "train_upscaler"):
            place = tree_ / ".atelier" / stage
            kept = [path for path in place.glob("*") if path.is_dir()]
            if kept:
                stopped = sum(not (path / FINISHED).exists() for path in kept)
                said = (
                    f"{counted(len(kept), 'training')} in {place.relative_to(root) if tree_ == root else place}, "
                    f"{format_size(sum(map(size_bytes, kept))) or '0 B'}, {stopped:,} not finished; to remove them "
                    "costs time, never a result"
                )
                yield Finding("resumable states", "ok", said)


def _config_was_emptied() -> bool:
    config = Path(".dvc/config")
    if not config.is_file() or config.stat().st_size:
        return False
    try:
        return bool(git(Path.cwd(), "show", "HEAD:./.dvc/config"))
    except AtelierError:  # no git, or no such file in the commit
        return False


def _prefect() -> Finding:
    with tempfile.TemporaryDirectory() as nowhere:
        if not Path(".prefect").exists():  # importing prefect would make it
            os.environ.setdefault("PREFECT_HOME", nowhere)
        try:
            from flows.orchestration import server
        except AtelierError as error:  # settings that Prefect cannot read
            return Finding("Prefect", "wrong", str(error))
        none = "no server is set, and none runs for this studio: each flow starts one of its own"
        return server.look() or Finding("Prefect", "ok", none)
