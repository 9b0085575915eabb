"""Prints on paper: how dense they are, and what would suffice."""

import pytest

from atelier.settings.schema import Print, Upscale
from atelier.upscaling.prints import print_dpi, resolution_warning

WIDER = "times as wide (generate.canvas) would suffice"


def coarse(width_px: int, width_mm: float | None, dpi: float, scale: int, count: int = 1) -> str | None:
    params = Upscale.model_validate({"scale": scale, "print": {"width_mm": width_mm, "dpi": dpi}})
    return resolution_warning(width_px, width_px // 2, count, params)


def test_a_width_decides_the_density_and_without_one_the_density_the_width() -> None:
    assert print_dpi(1000, Print(width_mm=254.0, dpi=300)) == pytest.approx(100)
    assert print_dpi(1000, Print(dpi=300)) == 300


def test_a_print_of_sufficient_resolution_gives_no_warning() -> None:
    assert coarse(3000, 254.0, 300, 4) is None
    assert coarse(64, None, 300, 2) is None


@pytest.mark.parametrize(
    ("width_px", "scale", "cure"),
    [
        (2000, 2, "upscale.scale 4 would suffice, or a canvas 2 times as wide (generate.canvas)"),
        (500, 2, f"A canvas 6 {WIDER}, or one 2 times as wide with upscale.scale 8"),
        (500, 8, f"A canvas 6 {WIDER}"),
    ],
)
def test_a_print_of_low_resolution_names_what_would_suffice(width_px: int, scale: int, cure: str) -> None:
    sentence = coarse(width_px, 254.0, 300, scale, 2)
    has = width_px / 10
    assert sentence == (
        f"2 prints of {width_px:,} × {width_px // 2:,} px on 254 × 127 mm: {has:,.3g} pixels an inch, "
        f"and upscale.print.dpi asks for 300. {cure}"
    )
