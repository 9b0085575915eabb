"""Torch7's files: written by a real Torch7, by a writer in these tests, and hostile ones."""

import random
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from atelier.errors import AtelierError
from atelier.importers.torch7 import Torch7Object, Torch7Table, read_torch7
from tests.torch7 import Function, Storage, Tensor, dumped, flattened, obj, table, tensor

GRAPH = {
    "nn.gModule",
    "nngraph.Node",
    "graph.Edge",
    "graph.Graph",
    "nn.Identity",
    "nn.Linear",
    "nn.CAddTable",
}


@pytest.fixture(scope="module")
def real() -> Path:
    path = Path(__file__).parents[4] / "shared" / "torch7"
    if not path.is_dir():
        pytest.skip("files of a real Torch7, ../shared/torch7, are not on this machine")
    return path


def test_tensors_of_a_real_torch7(real: Path):
    doubles = read_torch7((real / "doubletensor.t7").read_bytes(), set())
    assert doubles.dtype == np.float64
    assert doubles.tolist() == [[1, 2, 3], [4, 5, 6.9]]
    floats = read_torch7((real / "floattensor.t7").read_bytes(), set())
    assert floats.shape == (2, 3, 4)
    assert floats.dtype == np.float32
    assert_allclose(floats[0, 1], [0.33597437, 0.8148993, 0.46810812, 0.22627884])


def test_tables_of_a_real_torch7(real: Path):
    listed = read_torch7((real / "list_table.t7").read_bytes(), set())
    assert listed.sequence() == ["hello", "world", "third item", 123]
    words = {1: "hello", 2: "world", 3: "third item", 4: 123}
    assert read_torch7((real / "map_table1.t7").read_bytes(), set()).items == {0: "zero", **words}
    second = read_torch7((real / "map_table2.t7").read_bytes(), set())
    assert second.items == {**words, "a": "non number key"}


def test_objects_of_a_real_torch7_where_their_class_is_allowed(real: Path):
    plain = read_torch7((real / "custom_class.t7").read_bytes(), {"Blah"})
    assert (plain.name, plain.version, plain.fields) == ("Blah", 1, {})
    itself = read_torch7((real / "recursive_class.t7").read_bytes(), {"A"})
    assert itself.fields["a"] is itself
    module = read_torch7((real / "gmodule_with_linear_identity.t7").read_bytes(), GRAPH)
    nodes = [node.fields["data"].items.get("module") for node in module.fields["forwardnodes"].sequence()]
    (linear,) = (node for node in nodes if isinstance(node, Torch7Object) and node.name == "nn.Linear")
    assert_allclose(linear.fields["weight"], [[-0.024837296921759844], [0.17503953725099564]])
    assert_allclose(linear.fields["bias"], [0.05159847717732191, -0.2536714617162943])


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("function.t7", "a Lua function at byte 0: code is never read"),
        ("tds_hash.t7", "class 'tds.Hash'"),
        ("custom_class.t7", "class 'Blah'"),
    ],
)
def test_code_and_other_classes_are_refused(real: Path, file: str, reason: str):
    with pytest.raises(AtelierError, match=reason):
        read_torch7((real / file).read_bytes(), GRAPH)


@pytest.mark.parametrize("ascii", [False, True])
def test_values_are_read_as_they_were_written(ascii: bool):
    numbers = np.arange(6, dtype=np.float32).reshape(2, 3) / 7
    shared = tensor(numbers)
    first, second = flattened([numbers, numbers[0] * 2], "torch.CudaTensor")
    value = {1: "a b\nc", 2: "", 3: None, "flag": True, "half": 0.5, 2.5: shared, "again": shared,
             "empty": Tensor("torch.FloatTensor", (), (), 0, None), "views": table(first, second)}  # fmt: skip
    found = read_torch7(dumped(obj("nn.ReLU", version=None, value=value), ascii), {"nn.ReLU"})
    assert (found.name, found.version) == ("nn.ReLU", 0)
    items = found.fields["value"].items
    assert [items[key] for key in (1, 2, 3, "flag", "half")] == ["a b\nc", "", None, True, 0.5]
    assert items[2.5] is items["again"]
    assert_allclose(items[2.5], numbers)
    assert items["empty"].size == 0
    assert [view.tolist() for view in items["views"].sequence()] == [
        numbers.tolist(),
        (numbers[0] * 2).tolist(),
    ]


