"""Read the tensors in a pickle without running it.

A pickle is a program for a stack machine, which may call any function of Python. This reader carries out the operations
that build containers, as `pickletools` describes them, and replaces the few functions that PyTorch's pickles call by
its own. Objects become plain records: no class of the file is looked up, and code in it is neither compiled nor run.
Every length is compared with the bytes that the file has, and the number of operations is limited.
"""

import io
import math
import pickletools
import struct
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from atelier.errors import AtelierError

MAX_OPERATIONS = 2_000_000  # R3GAN's snapshot of 256 px has about 60,000
MAX_DIMENSIONS = 16
MAX_INTEGER = 2**128  # Python does not print integers of thousands of digits
BYTES_HEADER = {"SHORT_BINBYTES": 2, "BINBYTES": 5, "BINBYTES8": 9}  # bytes before the value: the operation, its length
STORAGES = {
    "torch.FloatStorage": torch.float32, "torch.DoubleStorage": torch.float64, "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16, "torch.LongStorage": torch.int64, "torch.IntStorage": torch.int32,
}  # fmt: skip
DTYPES = {f"torch.{name}" for name in ("float32", "float64", "float16", "bfloat16", "int64", "int32", "uint8")}
DICTS = {"collections.OrderedDict", "dnnlib.util.EasyDict"}
PERSISTENT = "torch_utils.persistence._reconstruct_persistent_obj"  # of StyleGAN2 and 3; its argument has source code
TORCH_MAGIC = 0x1950A86A20F9469CFC6C  # these two begin a file of torch.save before PyTorch 1.6
TORCH_PROTOCOL = 1001
CUT_OFF = "it is cut off or damaged: download it again"


