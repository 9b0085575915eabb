"""Prints of artworks: a printer that enlarges pictures as params.yaml asks, or as an existing print was made.

The provenance of a print may come from anybody: its numbers are checked here, and the network's file by its digest
before it is opened. `print_dpi` and `resolution_warning` relate a print's pixels to its size on paper.
"""

from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Literal

import numpy as np
import PIL
import torch

from atelier.device import versions
from atelier.errors import AtelierError, counted
from atelier.files import digest
from atelier.pictures import Pixels, Samples
from atelier.pictures.tiff import MM_PER_INCH
from atelier.progress import ProgressCallback, ignore_progress
from atelier.provenance.facts import Scalar, SoftwareFacts, UpscaleFacts
from atelier.settings.schema import Print, Upscale
from atelier.upscaling.external import TILE_SIDES_PX, External, external_into, open_external
from atelier.upscaling.network import SRVGGNetCompact, allocate_print, enlarge_into, lanczos_into, load_upscaler, passes

LANCZOS_REACH_PX = 4  # Lanczos uses 3 px to each side
SCALES = (2, 4, 8)  # that upscale.scale allows

Method = Literal["learned", "external", "lanczos"]
Upscaler = SRVGGNetCompact | External | None  # None: Lanczos


@dataclass(frozen=True)
class Printer:
    """An opened upscaler, and the facts about its prints that do not depend on the picture."""

    facts: UpscaleFacts
    upscaler: Upscaler

    def print(
        self, picture: Pixels, seamless: bool = False, progress: ProgressCallback = ignore_progress
    ) -> tuple[Samples, UpscaleFacts]:
        """Enlarge a picture to a print (H, W, 3) of 8 or 16 bits a colour; return it with the facts about it.

        A seamless picture is continued periodically on each side before it is enlarged, so that its print is seamless
        too. Raises AtelierError if the print does not fit into memory, or the network fails.
        """
        context_px = (self.upscaler.context_px if self.upscaler else LANCZOS_REACH_PX) if seamless else 0
        pad = ((context_px, context_px), (context_px, context_px), (0, 0))
        padded: Pixels = np.pad(picture, pad, mode="wrap") if seamless else picture
        scale, settings = self.facts.scale, dict(self.facts.settings)
        bits = 16 if settings.get("bits") == 16 else 8
        share = picture.size / padded.size
        result = allocate_print(padded.shape[0] * scale, padded.shape[1] * scale, bits)

        def add(pixels: float) -> None:
            progress(pixels * share)

        match self.upscaler:
            case None:
                lanczos_into(result, padded)
                add(result.shape[0] * result.shape[1])
            case External():
                asked_px = settings.get("tile_px")
                tile_px = asked_px if isinstance(asked_px, int) else None
                settings["tile_px"] = external_into(result, self.upscaler, padded, tile_px, add)
            case network:
                enlarge_into(result, network, padded, progress=add)
        if seamless:
            edge_px = context_px * scale
            result = result[edge_px:-edge_px, edge_px:-edge_px].copy()  # frees the memory of the larger one
            settings["seamless"] = True
        return result, self.facts.model_copy(update={"settings": settings})


def new_printer(
    method: Method,
    scale: int,
    bits: int = 8,
    network: Path | None = None,
    sha256: str | None = None,
    device: torch.device | str = "cpu",
) -> Printer:
    """Open an upscaler for new prints; `sha256` is the digest that an external network's file must have.

    Raises AtelierError if the network is absent, damaged or has another digest, or no number of passes gives `scale`.
    """
    upscaler = _open_upscaler(method, network, sha256, torch.device(device))
    settings: dict[str, Scalar | list[Scalar]] = {"bits": bits}
    match upscaler:
        case None:
            settings |= {"pillow": PIL.__version__}
        case External():
            settings |= {"architecture": upscaler.architecture, "scale": upscaler.scale}
        case learned:
            settings |= {"scale": learned.scale, "features": learned.features, "blocks": learned.blocks}
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
    return Printer(facts, upscaler)


def print_again(
    facts: UpscaleFacts, network: Path | None, picture: Pixels, device: torch.device | str = "cpu"
) -> Samples:
    """Make an existing print again, from its `facts`, the picture that it enlarges and the upscaler's file.

    Raises AtelierError for impossible facts or another file.
    """
    method = facts.method
    if method not in ("learned", "external", "lanczos") or (method == "lanczos") != (facts.upscaler_sha256 is None):
        raise AtelierError(f"the print was enlarged by {method!r}, which this version does not support")
    tile_px = facts.settings.get("tile_px")
    if tile_px is not None and (type(tile_px) is not int or tile_px not in TILE_SIDES_PX):
        raise AtelierError(f"the print names tiles of {tile_px} px: no print is made of such tiles")
    if facts.settings.get("bits", 8) not in (8, 16):
        raise AtelierError(f"the print names {facts.settings['bits']} bits a colour; it may have 8 or 16")
    if method != "lanczos" and network is None:
        raise AtelierError(f"the print was made with the network {facts.upscaler_sha256}, which is missing")
    if method == "learned" and network is not None and digest(network) != facts.upscaler_sha256:
        raise AtelierError(f"{network} is not the upscaler {facts.upscaler_sha256} that the print names")
    printer = Printer(facts, _open_upscaler(method, network, facts.upscaler_sha256, torch.device(device)))
    return printer.print(picture, facts.settings.get("seamless") is True)[0]


def print_dpi(width_px: int, paper: Print) -> float:
    """The resolution of a print: from its width on paper if that is set, else the requested one."""
    return width_px / paper.width_mm * MM_PER_INCH if paper.width_mm else paper.dpi


def resolution_warning(width_px: int, height_px: int, count: int, params: Upscale) -> str | None:
    """A sentence if prints of this size have a lower resolution than requested, with what would suffice; else None."""
    dpi = print_dpi(width_px, params.print)
    missing = params.print.dpi / dpi
    if missing <= 1:
        return None
    height_mm = height_px / dpi * MM_PER_INCH
    return (
        f"{counted(count, 'print')} of {width_px:,} × {height_px:,} px on "
        f"{params.print.width_mm:,.10g} × {height_mm:,.0f} mm: "
        f"{dpi:,.3g} pixels an inch, and upscale.print.dpi asks for {params.print.dpi:,.10g}. "
        + _remedy(params.scale, missing)
    )


def _remedy(scale: int, missing: float) -> str:
    """Name the smallest scale that suffices, or how much wider the canvas must be, at this scale and at the largest."""
    enough = [larger for larger in SCALES if larger >= scale * missing]
    wider = f"a canvas {ceil(missing)} times as wide (generate.canvas)"
    if enough:
        return f"upscale.scale {enough[0]} would suffice, or {wider}"
    if scale == SCALES[-1]:
        return f"{wider.capitalize()} would suffice"
    at_most = ceil(missing * scale / SCALES[-1])
    return f"{wider.capitalize()} would suffice, or one {at_most} times as wide with upscale.scale {SCALES[-1]}"


def _open_upscaler(method: str, network: Path | None, sha256: str | None, device: torch.device) -> Upscaler:
    if method == "lanczos":
        return None
    if network is None:
        raise ValueError(f"{method} needs a network's file")
    if method == "learned":
        return load_upscaler(network, device)[0]
    return open_external(network, sha256 or "", device)
