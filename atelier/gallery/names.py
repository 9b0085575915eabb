"""The invented painters of the built-in archive and what they call their works. All of it fiction; paints nothing."""

from dataclasses import dataclass

import numpy as np

from atelier.gallery.scene import HANDS, Hand, Scene, Vessel


@dataclass(frozen=True, slots=True)
class Artist:
    """A painter who never lived, with a hand of their own."""

    name: str
    hand: Hand
    from_year: int
    to_year: int


ROMANTIC, LUMINIST, IMPRESSIONIST, POST_IMPRESSIONIST, REALIST = HANDS
ARTISTS = (
    Artist("Oriel Vantongeren", ROMANTIC, 1818, 1852),
    Artist("Mathilde Sorgenfrey", ROMANTIC, 1831, 1869),
    Artist("Josiah Merrowick", LUMINIST, 1846, 1881),
    Artist("Anselm Strandvik", REALIST, 1851, 1894),
    Artist("Perpetua Lanyard", REALIST, 1860, 1903),
    Artist("Honorine Delamarée", IMPRESSIONIST, 1869, 1912),
    Artist("Teodor Wassermund", IMPRESSIONIST, 1874, 1921),
    Artist("Inês Salgueirinha", POST_IMPRESSIONIST, 1886, 1927),
)

PLACES = (
    "Kestrel Head", "Port Amaranth", "the Salt Isles", "Cape Verity", "Marrowstone Bay", "Saint Odile",
    "the Lantern Rocks", "Gullhaven", "Cala Serena", "the Widow's Reach", "Hollow Point", "Tern Island",
    "Old Harbour", "the Amber Coast", "Skerry Sound", "Finisterra",
)  # fmt: skip
HOURS = {
    "dawn": ("Dawn", "Daybreak", "First Light", "Rose Morning"),
    "noon": ("Noon", "Fair Weather", "A Fresh Breeze", "Summer Sea"),
    "gold": ("Golden Hour", "Amber Evening", "The Gilded Sea", "Late Light"),
    "sunset": ("Sunset", "Crimson Evening", "The Burning Sky", "Day's End"),
    "dusk": ("Dusk", "Twilight", "The Blue Hour", "Evening Calm"),
    "moonlight": ("Moonlight", "Night Watch at Sea", "Moonrise", "The Silver Path"),
    "storm": ("Storm", "Rising Gale", "Heavy Weather", "After the Squall"),
    "mist": ("Morning Mist", "Sea Haze", "Grey Calm", "Impression of Fog"),
}
RIG_NAMES = {
    "ship": "a Ship under Full Sail",
    "brig": "a Brig",
    "cutter": "a Cutter",
    "lugger": "a Fishing Lugger",
}
COAST_NAMES = {"headland": "the Headland", "cliff": "the Cliffs", "beach": "the Beach"}


def choose_artist(rng: np.random.Generator) -> tuple[Artist, int]:
    """A painter and the year of the work."""
    artist = ARTISTS[rng.integers(len(ARTISTS))]
    return artist, int(rng.integers(artist.from_year, artist.to_year + 1))


def entitle(rng: np.random.Generator, scene: Scene) -> str:
    """A title that tells what can be seen."""
    hour = str(rng.choice(HOURS[scene.mood.name]))
    place = str(rng.choice(PLACES))
    manner = rng.random()
    nearest: Vessel | None = scene.vessels[-1] if scene.vessels else None
    if nearest is not None and nearest.height > 0.15 and manner < 0.6:
        return f"{hour}, {RIG_NAMES[nearest.rig]} off {place}"
    if scene.coast is not None and manner < 0.8:
        return f"{hour} by {COAST_NAMES[scene.coast.kind]} of {place}"
    return f"{hour} off {place}" if manner < 0.9 else f"{hour}, Study of Sea and Sky"