def test_a_tensor_is_a_view_of_its_storage_as_torch_strides_it():
    storage = Storage("torch.DoubleStorage", [0.0, 1, 2, 3, 4, 5])
    transposed = Tensor("torch.DoubleTensor", (2, 2), (1, 2), 1, storage)
    assert read_torch7(dumped(transposed), set()).tolist() == [[1, 3], [2, 4]]


def deep(levels: int) -> dict:
    value: dict = {}
    for _ in range(levels):
        value = {1: value}
    return value


def of(kind: str, sizes: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> Tensor:
    return Tensor(kind, sizes, strides, offset, Storage("torch.FloatStorage", [1.0, 2, 3]))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file ends at byte 0"),
        (b"\xff\xd8\xff\xe0JFIF", "unknown kind"),
        (dumped(deep(100)), "deeper"),
        (struct.pack("<iii", 3, 1, 100_001) + struct.pack("<idii", 1, 0.0, 5, 1) * 100_001, "more values"),
        (dumped(table(Function())), "Lua function"),
        (dumped(table(Function()), ascii=True), "Lua function"),
        (struct.pack("<iii", 3, 1, 2**31 - 1), "2,147,483,647 values"),
        (struct.pack("<iii", 3, 1, -1), "-1 values"),
        (struct.pack("<ii", 2, 2**31 - 1), "2,147,483,647 bytes"),
        (b"2\n2000000000\nx\n", "2,000,000,000 bytes"),
        (b"3\n1\n99999999\n", "99,999,999 values"),
        (b"1\nNumber\n", "no number at byte 2"),
        (dumped({tensor(np.ones(2, np.float32)): 1}), "can be none"),
        (dumped({float("nan"): 1}), "can be none"),
        (dumped(of("torch.FloatTensor", (4,), (1,))), "reaches beyond its 3 numbers"),
        (dumped(of("torch.FloatTensor", (2,), (1,), 2)), "reaches beyond"),
        (dumped(of("torch.FloatTensor", (2,), (1,), -1)), "reaches beyond"),
        (dumped(of("torch.FloatTensor", (2,), (-1,), 1)), "reaches beyond"),
        (dumped(of("torch.FloatTensor", (-2, -2), (1, 1))), "reaches beyond"),
        (dumped(of("torch.FloatTensor", (2**40,), (0,))), "reaches beyond"),  # terabytes of one number
        (dumped(of("torch.FloatTensor", (2**62, 4, 4), (0, 0, 0))), "reaches beyond"),
        (dumped(of("torch.FloatTensor", (1, 4), (2**62, 1))), "reaches beyond"),
        (dumped(of("torch.DoubleTensor", (2,), (1,))), "without its numbers"),
        (dumped(of("torch.FloatTensor", (1,) * 17, (1,) * 17)), "17 dimensions"),
        (dumped(Tensor("torch.FloatTensor", (2,), (1,), 0, None)), "without its numbers"),
        (dumped(Storage("torch.FloatStorage", [1.0] * 9))[:-4], "in the middle of a value"),
        (dumped(Storage("torch.FloatStorage", [1.0] * 9), ascii=True)[:-3], "8 numbers where 9 are"),
        (dumped(Storage("torch.FloatStorage", [1.0, 2.0]), ascii=True).replace(b"1 2", b"1 x"), "numbers where 2"),
    ],
)  # fmt: skip
def test_damaged_and_hostile_files_are_refused_with_a_message(content: bytes, reason: str):
    with pytest.raises(AtelierError, match=reason):
        read_torch7(content, {"nn.ReLU"})


def test_a_tensor_that_is_its_own_storage_is_refused():
    looped = Tensor("torch.FloatTensor", (1,), (1,), 0, None)
    looped.storage = looped  # type: ignore[assignment]
    with pytest.raises(AtelierError, match="holds itself"):
        read_torch7(dumped(looped), set())


@pytest.mark.parametrize("ascii", [False, True])
def test_files_that_are_cut_off_or_have_a_flipped_byte_are_read_or_refused(ascii: bool):
    weights = tensor(np.arange(8, dtype=np.float32))
    whole = dumped(obj("nn.ReLU", weight=weights, kind="relu", more=table(1, 2.5, True, weights)), ascii)
    draw = random.Random(0)
    tampered = [whole[:length] for length in range(len(whole))]
    for _ in range(1500):
        changed = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        tampered.append(bytes(changed))
    for content in tampered:
        try:
            found = read_torch7(content, {"nn.ReLU"})
        except AtelierError:
            continue
        assert isinstance(found, (type(None), bool, int, float, str, np.ndarray, Torch7Table, Torch7Object))
