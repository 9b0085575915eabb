"""What is said of a picture that was painted again: identical, within 1/255, different, edited, damaged, refused."""

from dataclasses import dataclass
from typing import Literal

from atelier.pictures.compare import Likeness, compare
from atelier.pictures.vips import Samples
from atelier.provenance.contract import Answer
from atelier.provenance.facts import PixelFacts, Provenance
from flows.repaint.picture import Given

Kind = Literal["identical", "within 1/255", "different", "edited", "damaged", "refused"]
CLOSE = 1.0  # of 255: what other hardware or another torch may round otherwise


@dataclass(frozen=True, slots=True)
class Verdict:
    """`settled`: no other code could paint it more truly. `words` go on after the kind."""

    kind: Kind
    words: str
    settled: bool
    likeness: Likeness | None = None

    @property
    def reproduced(self) -> bool:
        return self.kind in ("identical", "within 1/255")

    @property
    def rank(self) -> tuple[bool, bool, float, int]:
        """The truer the smaller."""
        differing = (self.likeness.largest, self.likeness.differing) if self.likeness else (256.0, 0)
        return (not self.settled, not self.reproduced, *differing)


def refused(why: str) -> Verdict:
    """It could not be painted at all."""
    return Verdict("refused", why, settled=False)


def judge(given: Given, answer: Answer, painted: Samples) -> Verdict:
    """Hold what was painted against the picture, and both against what its provenance names."""
    if answer.pixels == given.named:
        return _of_what_it_names(given, painted)
    if given.pixels is None:
        return Verdict("damaged", f"{given.trouble}; and {_otherwise(given, answer)}", settled=False)
    if given.pixels == answer.pixels:
        words = "the pixels are what its recipe paints, but its provenance names others: that was edited"
        return Verdict("edited", words, settled=True)
    if _size(given.pixels) != _size(answer.pixels):
        words = (
            f"its recipe paints {_described(answer.pixels)}, and the picture has {_described(given.pixels)}"
        )
        return Verdict("different", words, settled=False)
    likeness = compare(given.bands(), painted)
    if given.pixels != given.named:
        words = (
            f"its pixels are not those that its provenance names ({_counted(likeness)} of what is painted now), and "
            f"{_otherwise(given, answer)}"
        )
        return Verdict("edited", words, settled=False, likeness=likeness)
    counted = f"{likeness.differing:,} of {likeness.values:,} values differ"
    if likeness.largest <= CLOSE:
        return Verdict("within 1/255", f"{counted}{_versions(given.made, answer)}", False, likeness)
    words = f"{counted}, by up to {likeness.largest:.4g} of 255, in {likeness.box}{_where(given, answer)}"
    return Verdict("different", f"{words}{_versions(given.made, answer)}", False, likeness)


def _of_what_it_names(given: Given, painted: Samples) -> Verdict:
    """The recipe paints what the provenance names: whatever is wrong is the picture's own."""
    if given.pixels is None:
        return Verdict("damaged", given.trouble, settled=True)
    if given.pixels == given.named:
        return Verdict("identical", "", settled=True)
    if _size(given.pixels) != _size(given.named):
        words = f"edited after it was made: it has {_described(given.pixels)}, not {_described(given.named)}"
        return Verdict("edited", words, settled=True)
    likeness = compare(given.bands(), painted)
    return Verdict("edited", f"edited after it was made: {_counted(likeness)}", True, likeness)


def _counted(likeness: Likeness) -> str:
    total = likeness.values // 3
    return f"{likeness.pixels:,} of {total:,} pixels differ, in {likeness.box}"


def _otherwise(given: Given, answer: Answer) -> str:
    return f"its recipe paints neither what its provenance names{_where(given, answer)}{_versions(given.made, answer)}"


def _where(given: Given, answer: Answer) -> str:
    """In which step a print goes wrong."""
    if given.made.print is None or answer.original is None:
        return ""
    same = answer.original == given.made.print.original
    return (
        "; the artwork under the print is identical, its enlargement is not"
        if same
        else "; already the artwork under the print differs"
    )


def _versions(made: Provenance, answer: Answer) -> str:
    """Which versions differ, where that may be the reason."""
    software = made.print.upscale.software if made.print else made.software
    pairs = [
        ("Atelier", software.atelier, answer.software.atelier),
        ("torch", software.torch, answer.software.torch),
    ]
    differing = [f"{name} {then}, painted again with {now}" for name, then, now in pairs if then != now]
    if differing:
        return f"; made with {'; '.join(differing)}"
    return f"; torch is {answer.software.torch} as it was, so the hardware or the code is another"


def _size(pixels: PixelFacts | None) -> tuple[int, int, int] | None:
    return (pixels.height, pixels.width, pixels.bits) if pixels else None


def _described(pixels: PixelFacts | None) -> str:
    return f"{pixels.width:,} × {pixels.height:,} px of {pixels.bits} bits" if pixels else "no pixels"
