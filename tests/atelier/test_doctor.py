"""The checks of atelier.doctor: each problem has its message and its fix."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from atelier import doctor
from atelier.doctor import (
    check_disk,
    check_packages,
    check_presets,
    check_processors,
    check_torch,
    check_wikiart,
    fitting_presets,
)
from atelier.settings.edit import PRESETS
from atelier.settings.load import load_params
from atelier.settings.schema import Params
from tests.lookalike import lookalike

PARAMS = Path("params.yaml")


@pytest.mark.parametrize(
    ("built_for", "works", "driver", "state", "words"),
    [
        ("13.0", True, "580.65.06", "ok", "driver 580.65.06"),
        ("13.0", False, "535.129.03", "wrong", "needs a driver of 580 or newer; this machine has 535"),
        ("13.0", False, "580.65.06", "wrong", "finds no GPU"),
        ("13.0", False, None, "ok", "uses the CPU"),
        (None, False, "580.65.06", "warning", "built without CUDA"),
        (None, False, None, "ok", "for CPUs"),
    ],
)
def test_check_torch_compares_its_cuda_version_with_the_driver(
    built_for: str | None, works: bool, driver: str | None, state: str, words: str
) -> None:
    found = check_torch(built_for, works, driver)
    assert found.state == state
    assert words in found.message
    assert (found.fix == "") == (state == "ok")


def test_the_drivers_version_is_read_from_the_kernel_modules_file(tmp_path: Path) -> None:
    file = tmp_path / "version"
    file.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.82.07  Release Build\n")
    assert doctor._driver_version(file) == "580.82.07"
    assert doctor._driver_version(tmp_path / "absent") is None


def test_packages_that_are_missing_or_of_a_wrong_version_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    required = ["torch>=1", "numpy<1", "no-such-package>=2", "also-absent; extra == 'dev'"]
    with monkeypatch.context() as patch:
        patch.setattr("importlib.metadata.requires", lambda package: required)
        found = check_packages()
    assert found.state == "wrong"
    assert "numpy is" in found.message
    assert "no-such-package is not installed" in found.message
    assert "also-absent" not in found.message
    assert check_packages().state == "ok"


@pytest.mark.parametrize(("free_bytes", "state"), [(1e9, "wrong"), (1e10, "warning"), (1e12, "ok")])
def test_little_disk_space_is_a_warning_and_too_little_is_wrong(tmp_path: Path, free_bytes: float, state: str) -> None:
    assert check_disk(tmp_path, free_bytes).state == state


def test_check_processors_computes_a_matrix_product() -> None:
    (found,) = check_processors() if not torch.cuda.is_available() else [next(check_processors())]
    assert found.state == "ok"
    assert "product" in found.message


def test_a_device_that_multiplies_wrongly_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_multiplies_correctly", lambda device: False)
    assert next(check_processors()).state == "wrong"


@pytest.mark.parametrize("gpu_gib, presets", [
    (2, {}),
    (4, {"gpu-128": 1}),
    (8, {"gpu-128": 1, "gpu-256": 8}),
    (12, {"gpu-128": 1, "gpu-256": 4}),
    (16, {"gpu-128": 1, "gpu-256": 2, "gpu-512": 8}),
    (24, {"gpu-128": 1, "gpu-256": 2, "gpu-512": 8}),
    (32, {"gpu-128": 1, "gpu-256": 1, "gpu-512": 4}),
    (48, {"gpu-128": 1, "gpu-256": 1, "gpu-512": 4}),
    (80, {"gpu-128": 1, "gpu-256": 1, "gpu-512": 2}),
    (139, {"gpu-128": 1, "gpu-256": 1, "gpu-512": 1}),
])  # fmt: skip
def test_larger_presets_fit_into_more_memory_or_in_more_parts(gpu_gib: float, presets: dict[str, int]) -> None:
    assert fitting_presets(gpu_gib * 2**30 / 1e9, "bfloat16") == presets


def test_without_bfloat16_a_step_of_r3gan_has_twice_as_many_parts() -> None:
    assert fitting_presets(34.4, "float32") == {"gpu-128": 1, "gpu-256": 2, "gpu-512": 8}


def test_each_preset_for_a_gpu_names_the_memory_of_its_step() -> None:
    assert [name for name, preset in PRESETS.items() if "step_gb" in preset] == [n for n in PRESETS if "gpu" in n]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="only a GPU has memory of its own")
def test_presets_are_named_that_fit_into_this_gpu() -> None:
    (found,) = check_presets()
    assert found.state == "ok"
    assert "gpu-128" in found.message


def asking(base_url: str, contact: str = "") -> Params:
    params = load_params(PARAMS)
    site = params.scrape.wikiart.model_copy(update={"base_url": base_url, "contact": contact})
    scrape = params.scrape.model_copy(update={"source": "wikiart", "wikiart": site})
    return params.model_copy(update={"scrape": scrape})


def test_robots_txt_is_fetched_only_where_the_site_is_the_source() -> None:
    with lookalike({}) as site:
        assert check_wikiart(asking(site.base_url)).state == "ok"
        asked = len(site.robots_requests)
        assert asked > 0
        assert site.requests == []
        assert check_wikiart(load_params(PARAMS)).message == "not asked, since scrape.source is gallery"
        assert len(site.robots_requests) == asked


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "https://www.wikiart.org"])
def test_a_site_that_does_not_answer_is_reported(address: str) -> None:
    found = check_wikiart(asking(address))  # nobody listens on port 9, and WikiArt is not asked anonymously
    assert found.state == "wrong"
    assert "contact" in found.fix


def test_a_mistake_in_params_yaml_is_reported_beside_all_other_checks(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(PARAMS.read_text().replace("kimg:", "kmig:", 1))
    done = subprocess.run(
        [sys.executable, "-m", "atelier.doctor"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path.cwd()), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    found = {line["what"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert found["Python"]["state"] == found["torch"]["state"] == "ok"
    assert found["params.yaml"]["state"] == "wrong"
    assert "kmig" in found["params.yaml"]["message"]
