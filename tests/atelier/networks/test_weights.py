"""Files of weights: equal content gives equal bytes, and other files are refused."""

import resource
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from atelier.errors import AtelierError
from atelier.networks import read_weights, save_weights


def test_header_and_tensors_come_back(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", {"a": torch.arange(3.0)}, "x/1", {"steps": 7})
    header, tensors = read_weights(tmp_path / "w.safetensors", "x/1", {"steps"}, "train")
    assert header == {"format": "x/1", "steps": 7}
    assert tensors["a"].tolist() == [0, 1, 2]


def test_the_header_is_one_entry_because_several_have_no_stable_order(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_weights(tmp_path / name, {"b": torch.ones(3), "a": torch.zeros(2)}, "x/1", {"steps": 1, "arch": "y"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with safe_open(tmp_path / "a", framework="pt") as file:
        assert list(file.metadata()) == ["atelier"]


def test_a_missing_file_names_the_stage_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(AtelierError, match="is missing: `dvc repro train_upscaler` makes it"):
        read_weights(tmp_path / "w.safetensors", "x/1", set(), "train_upscaler")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, {"a": torch.ones(100)}, "x/1", {})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(AtelierError, match="no whole safetensors file"):
        read_weights(path, "x/1", set(), "train")


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"atelier": "no json"},
        {"atelier": "[]"},
        {"atelier": '{"format": "other/1", "steps": 1}'},
        {"atelier": '{"format": "x/1"}'},
    ],
)
def test_files_of_another_format_are_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a": torch.ones(1)}, path, metadata=metadata)
    with pytest.raises(AtelierError, match="has no x/1 header"):
        read_weights(path, "x/1", {"steps"}, "train")


def test_a_disk_that_is_full_is_an_error_of_the_disk_and_the_old_weights_stay(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, {"a": torch.arange(3.0)}, "x/1", {"steps": 7})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # as if the disk were full after 100 kB
    try:
        with pytest.raises(OSError, match=str(path)) as refused:
            save_weights(path, {"a": torch.zeros(100_000)}, "x/1", {"steps": 8})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert refused.value.errno and refused.value.strerror
    assert read_weights(path, "x/1", {"steps"}, "train")[0]["steps"] == 7
    assert [file.name for file in tmp_path.iterdir()] == ["w.safetensors"]
