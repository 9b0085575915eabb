"""The documentation: links lead somewhere, commands and settings are accepted by the programs that they are for."""

import itertools
import re
import shlex
from pathlib import Path

import click
import pytest
import typer
from ruamel.yaml import YAML

from atelier.settings.schema import Params

ROOT = Path(__file__).parents[1]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted(ROOT.glob("models/*/README.md")),
]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`((?:atelier|dvc|make) [^`]+)`")
# programs of others in the documentation, and what would be needed to run their lines here
OF_OTHERS = {
    "git": "changes a user's repository", "source": "a shell's own", "export": "a shell's own",
    "prefect": "a server that stays", "sudo": "systemd", "journalctl": "systemd", "ssh": "another machine",
    "torchrun": "two machines", "srun": "Slurm", "docker": "Docker", "kubectl": "a cluster",
    "pre-commit": "not a dependency",
    "pip": "the network", "uv": "the network", "--nproc-per-node": "the second line of a command",
}  # fmt: skip


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    text = BLOCK.sub("", page.read_text())
    for link in LINK.findall(text):
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_commands_are_accepted_by_the_programs_that_they_call(page: Path) -> None:
    text = page.read_text()
    for language, block in BLOCK.findall(text):
        if language == "sh" and not block.startswith("#!/"):  # a job script is no command
            for line in block.splitlines():
                for words in _commands(line):
                    _check(words)
    for command in SPAN.findall(BLOCK.sub("", text)):
        for words in _commands(command):
            _check(words, named=True)


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_settings_in_yaml_blocks_are_valid(page: Path) -> None:
    for language, block in BLOCK.findall(page.read_text()):
        if language != "yaml" or "apiVersion" in block or block.startswith(("repos:", "FROM")):
            continue
        settings = YAML(typ="safe").load(re.sub(r"[0-9a-f]+…", "'" + "a" * 64 + "'", block))
        if set(settings) <= set(Params.model_fields):
            Params.model_validate(settings)


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_files_of_this_repository_that_are_named_exist(page: Path) -> None:
    for name in re.findall(
        r"(?<![\w/.])((?:atelier|flows|tasks|tests|tools|bench|examples)/[\w/.-]+)", page.read_text()
    ):
        assert (ROOT / name.rstrip(".")).exists() or name == "tasks/NAME.py", name


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _commands(line: str) -> list[list[str]]:
    """The commands of one line, each as words, without comments and continuations."""
    words = shlex.split(line.rstrip("\\"), comments=True)
    commands: list[list[str]] = [[]]
    for word in words:
        if word in ("&&", "|", ";"):
            commands.append([])
        else:
            commands[-1].append(word)
    return [command for command in commands if command]


def _check(words: list[str], named: bool = False) -> None:
    """Fail where the program would not accept the words. A command `named` in a sentence may lack arguments."""
    program, arguments = Path(words[0]).name, words[1:]
    if program == "make":
        targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert {word for word in arguments if "=" not in word} <= targets, words
    elif program.startswith("python") and arguments and not arguments[0].startswith("-"):
        assert (ROOT / arguments[0]).is_file(), words
    elif program.startswith("python") and arguments[:1] == ["-m"]:
        path = ROOT / arguments[1].replace(".", "/")
        assert arguments[1] == "pytest" or path.is_dir() or path.with_suffix(".py").is_file(), words
    elif program == "atelier":
        _check_atelier(arguments, named)
    elif program == "dvc":
        _check_dvc(arguments, named)
    else:
        assert program in OF_OTHERS or "=" in program or program.isupper(), words


def _check_atelier(arguments: list[str], named: bool) -> None:
    from flows.cli import app

    command: click.Command = typer.main.get_command(app)
    name = "atelier"
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        name, arguments = arguments[0], arguments[1:]
        assert name in command.commands, f"atelier has no command {name!r}"
        command = command.commands[name]
    if "…" not in arguments:
        with command.make_context(name, list(arguments), resilient_parsing=named):
            pass


def _check_dvc(arguments: list[str], named: bool) -> None:
    from dvc.cli import DvcParserError
    from dvc.cli.parser import get_main_parser

    try:
        get_main_parser().parse_args([word for word in arguments if word != "…"])
    except DvcParserError:
        if not named:
            raise
        with pytest.raises(SystemExit, match="0"):  # the command exists
            get_main_parser().parse_args([*itertools.takewhile(lambda word: word.isalpha(), arguments), "--help"])
