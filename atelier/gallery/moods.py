"""The eight lights a marina is painted in: colours of sky, cloud, sea, land and sail. Draws nothing."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from atelier.gallery.noise import Field


@dataclass(frozen=True, slots=True)
class Mood:
    """One harmony. Colours are hex triplets; `sky` runs from the zenith to the horizon in equal steps."""

    name: str
    weight: float  # how often it is painted
    sky: tuple[str, ...]
    cloud_light: str
    cloud_shade: str
    cloud_cover: float  # 0: none, 1: overcast
    light: Literal["sun", "moon"]
    disk: str
    disk_share: float  # how clearly sun or moon stands out: 0 is hidden behind the clouds
    glow: str
    path: float  # how strongly the light glitters on the water
    light_height: tuple[float, float]  # of the disk over the horizon, in heights of the sky
    sea_far: str
    sea_near: str
    crest: str
    swell: float  # 0: a mirror, 1: a gale
    land_light: str
    land_shade: str
    sail_light: str
    sail_shade: str
    hull: str


MOODS = (
    Mood(
        name="dawn", weight=1.0,
        sky=("#8fa6c9", "#b9b6cf", "#e8c3bf", "#f8d9b4", "#fdebc8"),
        cloud_light="#fbd9c6", cloud_shade="#a99bb8", cloud_cover=0.45,
        light="sun", disk="#fffbe6", disk_share=1, glow="#ffe2a6", path=0.9, light_height=(0.10, 0.34),
        sea_far="#8d9dbb", sea_near="#3f5f80", crest="#f3cfc0", swell=0.35,
        land_light="#c9a0a0", land_shade="#5b5f80",
        sail_light="#d99a74", sail_shade="#86606a", hull="#2b2838",
    ),
    Mood(
        name="noon", weight=1.3,
        sky=("#3f7fc4", "#5f9ad3", "#8dbbe2", "#b9d7ea", "#dbe9ec"),
        cloud_light="#fffdf4", cloud_shade="#a9b9cc", cloud_cover=0.55,
        light="sun", disk="#fffef0", disk_share=0.85, glow="#fff6d8", path=0.45, light_height=(0.62, 0.80),
        sea_far="#3f86a8", sea_near="#12506f", crest="#cfeae6", swell=0.55,
        land_light="#d9cda6", land_shade="#5f7568",
        sail_light="#fffaea", sail_shade="#c9bda4", hull="#3a2419",
    ),
    Mood(
        name="gold", weight=1.3,
        sky=("#b58f5a", "#d3a65e", "#ecc069", "#f9d983", "#fff0b8"),
        cloud_light="#ffe7a6", cloud_shade="#a97d4c", cloud_cover=0.5,
        light="sun", disk="#fffdea", disk_share=0.95, glow="#fff2b0", path=0.9, light_height=(0.12, 0.42),
        sea_far="#8f8a62", sea_near="#2c4446", crest="#ffe4a0", swell=0.35,
        land_light="#d0984f", land_shade="#5f4630",
        sail_light="#c08a4c", sail_shade="#6b4528", hull="#24180f",
    ),
    Mood(
        name="sunset", weight=1.4,
        sky=("#3d3a6b", "#6f4a7c", "#b9566b", "#ee8350", "#fdc26a"),
        cloud_light="#ff9a62", cloud_shade="#553a63", cloud_cover=0.5,
        light="sun", disk="#fff3c4", disk_share=1, glow="#ffb254", path=0.9, light_height=(0.06, 0.26),
        sea_far="#8c4a5e", sea_near="#2a2347", crest="#ff9f6a", swell=0.4,
        land_light="#9c5250", land_shade="#2c2140",
        sail_light="#b9605c", sail_shade="#532b46", hull="#150f1e",
    ),
    Mood(
        name="dusk", weight=0.8,
        sky=("#1f3f63", "#35647f", "#6b97a0", "#b9c4a6", "#f2dca0"),
        cloud_light="#e8c9a0", cloud_shade="#3d5a70", cloud_cover=0.4,
        light="sun", disk="#ffe9b0", disk_share=1, glow="#ffd98a", path=0.9, light_height=(0.03, 0.14),
        sea_far="#54808a", sea_near="#12303f", crest="#c9d0b0", swell=0.3,
        land_light="#8a8a7a", land_shade="#182a3a",
        sail_light="#efe0b8", sail_shade="#7d8a84", hull="#0f1a22",
    ),
    Mood(
        name="moonlight", weight=1.3,
        sky=("#0c1b33", "#14304c", "#1f4a63", "#34687a", "#5a8a90"),
        cloud_light="#a9c6c0", cloud_shade="#16293f", cloud_cover=0.5,
        light="moon", disk="#fdfbe2", disk_share=1, glow="#b9d6c6", path=0.9, light_height=(0.40, 0.74),
        sea_far="#1f4a5c", sea_near="#071624", crest="#8fb5b0", swell=0.35,
        land_light="#3c6068", land_shade="#0a1826",
        sail_light="#d8e0cd", sail_shade="#5f7f84", hull="#060c14",
    ),
    Mood(
        name="storm", weight=1.1,
        sky=("#3f4a55", "#525f69", "#74828a", "#a5aeaa", "#e0dcc2"),
        cloud_light="#c9ccc4", cloud_shade="#3b454e", cloud_cover=0.85,
        light="sun", disk="#f4efd6", disk_share=0, glow="#eee6c4", path=0.35, light_height=(0.30, 0.60),
        sea_far="#4a6462", sea_near="#1b302f", crest="#e4e9e0", swell=1.0,
        land_light="#8b8873", land_shade="#2b3236",
        sail_light="#efe6cc", sail_shade="#a39a86", hull="#17140f",
    ),
    Mood(
        name="mist", weight=0.9,
        sky=("#93a8ae", "#a4b6b8", "#b9c4be", "#cdd0c2", "#ddd6c2"),
        cloud_light="#e6e2d4", cloud_shade="#8da0a8", cloud_cover=0.5,
        light="sun", disk="#ff7a3c", disk_share=1, glow="#ffb488", path=0.75, light_height=(0.20, 0.48),
        sea_far="#7d979c", sea_near="#3f6068", crest="#d5dcd2", swell=0.2,
        land_light="#a3aca8", land_shade="#566c76",
        sail_light="#7d8c90", sail_shade="#465863", hull="#22303a",
    ),
)  # fmt: skip


def rgb(colour: str) -> Field:
    """'#rrggbb' as three planes (3, 1, 1) of 0 to 1."""
    return np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)], np.float32)[:, None, None]
