"""What a picture says of itself, in a person's words. What it says is a stranger's claim, so its texts are cleaned.

Knows no file and no history.
"""

from atelier.canvas.recipe import Recipe, Variation
from atelier.pictures.untrusted import shown
from atelier.provenance.facts import Provenance, Settings, UpscaleFacts
from atelier.text import clean

NEUTRAL = {"layout": "random", "normalise": "overlap", "seamless": False}  # said only where it is otherwise


def picture(made: Provenance) -> str:
    """One line: what it is a picture of, and whether it is a print."""
    enlarged = f", as a print ×{made.print.upscale.scale}" if made.print else ""
    return f"{latent(made.latent)}{enlarged}"


def latent(recipe: Recipe) -> str:
    """Which latent, and what was done to it, in that order."""
    if recipe.walk:
        walk = recipe.walk
        stations = " → ".join(f"{station.seed}-{station.index}" for station in walk.stations)
        first = f"frame {walk.frame + 1:,} of {walk.frames:,} of a walk through {stations}"
        words = [first + (" and back" if walk.loop else "") + (", eased" if walk.easing == "smooth" else "")]
        words += ["its grain moving"] if walk.grain == "moving" else []
    else:
        words = [f"picture {recipe.index} of seed {recipe.seed}"]
    if recipe.canvas != (1, 1):
        words.append(f"on {recipe.canvas[0]} × {recipe.canvas[1]} cells")
    words += [f"{key} {value}" if key != "seamless" else key for key, value in _unusual(recipe)]
    if recipe.truncation != 1:
        words.append(f"truncation {recipe.truncation:g}")
    if recipe.grown_from:
        words += [
            *map(_near, recipe.grown_varied),
            f"grown from {recipe.grown_from[0]} × {recipe.grown_from[1]}",
        ]
    words += map(_near, recipe.variations)
    words += [f"moved {move.amount:+g} along direction {move.direction}" for move in recipe.moves]
    return ", ".join(words)


def _near(variation: Variation) -> str:
    return f"its neighbour {variation.number}, {variation.strength:g} quarter turns away"


def enlargement(upscale: UpscaleFacts) -> str:
    """How a print was made of a picture."""
    by = f", by the network of SHA-256 {upscale.upscaler_sha256[:12]}…" if upscale.upscaler_sha256 else ""
    return f"×{upscale.scale} {plain(upscale.method)}{by}; {settings(upscale.settings)}"


def settings(values: Settings) -> str:
    """`nz 100, ngf 64`, in alphabetical order."""
    return ", ".join(f"{plain(name)} {plain(value)}" for name, value in sorted(values.items()))


def plain(text: object) -> str:
    """A stranger's text on one line, with nothing in it that would move a terminal's cursor."""
    return shown(clean(str(text)))


def _unusual(recipe: Recipe) -> list[tuple[str, object]]:
    told = ((key, getattr(recipe, key)) for key in NEUTRAL)
    return [(key, value) for key, value in told if value != NEUTRAL[key]]
