"""One sheet of an exploration: every trial's pictures, settings and scores, the best first; and the same as a table."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from atelier.files import replacing
from atelier.pictures.vips import srgb
from atelier.settings.edit import format_value
from flows.trials.record import Explored, Trial, shown_scores

TILE_PX, MARGIN_PX, LINE_PX = 384, 16, 20
WORDS_PX, TITLE_PX = 15, 22
SHOWN_DIGITS = 3  # of a score, to look at; the table has what metrics.json has
PAPER, INK, FAINT, BEST, STOPPED = "#ffffff", "#1a1a1a", "#767676", "#1b7f3b", "#b4551d"


def draw(explored: Explored) -> list[Trial]:
    """Write sheet.png and table.csv anew from the trials that ended; these, the best first."""
    trials = explored.trials()
    explored.write_table(_table(explored, trials))
    if trials:
        with replacing(explored.sheet) as temporary:
            _sheet(explored, trials).save(temporary, format="PNG", compress_level=6, icc_profile=srgb())
    return trials


def rows(explored: Explored, trials: Sequence[Trial]) -> list[dict[str, str]]:
    """For Prefect's page and the terminal: one a trial, with the scores that the sheet shows."""
    scores = shown_scores(trials, explored.by)
    return [
        {
            "experiment": explored.experiment(trial.number),
            "state": trial.ending,
            **{key: format_value(trial.changes[key]) for key in explored.keys},
            **{name: _score(trial, name, SHOWN_DIGITS) for name in scores},
        }
        for trial in trials
    ]


def _table(explored: Explored, trials: Sequence[Trial]) -> str:
    """Every score of every trial, as metrics.json has it."""
    scores = list(dict.fromkeys(name for trial in trials for name in trial.scores))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["experiment", "state", *explored.keys, *scores, "said"])
    for trial in trials:
        changes = [format_value(trial.changes[key]) for key in explored.keys]
        values = [_score(trial, name) for name in scores]
        writer.writerow([explored.experiment(trial.number), trial.ending, *changes, *values, trial.said])
    return text.getvalue()


def _sheet(explored: Explored, trials: Sequence[Trial]) -> Image.Image:
    columns = math.ceil(math.sqrt(1.3 * len(trials)))  # wider than high, as screens are
    scores = shown_scores(trials, explored.by)
    lines = max(len(list(_lines(explored, trial, scores))) for trial in trials)
    height = TILE_PX + MARGIN_PX // 2 + lines * LINE_PX
    rows_ = math.ceil(len(trials) / columns)
    top = 2 * MARGIN_PX + TITLE_PX + LINE_PX
    size = (
        MARGIN_PX + columns * (TILE_PX + MARGIN_PX),
        top + rows_ * (height + 2 * MARGIN_PX),
    )
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN_PX, MARGIN_PX), explored.name, INK, ImageFont.load_default(TITLE_PX))
    font = ImageFont.load_default(WORDS_PX)
    counts = [sum(trial.ending == ending for trial in trials) for ending in ("completed", "pruned", "failed")]
    words = ", ".join(
        f"{count} {ending}"
        for count, ending in zip(counts, ("completed", "pruned", "failed"), strict=True)
        if count
    )
    pen.text((MARGIN_PX, MARGIN_PX + TITLE_PX + 6), f"{words}; the best {explored.by} first", FAINT, font)
    for place, trial in enumerate(trials):
        left = MARGIN_PX + place % columns * (TILE_PX + MARGIN_PX)
        upper = top + place // columns * (height + 2 * MARGIN_PX)
        sheet.paste(_tile(explored.picture(trial.number)), (left, upper))
        if trial.ending != "completed":
            pen.rectangle((left, upper, left + TILE_PX - 1, upper + LINE_PX + 8), STOPPED)
            pen.text((left + 8, upper + 5), trial.ending, PAPER, font)
        for line, (text, colour) in enumerate(_lines(explored, trial, scores)):
            below = upper + TILE_PX + MARGIN_PX // 2 + line * LINE_PX
            first = place == 0 and line == 0 and trial.ending == "completed"
            pen.text((left, below), _fitted(text, font), BEST if first else colour, font)
    return sheet


def _lines(explored: Explored, trial: Trial, scores: Sequence[str]) -> Iterator[tuple[str, str]]:
    yield explored.experiment(trial.number), INK
    for key in explored.keys:
        yield f"{key}: {format_value(trial.changes[key])}", INK
    known = [f"{name} {_score(trial, name, SHOWN_DIGITS)}" for name in scores if name in trial.scores]
    for start in range(0, len(known), 2):
        yield "   ".join(known[start : start + 2]), FAINT
    if trial.said:
        yield trial.said.splitlines()[0], STOPPED


def _tile(path: Path) -> Image.Image:
    """The picture as large as fits, in a square of faint grey; that alone where there is none."""
    tile = Image.new("RGB", (TILE_PX, TILE_PX), "#efefef")
    try:
        with Image.open(path) as picture:
            image = picture.convert("RGB")
    except OSError:  # none was made, or it is torn
        return tile
    scale = TILE_PX / max(image.size)
    side = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image = image.resize(side, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST)
    tile.paste(image, ((TILE_PX - side[0]) // 2, (TILE_PX - side[1]) // 2))
    return tile


def _fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """As much of it as a tile is wide."""
    if font.getlength(text) <= TILE_PX:
        return text
    while text and font.getlength(f"{text}...") > TILE_PX:
        text = text[:-1]
    return f"{text}..."


def _score(trial: Trial, name: str, digits: int = 6) -> str:
    return f"{trial.scores[name]:.{digits}g}" if name in trial.scores else ""
