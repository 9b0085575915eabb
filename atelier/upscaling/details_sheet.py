"""A sheet of details of held-out paintings, enlarged by nearest neighbours, by Lanczos and by the upscaler.

It is a module of its own so that a change of the sheet does not retrain the upscaler.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from atelier.pictures import Pixels
from atelier.pictures.sheets import Panel, write_panels
from atelier.upscaling.network import SRVGGNetCompact, enlarge, enlarge_lanczos
from atelier.upscaling.train import crop_to_multiple, psnr_y, shrink_bicubic

SHEET_PAINTINGS = 5  # the largest ones
DETAIL_PX, PANEL_PX = 144, 288  # side of the square cut from the enlarged picture, and of its panel
COLUMNS = 4


def write_details(path: Path, network: SRVGGNetCompact, pictures: Sequence[Pixels], scale: int) -> None:
    """Write a PNG with the most detailed square of each painting (H, W, 3), shrunk and enlarged in three ways."""
    chosen = sorted(pictures, key=lambda picture: -min(picture.shape[:2]))[:SHEET_PAINTINGS]
    heading = f"Paintings the upscaler never saw, made {scale} times smaller and enlarged {scale} times again"
    rows = [_panels(network, picture, scale) for picture in chosen]
    write_panels(path, heading, [panel for row in rows for panel in row], COLUMNS)


def _panels(network: SRVGGNetCompact, picture: Pixels, scale: int) -> list[Panel]:
    large = crop_to_multiple(picture, scale)
    small = shrink_bicubic(large, scale)
    lanczos, ours = enlarge_lanczos(small, scale), enlarge(network, small, scale)
    part = _most_detailed(small, max(DETAIL_PX // scale, 1), scale)
    before, now = psnr_y(lanczos, large, scale), psnr_y(ours, large, scale)
    return [
        Panel("nearest neighbours", ("what there is to start from",), _framed(_nearest(small, scale)[part])),
        Panel("Lanczos", (f"{before:.2f} dB",), _framed(lanczos[part])),
        Panel("ours", (f"{now:.2f} dB, {now - before:+.2f} over Lanczos",), _framed(ours[part])),
        Panel("the painting", ("what should come out",), _framed(large[part])),
    ]


def _most_detailed(small: Pixels, side: int, scale: int) -> tuple[slice, slice]:
    """Place in the enlarged picture of the square of `side` small pixels with the largest differences of neighbours."""
    luma = small.astype(np.int64).sum(2)
    change = np.zeros_like(luma)
    change[:-1] += np.abs(np.diff(luma, axis=0))
    change[:, :-1] += np.abs(np.diff(luma, axis=1))
    height, width = (min(side, extent) for extent in luma.shape)
    sums = np.pad(change.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    squares = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = (int(place) for place in np.unravel_index(squares.argmax(), squares.shape))
    return slice(top * scale, (top + height) * scale), slice(left * scale, (left + width) * scale)


def _nearest(small: Pixels, scale: int) -> Pixels:
    return small.repeat(scale, 0).repeat(scale, 1)


def _framed(detail: Pixels) -> Pixels:
    """The detail, enlarged by the largest whole factor that fits, in the middle of a white square."""
    detail = _nearest(detail, max(PANEL_PX // max(detail.shape[:2]), 1))[:PANEL_PX, :PANEL_PX]
    framed = Image.new("RGB", (PANEL_PX, PANEL_PX), (255, 255, 255))
    framed.paste(Image.fromarray(detail), ((PANEL_PX - detail.shape[1]) // 2, (PANEL_PX - detail.shape[0]) // 2))
    return np.array(framed)
