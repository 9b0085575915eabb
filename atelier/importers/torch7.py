"""Read Torch7's `.t7` files: numbers, texts, tables, tensors, and objects of classes that the caller allows.

The format is that of torch7's File.lua, generic/Tensor.c and generic/Storage.c (binary on x86-64, or ascii). Files are
untrusted: no code in a file is run, and every length is compared with the bytes that remain before anything is
allocated. The package torchfile does none of that: it trusts lengths, recurses without limit, reads memory beyond a
storage, and does not support ascii.
"""

import math
import re
import warnings
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from atelier.errors import AtelierError

SCALARS = {
    "Byte": "u1", "Char": "i1", "Short": "i2", "Int": "i4", "Long": "i8", "Half": "f2", "Float": "f4", "Double": "f8",
}  # fmt: skip
SCALARS |= {f"Cuda{name}": code for name, code in SCALARS.items()} | {"Cuda": "f4"}
ARRAYS = {f"torch.{name}{kind}": (kind, f"<{code}") for name, code in SCALARS.items() for kind in ("Tensor", "Storage")}
MAX_DEPTH = 64  # of nested values; a generator has about 10
MAX_VALUES = 200_000  # a generator of 2018 has about 500
MAX_DIMENSIONS = 16
MAX_TEXT_BYTES = 1 << 20

Array = npt.NDArray[Any]