@dataclass(eq=False)
class Record:
    """An object in a pickle: the name of its class and its attributes."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class PickledTensor:
    """A tensor in a pickle, whose numbers are read by `read`. `storage` is what torch.save wrote of its storage."""

    storage: memoryview
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self) -> Tensor:
        """The tensor, with memory of its own. Raises AtelierError where the file does not contain its numbers."""
        numbers = _storage(self.storage)
        if not all(isinstance(sizes, tuple) and len(sizes) <= MAX_DIMENSIONS for sizes in (self.shape, self.strides)):
            raise AtelierError("a tensor without a shape")
        sizes = (*self.shape, *self.strides, self.offset)
        if len(self.shape) != len(self.strides) or not all(type(size) is int and size >= 0 for size in sizes):
            raise AtelierError("a tensor whose shape and strides do not fit each other")
        count = math.prod(self.shape)
        last = self.offset + sum((size - 1) * step for size, step in zip(self.shape, self.strides, strict=True))
        if count and (count > len(numbers) or last >= len(numbers)):
            raise AtelierError(f"a tensor of {count:,} numbers, of which the file contains {len(numbers):,}")
        return numbers.as_strided(self.shape, self.strides, self.offset).clone() if count else numbers[:0]


def read_pickle(content: bytes, classes: Set[str]) -> Any:
    """Read the value that a pickle contains.

    Objects of `classes`, names as `package.module.Class`, become Records; dicts, lists, tuples, texts and numbers are
    themselves, sets become lists, and tensors PickledTensors. Raises AtelierError where the pickle names anything else,
    is damaged, or needs more operations than MAX_OPERATIONS.
    """
    return _Machine(classes).run(io.BytesIO(content), memoryview(content))


@dataclass(frozen=True)
class _Global:
    """A name of a class or function, which stands for it."""

    name: str


class _Machine:
    """Carries out a pickle's operations on a stack of values. `classes` are as in `read_pickle`."""

    def __init__(self, classes: Set[str]) -> None:
        self._classes = classes
        self._functions: dict[str, Callable[..., Any]] = {
            "torch._utils._rebuild_tensor_v2": lambda storage, offset, shape, strides, *_: PickledTensor(
                storage, offset, shape, strides
            ),
            "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
            "torch._utils._rebuild_parameter_with_state": lambda tensor, *_: tensor,
            "torch.storage._load_from_bytes": lambda content: content,
            "builtins.set": lambda *_: [],
            PERSISTENT: lambda meta: Record(meta["class_name"], dict(meta["state"])),
            **dict.fromkeys(DICTS, lambda *_: {}),
            **{name: lambda *_, name=name: Record(name) for name in classes},
        }

    def run(self, stream: io.BytesIO, content: memoryview) -> Any:
        """Carry out one pickle at the stream's position, and return its value. `content` is the whole stream's."""
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        position: int | None = 0
        try:
            for count, (operation, argument, position) in enumerate(pickletools.genops(stream)):
                if count >= MAX_OPERATIONS:
                    raise AtelierError("it has more operations than a network has: no snapshot of R3GAN")
                if operation.name == "STOP":
                    return self._stack.pop()
                if operation.name in BYTES_HEADER:  # not the copy, because a file has hundreds of megabytes
                    assert position is not None and argument is not None
                    start = position + BYTES_HEADER[operation.name]
                    argument = content[start : start + len(argument)]
                self._carry_out(operation.name, argument)
        # of genops for what is cut off, and of operations on values that they do not fit
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, struct.error):
            raise AtelierError(f"{CUT_OFF} (after byte {position or 0:,})") from None
        raise AtelierError(CUT_OFF)

    def _carry_out(self, operation: str, argument: Any) -> None:
        stack = self._stack
        match operation:
            case "PROTO" | "FRAME":
                pass
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(operation == "NEWTRUE")
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "LONG4" | "BINFLOAT":
                if isinstance(argument, int) and abs(argument) > MAX_INTEGER:
                    raise OverflowError
                stack.append(argument)
            case "SHORT_BINUNICODE" | "BINUNICODE" | "BINUNICODE8" | "SHORT_BINBYTES" | "BINBYTES" | "BINBYTES8":
                stack.append(argument)
            case "MARK":
                self._marks.append(len(stack))
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "EMPTY_LIST" | "EMPTY_SET":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                stack.append(tuple(self._marked()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack[-int(operation[-1]) :] = [tuple(stack[-int(operation[-1]) :])]
            case "APPEND":
                value = stack.pop()
                self._of(list).append(value)
            case "APPENDS" | "ADDITEMS":
                values = self._marked()
                self._of(list).extend(values)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                self._set([key], [value])
            case "SETITEMS":
                values = self._marked()
                self._set(values[::2], values[1::2])
            case "GLOBAL":
                stack.append(self._named(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(self._named(module, name))
            case "REDUCE" | "NEWOBJ":
                arguments, called = stack.pop(), stack.pop()
                if not isinstance(arguments, tuple):
                    raise TypeError
                stack.append(self._functions[called.name](*arguments))
            case "BUILD":
                state = stack.pop()
                if isinstance(stack[-1], Record):  # dicts have no attributes that matter
                    stack[-1].fields.update(state)
            case "BINPERSID":
                pass  # a storage's description, on the stack
            case _:
                raise AtelierError(f"it has the operation {operation}, which PyTorch does not write")

    def _named(self, module: str, name: str) -> _Global:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise TypeError
        named = f"{module}.{name}".replace("__builtin__.", "builtins.")
        if named not in self._functions and named not in STORAGES and named not in DTYPES:
            raise AtelierError(f"it names {named[:80]!r}, which is no part of R3GAN's networks: it is not read")
        return _Global(named)

    def _marked(self) -> list[Any]:
        """Take what lies above the last mark from the stack."""
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _set(self, keys: list[Any], values: list[Any]) -> None:
        """Set items of the dict that is the stack's last value."""
        if not all(isinstance(key, str | int | float) for key in keys):  # a nested tuple's hash would recurse
            raise TypeError
        self._of(dict).update(zip(keys, values, strict=True))

    def _of(self, kind: type) -> Any:
        """The stack's last value, if it is of this kind."""
        if not isinstance(self._stack[-1], kind):
            raise TypeError
        return self._stack[-1]


def _storage(content: memoryview) -> Tensor:
    """The numbers of a storage as torch.save wrote it before PyTorch 1.6: five pickles, and the bytes."""
    if not isinstance(content, memoryview):
        raise AtelierError(CUT_OFF)
    stream, machine = io.BytesIO(content), _Machine(frozenset())
    magic, protocol, system, described, keys = (machine.run(stream, content) for _ in range(5))
    match described, system, keys:
        case ("storage", _Global(name), _, _, int(count), None), {"little_endian": True}, [_] if name in STORAGES:
            dtype = STORAGES[name]
        case _:
            raise AtelierError("a tensor whose numbers are no storage of PyTorch that is read here")
    if (magic, protocol) != (TORCH_MAGIC, TORCH_PROTOCOL):
        raise AtelierError("a tensor whose numbers are not as PyTorch writes them")
    start = stream.tell() + 8
    numbers = bytearray(content[start:])  # writable, as torch.frombuffer asks for
    if len(numbers) != count * dtype.itemsize or content[start - 8 : start] != struct.pack("<q", count):
        raise AtelierError(f"a tensor of {count:,} numbers: {CUT_OFF}")
    return torch.frombuffer(numbers, dtype=dtype) if count else torch.empty(0, dtype=dtype)
