"""Artworks become prints: one press for the stage that makes them and for whoever makes one again.

A press is opened from a network's file, and from what is wanted (`new_press`) or what a print tells of itself
(`same_press`): a stranger's claim, so its numbers are bounded here, and the file is held against its digest before it
is opened. Knows neither which artworks there are nor how a print is written.

How large a print is on paper, and what to do where it has too few pixels for that.
"""

from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Literal

import numpy as np
import PIL
import torch

from atelier.device import machine_memory, versions
from atelier.errors import AtelierError
from atelier.files import digest
from atelier.pictures import Pixels, Samples
from atelier.progress import ProgressCallback, ignore_progress
from atelier.provenance.facts import Scalar, SoftwareFacts, UpscaleFacts
from atelier.settings.messages import counted
from atelier.settings.schema import Print, Upscale
from atelier.upscaling import enlarge as lanczos
from atelier.upscaling import external
from atelier.upscaling.enlarge import blank, enlarge_into, lanczos_into, passes
from atelier.upscaling.external import External, external_into, open_external
from atelier.upscaling.network import SRVGGNetCompact, load_upscaler

Method = Literal["learned", "external", "lanczos"]

Upscaler = SRVGGNetCompact | External | None  # None: Lanczos


@dataclass(frozen=True)
class Press:
    """An upscaler, opened, and what a print of it says of itself, less what depends on the picture."""

    facts: UpscaleFacts
    upscaler: Upscaler

    def print(
        self, picture: Pixels, seamless: bool = False, done: ProgressCallback = ignore_progress
    ) -> tuple[Samples, UpscaleFacts]:
        """The print (H, W, 3) of a picture, 8 or 16 bits a colour, and what it says of itself.

        A seamless picture is enlarged as the endless plane that it stands for, so that its print is seamless too.
        Raises AtelierError where it does not fit into memory, or the network fails.
        """
        context_px = _context_px(self.upscaler) if seamless else 0
        pad = ((context_px, context_px), (context_px, context_px), (0, 0))
        around: Pixels = np.pad(picture, pad, mode="wrap") if seamless else picture
        scale, settings = self.facts.scale, dict(self.facts.settings)
        bits = 16 if settings.get("bits") == 16 else 8
        _refuse_what_does_not_fit(around, scale, bits)
        share = picture.size / around.size
        result = blank(around.shape[0] * scale, around.shape[1] * scale, bits)

        def told(pixels: float) -> None:
            done(pixels * share)

        match self.upscaler:
            case None:
                lanczos_into(result, around)
                told(result.shape[0] * result.shape[1])
            case External():
                asked_px = settings.get("tile_px")
                tile_px = asked_px if isinstance(asked_px, int) else None
                settings["tile_px"] = external_into(result, self.upscaler, around, tile_px, told)
            case network:
                enlarge_into(result, network, around, done=told)
        if seamless:
            result = _within(result, context_px * scale)
            settings["seamless"] = True
        return result, self.facts.model_copy(update={"settings": settings})


def new_press(
    method: Method,
    scale: int,
    bits: int = 8,
    network: Path | None = None,
    sha256: str | None = None,
    device: torch.device | str = "cpu",
) -> Press:
    """A press for prints that are yet to be made; `sha256` is the one that an external network's file must have.

    Raises AtelierError where the network is absent, damaged or another, or no number of its passes gives the scale.
    """
    upscaler = _opened(method, network, sha256, torch.device(device))
    settings: dict[str, Scalar | list[Scalar]] = {"bits": bits}
    match upscaler:
        case None:
            settings |= {"pillow": PIL.__version__}
        case External():
            settings |= {"architecture": upscaler.architecture, "scale": upscaler.scale}
        case shape:
            settings |= {"scale": shape.scale, "features": shape.features, "blocks": shape.blocks}
    if upscaler:
        settings["passes"] = passes(upscaler.scale, scale)
    facts = UpscaleFacts(
        method=method,
        scale=scale,
        upscaler_sha256=digest(network) if upscaler and network else None,
        upscaler_md5=digest(network, "md5") if upscaler and network else None,
        settings=settings,
        software=SoftwareFacts(**versions()),
    )
    return Press(facts, upscaler)


