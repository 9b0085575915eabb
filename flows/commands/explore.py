"""`atelier explore …`: the trial and error of an artist, as typed by a person."""

import sys
from typing import Annotated, Any

import typer

from atelier.errors import AtelierError


class _WithSettings(typer.core.TyperGroup):
    """`explore --grid train.lr=1e-4,2e-4` is `explore try --grid …`: what is no command is settings."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "--help"):
            args = ["try", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_WithSettings,
    help="Try settings, each as an experiment of DVC's, and see all on one sheet: "
    "`atelier explore --grid train.lr=1e-4,2e-4 augment.crop=center,random --minutes 5`.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("try")
def try_(
    settings: Annotated[
        list[str], typer.Argument(help="train.lr=1e-4,2e-4; for --search also train.lr=log:1e-5,1e-3")
    ],
    grid: Annotated[bool, typer.Option("--grid", help="try every combination")] = False,
    search: Annotated[bool, typer.Option("--search", help="let Optuna choose")] = False,
    trials: Annotated[int | None, typer.Option(min=1, help="how many, for --search; else 20")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="train.minutes of each trial, its training's end")
    ] = None,
    by: Annotated[
        str, typer.Option(help="the number of metrics.json that decides, for example coverage")
    ] = "kid_coarse",
    seed: Annotated[int, typer.Option(help="of what Optuna draws")] = 0,
    name: Annotated[str | None, typer.Option(help="what to call it; else after its keys")] = None,
) -> None:
    """Try settings: `--grid` all combinations, `--search` those that Optuna chooses. The word `try` may be left out."""
    from flows import explore
    from flows.trials import search_space
    from flows.trials.record import Wish

    if grid == search:
        raise AtelierError("say --grid, to try every combination, or --search, to let Optuna choose")
    if grid and trials is not None:
        raise AtelierError("a grid has as many trials as it has combinations: --trials is for --search")
    wanted = tuple(search_space.read_axes(settings, ranges=search))
    if minutes is not None and "train.minutes" in [axis.key for axis in wanted]:
        raise AtelierError("train.minutes is among what is tried: leave out --minutes")
    fixed = {} if minutes is None else {"train.minutes": minutes}
    wish = Wish("grid" if grid else "search", wanted, fixed, trials or 20, seed, by, name)
    sys.exit(explore.main(wish))


@app.command()
def apply(
    name: Annotated[str, typer.Argument(help="an experiment of the sheet, or an exploration: its best")],
    trial: Annotated[
        int | None, typer.Option(min=1, help="of the exploration NAME, instead of its best")
    ] = None,
) -> None:
    """Adopt an experiment: params.yaml, dvc.lock and data/ become its own, and the prints are made."""
    from flows import explore

    sys.exit(explore.apply(name, trial))


@app.command()
def show(name: Annotated[str, typer.Argument(help="an exploration")]) -> None:
    """Draw an exploration's sheet and table anew."""
    from flows import explore

    sys.exit(explore.show(name))
