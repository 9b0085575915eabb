"""Years as WikiArt writes them, read as one number. The text itself stays in the catalog's `year_text`.

"1916"            1916
"1827-1828"       1828     the year of completion, by which WikiArt sorts
"1887-88"         1888
"c. 1300 BC"     -1300     before Christ is negative
"1890s"           1894     the middle of what is named
"XX cent."        1950     the same; the running century counts up to PRESENT
"XIX-XX cent."    1900
"?", "", 20000    None
"""

import re

EARLIEST, LATEST = -10_000, 2100  # WikiArt's own are -3050…2025; all fit Int16
PRESENT = 2026  # a constant, not the clock: the same list gives the same catalog next year

ROMAN = {
    "I": 1, "II": 2, "III": 3, "IV": 4, "V": 5, "VI": 6, "VII": 7, "VIII": 8, "IX": 9, "X": 10, "XI": 11,
    "XII": 12, "XIII": 13, "XIV": 14, "XV": 15, "XVI": 16, "XVII": 17, "XVIII": 18, "XIX": 19, "XX": 20, "XXI": 21,
}  # fmt: skip
BEFORE_CHRIST = re.compile(r"\bB\.?\s?C\b|\bBCE\b", re.IGNORECASE)
CENTURIES = re.compile(r"\b([IVX]+)(?:\s*[-–—/]\s*([IVX]+))?\s*(?:th\s*)?c(?:\.|ent)", re.IGNORECASE)
NUMBERED_CENTURY = re.compile(r"\b(\d{1,2})(?:st|nd|rd|th)\s+c(?:\.|ent)", re.IGNORECASE)
SHORT_RANGE = re.compile(r"\b(\d{2})(\d{2})\s*[-–—/]\s*(\d{2})(?!\d)")
DECADE = re.compile(r"\b(\d{3})0s\b")
NUMBER = re.compile(r"(?<!\d)\d{1,5}(?!\d)")


def parse_year(text: str) -> int | None:
    """The year that `text` means, negative before Christ; None where it names none or an impossible one."""
    sign = -1 if BEFORE_CHRIST.search(text) or re.fullmatch(r"\s*-\d{1,5}\s*", text) else 1
    year = _of_centuries(text, sign)
    if year is None and (decade := DECADE.search(text)):
        year = sign * (int(decade[1]) * 10 + 4)
    if year is None:
        year = _last_number(text, sign)
    return year if year and EARLIEST <= year <= LATEST else None  # there was no year 0


def _of_centuries(text: str, sign: int) -> int | None:
    if match := CENTURIES.search(text):
        first, last = ROMAN.get(match[1].upper()), ROMAN.get((match[2] or match[1]).upper())
    elif match := NUMBERED_CENTURY.search(text):
        first = last = int(match[1])
    else:
        return None
    if not first or not last:
        return None
    begin, end = (min(first, last) - 1) * 100 + 1, min(max(first, last) * 100, PRESENT)
    return sign * ((begin + end) // 2)


def _last_number(text: str, sign: int) -> int | None:
    """The last number that looks like a year; short ones, as a date's day, count only where nothing else does."""
    if (short := SHORT_RANGE.search(text)) and int(short[3]) > int(short[2]):
        return sign * int(short[1] + short[3])
    numbers = NUMBER.findall(text)
    long = [number for number in numbers if len(number) >= 3]
    return sign * int((long or numbers)[-1]) if numbers else None
