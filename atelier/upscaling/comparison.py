"""What learning adds, for the eye: details of paintings that the training never saw, enlarged in three ways."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from atelier.pictures.panels import Panel, write_panels
from atelier.upscaling.enlarge import enlarge
from atelier.upscaling.evaluate import Pixels, psnr_y, shrunk, trimmed
from atelier.upscaling.lanczos import enlarge_lanczos
from atelier.upscaling.network import SRVGGNetCompact

SHOWN = 5  # paintings, the largest
DETAIL_PX, PANEL_PX = 144, 288  # a square of the enlarged picture, and how large it is shown
COLUMNS = 4


def write_comparison(path: Path, network: SRVGGNetCompact, pictures: Sequence[Pixels], scale: int) -> None:
    """A PNG: of each painting (H, W, 3) the square with most detail, enlarged by `scale`, and as it was painted."""
    chosen = sorted(pictures, key=lambda picture: -min(picture.shape[:2]))[:SHOWN]
    heading = f"Paintings the upscaler never saw, made {scale} times smaller and enlarged {scale} times again"
    rows = [_row(network, picture, scale) for picture in chosen]
    write_panels(path, heading, [panel for row in rows for panel in row], COLUMNS)


def _row(network: SRVGGNetCompact, picture: Pixels, scale: int) -> list[Panel]:
    large = trimmed(picture, scale)
    small = shrunk(large, scale)
    lanczos, ours = enlarge_lanczos(small, scale), enlarge(network, small, scale)
    part = _richest(small, max(DETAIL_PX // scale, 1), scale)
    before, now = psnr_y(lanczos, large, scale), psnr_y(ours, large, scale)
    return [
        Panel("nearest neighbours", ("what there is to start from",), _shown(_nearest(small, scale)[part])),
        Panel("Lanczos", (f"{before:.2f} dB",), _shown(lanczos[part])),
        Panel("ours", (f"{now:.2f} dB, {now - before:+.2f} over Lanczos",), _shown(ours[part])),
        Panel("the painting", ("what should come out",), _shown(large[part])),
    ]


def _richest(small: Pixels, side: int, scale: int) -> tuple[slice, slice]:
    """Where, in the enlarged picture, the square of `side` small pixels lies in which neighbours differ most."""
    luma = small.astype(np.int64).sum(2)
    change = np.zeros_like(luma)
    change[:-1] += np.abs(np.diff(luma, axis=0))
    change[:, :-1] += np.abs(np.diff(luma, axis=1))
    height, width = (min(side, extent) for extent in luma.shape)
    sums = np.pad(change.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    squares = (
        sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    )
    top, left = (int(place) for place in np.unravel_index(squares.argmax(), squares.shape))
    return slice(top * scale, (top + height) * scale), slice(left * scale, (left + width) * scale)


def _nearest(small: Pixels, scale: int) -> Pixels:
    return small.repeat(scale, 0).repeat(scale, 1)


def _shown(detail: Pixels) -> Pixels:
    """The detail in the middle of a white square, as many whole times larger as fits."""
    detail = _nearest(detail, max(PANEL_PX // max(detail.shape[:2]), 1))[:PANEL_PX, :PANEL_PX]
    framed = Image.new("RGB", (PANEL_PX, PANEL_PX), (255, 255, 255))
    framed.paste(
        Image.fromarray(detail), ((PANEL_PX - detail.shape[1]) // 2, (PANEL_PX - detail.shape[0]) // 2)
    )
    return np.array(framed)
