"""Parts of pictures and of maps of features. Knows no array."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Rectangle:
    """A part of a picture, or of a map of features."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Its rows and its columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def divided(self, px: int) -> "Rectangle":
        """The same part where one of these pixels is `px` of those."""
        return Rectangle(self.top // px, self.left // px, self.height // px, self.width // px)

    def within(self, other: "Rectangle") -> bool:
        return (
            other.top <= self.top
            and other.left <= self.left
            and self.top + self.height <= other.top + other.height
            and self.left + self.width <= other.left + other.width
        )


def cut(whole: Rectangle, height: int, width: int) -> Iterator[Rectangle]:
    """A rectangle in pieces of at most this size, row by row."""
    bottom, right = whole.top + whole.height, whole.left + whole.width
    for top in range(whole.top, bottom, height):
        for left in range(whole.left, right, width):
            yield Rectangle(top, left, min(height, bottom - top), min(width, right - left))
