"""Vessels set on the water: where a cut-out stands in a picture, and how the waves mirror it. Draws no vessel."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from atelier.gallery.noise import Field
from atelier.gallery.scene import Scene, Vessel
from atelier.gallery.vessels import DRAUGHT, HEADROOM, draw_vessel


@dataclass(frozen=True, slots=True)
class Afloat:
    """A cut-out and its place in the picture, in pixels."""

    cutout: Image.Image
    left: int
    waterline: int
    tall: int


def launch(scene: Scene, vessel: Vessel, size: tuple[int, int]) -> Afloat:
    """The vessel, drawn for a picture of `size`."""
    width, height = size
    tall = max(6, round(vessel.height * height))
    cutout = draw_vessel(vessel, scene.mood, tall, light_from=1 if scene.light_x > vessel.x else -1)
    left = round(width / 2 + vessel.x * height - cutout.width / 2)
    return Afloat(cutout, left, round(vessel.waterline * height), tall)


def place(picture: Image.Image, detail: Image.Image, ship: Afloat, swell: float, texture: Field) -> None:
    """The vessel onto `picture`, its keel under the waves; `detail` remembers where it is."""
    columns = np.arange(ship.cutout.width)
    wave = texture[91, (columns * 150 // ship.tall) % len(texture)] * (0.004 + 0.018 * swell) * ship.tall
    surface = (HEADROOM + 0.25 * DRAUGHT) * ship.tall + wave
    dry = np.clip(surface[None, :] - np.arange(ship.cutout.height)[:, None], 0, 1)
    alpha = Image.fromarray((np.asarray(ship.cutout.getchannel("A")) * dry).astype(np.uint8))
    corner = (ship.left, ship.waterline - round(HEADROOM * ship.tall))
    picture.paste(ship.cutout, corner, alpha)
    detail.paste(255, corner, alpha)


def reflect(picture: Image.Image, ship: Afloat, swell: float, texture: Field) -> None:
    """The vessel upside down, shortened, darkened, and torn by the waves."""
    wide, depth = ship.cutout.width, max(2, round(ship.tall * 0.7))
    box = (
        max(0, ship.left),
        ship.waterline,
        min(picture.width, ship.left + wide),
        min(picture.height, ship.waterline + depth),
    )
    if box[0] >= box[2] or box[1] >= box[3]:
        return
    above = ship.cutout.crop((0, 0, wide, round(HEADROOM * ship.tall)))
    mirrored = above.transpose(Image.Transpose.FLIP_TOP_BOTTOM).resize(
        (wide, depth), Image.Resampling.BILINEAR
    )
    rows = np.arange(box[3] - box[1])
    sway = texture[(rows * 190 // depth) % len(texture), 17] * (0.2 + 0.8 * rows / depth)
    shift = np.round(sway * (0.02 + 0.03 * swell) * ship.tall).astype(np.int32)
    columns = np.arange(box[0] - ship.left, box[2] - ship.left)[None, :] + shift[:, None]
    image = np.asarray(mirrored, np.float32)[rows[:, None], columns % wide] / np.float32(255)
    fade = ((0.75 - 0.35 * swell) * (1 - rows / depth) ** 0.8).astype(np.float32)
    under = np.asarray(picture.crop(box), np.float32) / np.float32(255)
    share = image[..., 3] * fade[:, None]
    mixed = under + (np.float32(0.7) * image[..., :3] - under) * share[..., None]
    picture.paste(Image.fromarray((np.clip(mixed, 0, 1) * 255).astype(np.uint8)), box[:2])