@dataclass(eq=False)
class Torch7Object:
    """An object of an allowed class: the class's name and version, and the object's fields."""

    name: str
    version: int
    fields: dict[Any, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Torch7Table:
    """A Lua table. Its integer keys are ints."""

    items: dict[Any, Any] = field(default_factory=dict)

    def sequence(self) -> list[Any]:
        """The values of the keys 1, 2, …, up to the first missing one."""
        values: list[Any] = []
        while (key := len(values) + 1) in self.items:
            values.append(self.items[key])
        return values


def read_torch7(content: bytes, classes: Set[str]) -> Any:
    """Read the value that a `.t7` file contains.

    Raises AtelierError with the byte's position if the file is damaged, contains code, or an object of a class that is
    not in `classes`. Tensors and storages are always allowed, and are returned as NumPy arrays.
    """
    reader = _AsciiReader if re.match(rb"[0-9]\s", content) else _Reader
    return reader(content, classes).value()


class _Reader:
    """A reader of the binary encoding: little-endian, a long in eight bytes."""

    def __init__(self, content: bytes, classes: Set[str]) -> None:
        self._content, self._classes = content, classes
        self._at = 0  # the position in bytes
        self._seen: dict[int, Any] = {}
        self._values = self._depth = 0

    def value(self) -> Any:
        at = self._at
        self._values += 1
        self._depth += 1
        if self._values > MAX_VALUES or self._depth > MAX_DEPTH:
            raise AtelierError(f"more values, or deeper ones, than a network has (at byte {at})")
        try:
            match self._int():  # File.lua's TYPE_NIL and so on
                case 0:
                    return None
                case 1:
                    number = self._double()
                    return int(number) if math.isfinite(number) and number.is_integer() else number
                case 2:
                    return self._text()
                case 3:
                    return self._once(self._table, at)
                case 4:
                    return self._once(self._object, at)
                case 5:
                    return self._int() != 0
                case 6 | 7 | 8:  # in three versions of Torch
                    raise AtelierError(f"a Lua function at byte {at}: code is never read")
                case kind:
                    raise AtelierError(f"a value of the unknown kind {kind} at byte {at}")
        finally:
            self._depth -= 1

    def _once(self, read: Callable[[int], None], at: int) -> Any:
        """The value with the index that follows: it is read where the index occurs first."""
        index = self._int()
        if index not in self._seen:
            read(index)
        found = self._seen[index]
        if found is None:
            raise AtelierError(f"a tensor that holds itself at byte {at}")
        return found

    def _table(self, index: int) -> None:
        table = self._seen[index] = Torch7Table()
        at, count = self._at, self._int()
        if not 0 <= count <= self._left():
            raise AtelierError(f"a table of {count:,} values at byte {at}: the file is cut off or damaged")
        for _ in range(count):
            key = self.value()
            if key is None or isinstance(key, np.ndarray) or key != key:
                raise AtelierError(f"a table with a key that can be none, at byte {at}")
            table.items[key] = self.value()

    def _object(self, index: int) -> None:
        at, name, version = self._at, self._text(), 0
        if match := re.fullmatch(r"V ([0-9]{1,9})", name):
            name, version = self._text(), int(match[1])
        if name in ARRAYS:
            kind, dtype = ARRAYS[name]
            self._seen[index] = None  # until it is read, so that a tensor cannot contain itself
            self._seen[index] = self._storage(dtype) if kind == "Storage" else self._tensor(dtype, at)
            return
        if name not in self._classes:
            raise AtelierError(f"an object of the class {name[:80]!r} at byte {at}, which is none of those read here")
        found = self._seen[index] = Torch7Object(name, version)
        state = self.value()
        if not isinstance(state, Torch7Table):
            raise AtelierError(f"a {name} without fields at byte {at}")
        found.fields = state.items

    def _storage(self, dtype: str) -> Array:
        at, count = self._at, self._long()
        if not 0 <= count <= self._left():
            raise AtelierError(f"{count:,} numbers announced at byte {at}: the file is cut off or damaged")
        return self._array(count, dtype)

    def _tensor(self, dtype: str, at: int) -> Array:
        dimensions = self._int()
        if not 0 <= dimensions <= MAX_DIMENSIONS:
            raise AtelierError(f"a tensor of {dimensions} dimensions at byte {at}")
        sizes, strides = ([self._long() for _ in range(dimensions)] for _ in range(2))
        offset, storage = self._long() - 1, self.value()
        count = math.prod(sizes) if sizes else 0
        if storage is None and count == 0:
            return np.empty(0, dtype)
        if not isinstance(storage, np.ndarray) or storage.ndim != 1 or storage.dtype != np.dtype(dtype):
            raise AtelierError(f"a tensor without its numbers at byte {at}")
        if count == 0:
            return storage[:0]
        last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
        if min(sizes) < 0 or min(strides) < 0 or offset < 0 or last >= len(storage) or count > len(storage):
            raise AtelierError(f"a tensor at byte {at} reaches beyond its {len(storage):,} numbers")
        steps = [stride * storage.itemsize if size > 1 else 0 for size, stride in zip(sizes, strides, strict=True)]
        return np.lib.stride_tricks.as_strided(storage[offset:], sizes, steps, writeable=False)

    def _text(self) -> str:
        at, length = self._at, self._int()
        if not 0 <= length <= min(MAX_TEXT_BYTES, self._left()):
            raise AtelierError(f"a text of {length:,} bytes at byte {at}: the file is cut off or damaged")
        return self._characters(length)

    def _left(self) -> int:
        """How many values can follow, at most."""
        return len(self._content) - self._at

    # The reads of one encoding. Each raises AtelierError where the file ends early.

    def _int(self) -> int:
        return int.from_bytes(self._take(4), "little", signed=True)

    def _long(self) -> int:
        return int.from_bytes(self._take(8), "little", signed=True)

    def _double(self) -> float:
        return float(np.frombuffer(self._take(8), "<f8")[0])

    def _characters(self, length: int) -> str:
        return str(self._take(length), "latin-1")  # texts in Lua are any bytes

    def _array(self, count: int, dtype: str) -> Array:
        return np.frombuffer(self._take(count * np.dtype(dtype).itemsize), dtype)

    def _take(self, length: int) -> memoryview:
        if length > self._left():
            raise AtelierError(f"the file ends at byte {len(self._content):,}, in the middle of a value")
        self._at += length
        return memoryview(self._content)[self._at - length : self._at]  # not a copy


class _AsciiReader(_Reader):
    """A reader of the ascii encoding: numbers as words, an array on one line; texts are followed by a line feed."""

    def _int(self) -> int:
        return int(self._word(rb"[-+]?[0-9]{1,20}"))

    _long = _int

    def _double(self) -> float:
        return float(self._word(rb"[-+]?(?:nan|inf|[0-9]+\.?[0-9]*(?:e[-+]?[0-9]+)?)"))

    def _characters(self, length: int) -> str:
        found = self._content[self._at : self._at + length]
        self._at += length
        if length and self._content[self._at : self._at + 1] == b"\n":
            self._at += 1
        return found.decode("latin-1")

    def _array(self, count: int, dtype: str) -> Array:
        if count == 0:
            return np.empty(0, dtype)
        end, began = self._content.find(b"\n", self._at), self._at
        end = len(self._content) if end < 0 else end
        kind = np.int64 if np.dtype(dtype).kind in "iu" else np.float64
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of words that are no numbers
            try:
                numbers = np.fromstring(self._content[began:end], kind, sep=" ")
            except ValueError:  # what NumPy will make of that warning
                numbers = np.empty(0, kind)
        if len(numbers) != count:
            raise AtelierError(f"{len(numbers):,} numbers where {count:,} are announced, at byte {began}")
        self._at = end + 1
        return numbers.astype(dtype)

    def _word(self, pattern: bytes) -> bytes:
        match = re.compile(rb"\s*(" + pattern + rb")(?:\s|$)").match(self._content, self._at)
        if not match:
            raise AtelierError(f"no number at byte {self._at}, where one must be")
        self._at = match.end()
        return match[1]
