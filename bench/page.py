"""The page of a thousand artworks, and the explorer's speed in a browser beside torch's: `python bench/page.py`.

Takes about two minutes and needs Chromium. Both render pictures one at a time: torch in float32 on one thread, the
browser in WebAssembly, in turns.
"""

import os
import tempfile
import time
from pathlib import Path

import torch

from atelier.export.onnx_file import convert
from atelier.networks import load_generator
from atelier.networks.latent_field import draw_inputs
from atelier.page.explorer import explorer_html
from atelier.page.index import write_page
from tests.browser import opened, ready
from tests.run_outputs import make_outputs

ARTWORKS, PICTURES, ROUNDS = 1000, 100, 3
MODEL = Path(__file__).parents[1] / "models/seascapes-64-8e2929f5f0563c42/generator.safetensors"
RENDER = """async (count) => {
  const began = performance.now();
  const picture = document.getElementById("picture");
  for (let i = 0; i < count; i++) {
    const shown = new Promise((resolve) => new MutationObserver((_, observer) => {
      observer.disconnect();
      resolve();
    }).observe(picture, { attributes: true, attributeFilter: ["aria-label"] }));
    document.getElementById("next").click();
    await shown;
  }
  return (performance.now() - began) / 1000;
}"""


def main() -> None:
    """Print the seconds and bytes of the page, and both rates of pictures with their ratio."""
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        make_outputs(artworks=ARTWORKS)
        began_s = time.monotonic()
        write_page(Path("data/page"), times=False)
        print(f"page      {ARTWORKS:,} artworks in {time.monotonic() - began_s:.1f} s")
        with opened(Path("data/page/index.html")) as page:
            sources = page.eval_on_selector_all(
                "img", "all => all.filter(image => image.complete && image.naturalWidth).map(image => image.src)"
            )
            paths = [Path(source.removeprefix("file://")) for source in sources]
        size = sum(path.stat().st_size for path in paths) + Path("data/page/index.html").stat().st_size
        print(f"page      first view: {len(paths)} pictures, {size / 1e6:.2f} MB with the page")
        explorer()


def explorer() -> None:
    """Measure pictures per second of the default's size."""
    torch.set_num_threads(1)
    generator, _ = load_generator(MODEL)
    html = Path("explore.html")
    html.write_bytes(explorer_html(MODEL, convert(MODEL, field=True)))
    best = {"torch": float("inf"), "browser": float("inf")}
    with opened(html) as page:
        ready(page)
        for _ in range(ROUNDS):
            began_s = time.monotonic()
            with torch.inference_mode():
                for index in range(PICTURES):
                    generator(draw_inputs(generator, 1, index))
            best["torch"] = min(best["torch"], time.monotonic() - began_s)
            best["browser"] = min(best["browser"], page.evaluate(RENDER, PICTURES))
    for name, seconds in best.items():
        rate = PICTURES / seconds
        print(f"explorer  {name:8} {rate:6.0f} pictures/s, {best['browser'] / seconds:.2g} times the browser's rate")
    print(f"explorer  the file has {html.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
