"""Stage page: what the run made, as one page, and the model's explorer, in data/page."""

import json
from typing import Any

from atelier.export.onnx_file import convert
from atelier.files import digest, replacing_directory, write_bytes
from atelier.page.explorer import write_explorer
from atelier.page.index import STAGES, write_page
from atelier.paths import ARTWORKS, EXECUTED, GENERATOR, PAGE, PAGE_TIMES
from tasks.stage import Stage, main
from tasks.states import key_of

NETWORK_CODE = ("atelier/networks", "atelier/export", "atelier/canvas")  # decides how the network is converted


def run(stage: Stage) -> str:
    """Write index.html and explore.html. The converted network is kept for the same model: that takes seconds."""
    began = float(_record("page").get("ended", 0))  # of the previous run, in seconds since 1970
    code = {path: sha256 for path, sha256 in stage.code.items() if path.startswith(NETWORK_CODE)}
    kept = stage.state / f"{key_of({**code, 'generator': digest(GENERATOR)})}.onnx"
    count = len([*ARTWORKS.iterdir()])
    with stage.progress(count + 1, "pictures") as progress:
        if not kept.is_file():
            for other in stage.state.glob("*.onnx"):
                other.unlink()
            write_bytes(kept, convert(GENERATOR, field=True))
        with replacing_directory(PAGE) as folder:
            write_explorer(GENERATOR, folder / "explore.html", kept.read_bytes())
            progress.advance()
            summary = write_page(folder, progress.advance)
    stage.after_success.append(lambda: write_times(began))
    return summary


def write_times(previous: float) -> None:
    """Write how long each stage took, and which did not run since `previous`, where the page finds it.

    The file is no output of the stage, because times differ from run to run.
    """
    rows = []
    for name in STAGES:
        record = _record(name)
        cached = name != "page" and record.get("ended", 0) <= previous
        rows.append({"name": name, "seconds": record.get("seconds"), "cached": cached})
    write_bytes(PAGE_TIMES, f"window.atelierRun = {json.dumps(rows)};\n".encode())


def _record(name: str) -> dict[str, Any]:
    path = EXECUTED / f"{name}.json"
    return dict(json.loads(path.read_text())) if path.is_file() else {}


if __name__ == "__main__":
    main("page", run)
