"""Show the progress of a stage: a bar on a terminal, lines in a log, and a small file that the flows read."""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bars

FILE_INTERVAL_S = 0.2  # between two writes of the file
LINE_INTERVAL_S = 10.0  # between two lines in a log, besides the first and the last

# takes the units just finished, or the share finished so far; each function says which
ProgressCallback = Callable[[float], None]
CountCallback = Callable[[int, int], None]  # units finished so far, units expected


def ignore_progress(*_: object) -> None:
    """A progress callback that does nothing."""


class Progress:
    """Counts the finished units of one stage; use it as a context manager.

    `<stage>.json` in `directory` (None: no file) is replaced atomically as the work goes on. It has the keys stage,
    done, total, unit, rate, note, picture and scores; `rate` is units per second, without those of earlier runs.
    """

    def __init__(self, stage: str, total: float, unit: str, directory: Path | None = None, start: float = 0) -> None:
        self.stage, self.total, self.unit = stage, total, unit
        self._path = directory / f"{stage}.json" if directory else None
        self._start = self.done = start
        self._began_s = time.monotonic()
        self._last_file_s = self._last_line_s = float("-inf")
        self._note: object = ""
        self._picture = ""
        self._scores: list[Mapping[str, float]] = []
        self._console = Console(file=sys.stdout, soft_wrap=True, highlight=False)
        self._bars: Bars | None = None

    def __enter__(self) -> Self:
        if self._path:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"))
            self._bars = Bars(*columns, console=self._console)
            self._bars.start()
            self._task = self._bars.add_task(self.stage, total=self.total, completed=int(self.done), text="")
        return self

    def __exit__(self, *_: object) -> None:
        self._show(last=True)
        if self._bars:
            self._bars.stop()

    @property
    def rate(self) -> float:
        """Units per second since this process began to count; 0 before the first."""
        return (self.done - self._start) / max(time.monotonic() - self._began_s, 1e-9)

    def count_resumed(self, units: float, note: object = "") -> None:
        """Count `units` that an earlier run finished; they do not enter the rate."""
        self._start += units
        self._began_s = time.monotonic()
        self.update(self.done + units, note)

    def advance(self, units: float = 1, note: object = "") -> None:
        """Count `units` more; `note`, printed beside the bar, is a text or an object whose `str` gives one."""
        self.update(self.done + units, note)

    def update(self, done: float, note: object = "") -> None:
        """Set the count to `done`. Cheap enough to be called for each unit."""
        self.done = done
        self._note = note or self._note
        self._show()

    def show_picture(self, picture: Path, scores: Sequence[Mapping[str, float]] = ()) -> None:
        """Put the path of a preview picture, and the scores measured so far, into the file."""
        self._picture, self._scores = picture.as_posix(), list(scores)
        self._write_file()

    def print_line(self, text: str) -> None:
        """Print a line, above the bar where there is one."""
        (self._bars.console if self._bars else self._console).print(text, markup=False)

    def _show(self, last: bool = False) -> None:
        now_s = time.monotonic()
        if last or now_s - self._last_file_s >= FILE_INTERVAL_S:
            self._last_file_s = now_s
            self._write_file()
        if self._bars:
            self._bars.update(self._task, completed=self.done, text=self._text(last))
        elif last or now_s - self._last_line_s >= LINE_INTERVAL_S:
            self._last_line_s = now_s
            self.print_line(f"{self.stage}: {self._text(last)}")

    def _text(self, last: bool) -> str:
        text = f"{self.done:,.10g}/{self.total:,.10g} {self.unit}, {self.rate:,.3g} {self.unit}/s"
        if self.rate and not last:
            left_s = max(self.total - self.done, 0) / self.rate
            text += f", ETA {int(left_s // 60)}:{int(left_s % 60):02d}"
        return f"{text}, {note}" if (note := str(self._note)) else text

    def _write_file(self) -> None:
        if not self._path:
            return
        state = {
            "stage": self.stage, "done": self.done, "total": self.total,
            "unit": self.unit, "rate": round(self.rate, 4), "note": str(self._note), "picture": self._picture,
            "scores": self._scores,
        }  # fmt: skip
        # no fsync: a power cut may lose this file
        temporary = self._path.with_suffix(f".{os.getpid()}.tmp")
        with suppress(OSError):  # a full disk does not stop the work
            temporary.write_text(json.dumps(state))
            temporary.replace(self._path)