def same_press(facts: UpscaleFacts, network: Path | None, device: torch.device | str = "cpu") -> Press:
    """The press that made a print which says `facts` of itself; `network` is the file of that upscaler.

    Raises AtelierError where the facts ask for what no press does, or the file is not the one that they name.
    """
    method = facts.method
    if method not in ("learned", "external", "lanczos") or (method == "lanczos") != (
        facts.upscaler_sha256 is None
    ):
        raise AtelierError(
            f"the print says that it was enlarged by {method!r}, which this version does not know"
        )
    tile_px = facts.settings.get("tile_px")
    if tile_px is not None and (type(tile_px) is not int or tile_px not in external.TILES_PX):
        raise AtelierError(f"the print names tiles of {tile_px} px: no press makes such tiles")
    if facts.settings.get("bits", 8) not in (8, 16):
        raise AtelierError(f"the print names {facts.settings['bits']} bits a colour; it may have 8 or 16")
    if method != "lanczos" and network is None:
        raise AtelierError(
            f"the print was made with the network {facts.upscaler_sha256}, which is not at hand"
        )
    if method == "learned" and network is not None and digest(network) != facts.upscaler_sha256:
        raise AtelierError(f"{network} is not the upscaler {facts.upscaler_sha256} that the print names")
    return Press(facts, _opened(method, network, facts.upscaler_sha256, torch.device(device)))


def print_again(
    facts: UpscaleFacts, network: Path | None, picture: Pixels, device: torch.device | str = "cpu"
) -> Samples:
    """The print which says `facts` of itself, from the picture that it enlarges and the upscaler's file."""
    return same_press(facts, network, device).print(picture, facts.settings.get("seamless") is True)[0]


def _opened(method: str, network: Path | None, sha256: str | None, device: torch.device) -> Upscaler:
    if method == "lanczos":
        return None
    if network is None:
        raise ValueError(f"{method} needs a network's file")
    if method == "learned":
        return load_upscaler(network, device)[0]
    return open_external(network, sha256 or "", device)


def _context_px(upscaler: Upscaler) -> int:
    """How far, in the picture's own pixels, all passes together look beyond a place."""
    match upscaler:
        case None:
            return lanczos.CONTEXT_PX
        case External():
            return external.CONTEXT_PX
        case network:
            return 2 * network.reach_px  # reach + reach / 2 + reach / 4 + …


def _refuse_what_does_not_fit(picture: Pixels, scale: int, bits: int) -> None:
    """Asked before anything is allocated: memory that is promised and not there ends the process without a word."""
    height, width, channels = picture.shape
    needed = height * width * channels * scale**2 * bits // 8
    there = machine_memory()
    if needed > there:
        raise AtelierError(
            f"a print of {width * scale:,} × {height * scale:,} px needs {needed / 2**30:,.1f} GiB; this machine has "
            f"{there / 2**30:,.1f}: make upscale.scale smaller"
        )


def _within(result: Samples, edge_px: int) -> Samples:
    """A copy without so many pixels at each edge; the rest of the memory is free again."""
    inner: Samples = result[edge_px:-edge_px, edge_px:-edge_px].copy()
    return inner


MM_PER_INCH = 25.4

SCALES = (2, 4, 8)


def dpi_of(width_px: int, paper: Print) -> float:
    """The pixels an inch that a print of this width has: as wide as asked, else as dense as asked."""
    return width_px / paper.width_mm * MM_PER_INCH if paper.width_mm else paper.dpi


def too_coarse(width_px: int, height_px: int, count: int, params: Upscale) -> str | None:
    """A sentence where prints of this size carry fewer pixels an inch than asked: how many, and what would suffice."""
    has = dpi_of(width_px, params.print)
    missing = params.print.dpi / has
    if missing <= 1:
        return None
    height_mm = height_px / has * MM_PER_INCH
    return (
        f"{counted(count, 'print')} of {width_px:,} × {height_px:,} px on "
        f"{params.print.width_mm:,.10g} × {height_mm:,.0f} mm: "
        f"{has:,.3g} pixels an inch, and upscale.print.dpi asks for {params.print.dpi:,.10g}. "
        + _cure(params.scale, missing)
    )


def _cure(scale: int, missing: float) -> str:
    """The smallest scale that suffices, or how much wider a canvas must be at this scale and at the largest."""
    enough = [larger for larger in SCALES if larger >= scale * missing]
    wider = f"a canvas {ceil(missing)} times as wide (generate.canvas)"
    if enough:
        return f"upscale.scale {enough[0]} would suffice, or {wider}"
    if scale == SCALES[-1]:
        return f"{wider.capitalize()} would suffice"
    at_most = ceil(missing * scale / SCALES[-1])
    return (
        f"{wider.capitalize()} would suffice, or one {at_most} times as wide with upscale.scale {SCALES[-1]}"
    )
