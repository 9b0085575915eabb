"""How large a print is on paper, and what to do where it has too few pixels for that."""

from math import ceil

from atelier.settings.messages import counted
from atelier.settings.schema import Print, Upscale

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
