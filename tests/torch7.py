"""Writes Torch7's `.t7` files, apart from the reader and from the published layout, so that the two check each other.

    dumped(obj("nn.Sequential", modules=table(obj("nn.ReLU"), …)), ascii=False)

A value is None, a bool, a number, a str, a dict (a Lua table), or what `obj`, `tensor` and `Function` make; one that
occurs twice is written once and referred to.
"""

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

STORAGES = {
    "torch.FloatTensor": ("torch.FloatStorage", "f4"), "torch.CudaTensor": ("torch.CudaStorage", "f4"),
    "torch.DoubleTensor": ("torch.DoubleStorage", "f8"), "torch.LongTensor": ("torch.LongStorage", "i8"),
}  # fmt: skip


@dataclass(eq=False)
class Obj:
    """A Torch object with fields."""

    name: str
    fields: dict[str, Any]
    version: int | None = 1


@dataclass(eq=False)
class Storage:
    kind: str
    values: list[float]


@dataclass(eq=False)
class Tensor:
    """A view of a storage."""

    kind: str
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    storage: Storage | None


@dataclass(eq=False)
class Function:
    code: bytes = b"\x1bLJ\x01"
    upvalues: dict[Any, Any] = field(default_factory=dict)


def obj(name: str, version: int | None = 1, **fields: Any) -> Obj:
    return Obj(name, fields, version)


def table(*values: Any) -> dict[int, Any]:
    return dict(enumerate(values, 1))


def tensor(values: np.ndarray, kind: str = "torch.FloatTensor") -> Tensor:
    """A tensor with a storage of its own."""
    storage = Storage(STORAGES[kind][0], values.ravel().tolist())
    strides = tuple(int(np.prod(values.shape[axis + 1 :])) for axis in range(values.ndim))
    return Tensor(kind, values.shape, strides, 0, storage)


def flattened(arrays: list[np.ndarray], kind: str = "torch.FloatTensor") -> list[Tensor]:
    """Tensors that share one storage, one behind the other, as `getParameters()` leaves them."""
    whole = tensor(np.concatenate([array.ravel() for array in arrays]), kind)
    views, offset = [], 0
    for array in arrays:
        own = tensor(array, kind)
        views.append(Tensor(kind, own.sizes, own.strides, offset, whole.storage))
        offset += array.size
    return views


def dumped(value: Any, ascii: bool = False) -> bytes:
    """The file."""
    writer = _Writer(ascii)
    writer.value(value)
    return bytes(writer.out)


class _Writer:
    def __init__(self, ascii: bool) -> None:
        self.out, self._ascii, self._numbers = bytearray(), ascii, {}

    def value(self, value: Any) -> None:
        match value:
            case None:
                self._ints(0)
            case bool():
                self._ints(5)
                self._ints(int(value))
            case int() | float():
                self._ints(1)
                self._reals([value], "f8")
            case str():
                self._ints(2)
                self._text(value.encode())
            case Function():
                self._ints(8)
                if self._new(value):
                    self._text(value.code)
                    self.value(value.upvalues)
            case dict():
                self._ints(3)
                if self._new(value):
                    self._ints(len(value))
                    for key, item in value.items():
                        self.value(key)
                        self.value(item)
            case Obj():
                self._ints(4)
                if self._new(value):
                    self._class(value.name, value.version)
                    self.value(value.fields)
            case Tensor():
                self._ints(4)
                if self._new(value):
                    self._class(value.kind)
                    self._ints(len(value.sizes))
                    self._longs(*value.sizes)
                    self._longs(*value.strides)
                    self._longs(value.offset + 1)
                    self.value(value.storage)
            case Storage():
                self._ints(4)
                if self._new(value):
                    self._class(value.kind)
                    self._longs(len(value.values))
                    code = next(code for kind, code in STORAGES.values() if kind == value.kind)
                    self._reals(value.values, code)

    def _new(self, value: Any) -> bool:
        known = id(value) in self._numbers
        self._ints(self._numbers.setdefault(id(value), len(self._numbers) + 1))
        return not known

    def _class(self, name: str, version: int | None = 1) -> None:
        if version is not None:
            self._text(f"V {version}".encode())
        self._text(name.encode())

    def _text(self, text: bytes) -> None:
        self._ints(len(text))
        self.out += text + b"\n" if self._ascii and text else text

    def _ints(self, *numbers: int) -> None:
        self._run([str(number) for number in numbers], struct.pack(f"<{len(numbers)}i", *numbers))

    def _longs(self, *numbers: int) -> None:
        self._run([str(number) for number in numbers], struct.pack(f"<{len(numbers)}q", *numbers))

    def _reals(self, numbers: list[float], code: str) -> None:
        words = [f"{number:.17g}" for number in numbers]
        self._run(words, np.array(numbers).astype(f"<{code}").tobytes())

    def _run(self, words: list[str], raw: bytes) -> None:
        self.out += " ".join(words).encode() + b"\n" * bool(words) if self._ascii else raw
