"""Check what the studio needs of this machine: Python, packages, torch, GPU, disk, params.yaml and WikiArt.

`python -m atelier.doctor` prints each finding as a line of JSON as soon as it is known. `atelier doctor` runs it as a
process of its own, because a broken GPU driver may kill it.
"""

import json
import platform
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from atelier.errors import AtelierError, Finding, ignore_output_errors
from atelier.settings.edit import PRESETS
from atelier.settings.load import load_params
from atelier.settings.schema import Params
from atelier.web.client import PoliteClient
from atelier.web.response import FetchError

MIN_FREE_BYTES = 3e9  # for a run with the built-in gallery
COMFORTABLE_FREE_BYTES = 20e9  # for a genre of WikiArt and its trainings
DRIVER_VERSION_FILE = Path("/proc/driver/nvidia/version")
OLDEST_DRIVERS = {11: 450, 12: 525, 13: 580}  # CUDA → NVIDIA driver for Linux (major versions; release notes)
PACKAGE = "atelier-studio"
MATRIX_SIZE = 2048  # of the matrices that are multiplied as a test
MAX_ROBOTS_BYTES = 500_000
# A step takes more than its tensors: cuDNN's workspaces and torch's unused blocks. CUDA and the paintings come on top.
STEP_MARGIN, CUDA_GB = 1.25, 1.0
MAX_STEP_PARTS = 8


def check_machine(params_path: Path) -> Iterator[Finding]:
    """Yield the findings of all checks that need neither DVC nor git nor Prefect, causes before effects."""
    try:
        yield check_python()
        yield check_packages()
    except metadata.PackageNotFoundError:
        yield Finding("packages", "wrong", "Atelier is not installed in this Python", "`make setup`")
    yield check_torch(torch.version.cuda, torch.cuda.is_available(), _driver_version(DRIVER_VERSION_FILE))
    yield from check_processors()
    yield from check_presets()
    yield check_disk(Path.cwd(), shutil.disk_usage(Path.cwd()).free)
    try:
        params = load_params(params_path)
    except AtelierError as error:
        yield Finding("params.yaml", "wrong", str(error), "edit the line that it names")
        return
    yield Finding("params.yaml", "ok", "every key is known and in its range")
    yield check_wikiart(params)


def check_python() -> Finding:
    """Compare the version of Python with the one that pyproject.toml requires."""
    version, required = platform.python_version(), metadata.metadata(PACKAGE)["Requires-Python"]
    if version not in SpecifierSet(required):
        fix = "`rm -r .venv && make setup PYTHON=python3.12`, or another of these versions"
        return Finding("Python", "wrong", f"{version}, not {required}", fix)
    return Finding("Python", "ok", f"{version}, {platform.system()} {platform.machine()}")


def check_packages() -> Finding:
    """Compare the installed packages with those that Atelier requires."""
    wrong, count = [], 0
    for line in metadata.requires(PACKAGE) or []:
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        count += 1
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is not installed")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} is {version}, not {requirement.specifier}")
    if wrong:
        return Finding("packages", "wrong", "; ".join(wrong), "`rm .venv/.atelier-setup && make setup`")
    return Finding("packages", "ok", f"{count} packages in the versions that fit each other")


def check_torch(built_for: str | None, works: bool, driver: str | None) -> Finding:
    """Compare the CUDA version that torch was `built_for` with the version of the NVIDIA `driver`; None means none."""
    version = torch.__version__
    if built_for is None and driver:
        message = f"{version}, built without CUDA, beside an NVIDIA driver {driver}"
        return Finding("torch", "warning", message, "install requirements.lock's torch: `make setup`")
    if built_for is None:
        return Finding("torch", "ok", f"{version}, for CPUs")
    if driver is None:
        return Finding("torch", "ok", f"{version} for CUDA {built_for}; no NVIDIA driver, so it uses the CPU")
    oldest = OLDEST_DRIVERS.get(int(built_for.split(".")[0]), 0)
    if int(driver.split(".")[0]) < oldest:
        message = f"{version} for CUDA {built_for} needs a driver of {oldest} or newer; this machine has {driver}"
        return Finding("torch", "wrong", message, f"update the NVIDIA driver to {oldest} or newer, and restart")
    if not works:
        message = f"{version} for CUDA {built_for} finds no GPU, though the driver is {driver}"
        fix = "see `nvidia-smi` and CUDA_VISIBLE_DEVICES; in a container, start it with its GPUs"
        return Finding("torch", "wrong", message, fix)
    return Finding("torch", "ok", f"{version} for CUDA {built_for}, driver {driver}")


def check_processors() -> Iterator[Finding]:
    """Compute a matrix product on each GPU and report its memory; without a GPU, on the CPU."""
    if not torch.cuda.is_available():
        yield _try_product("CPU", torch.device("cpu"))
        return
    for index in range(torch.cuda.device_count()):
        yield _try_product(f"GPU {index}", torch.device("cuda", index))


def check_presets() -> Iterator[Finding]:
    """Name the presets that fit into the memory of the smallest GPU; nothing without a GPU."""
    if not torch.cuda.is_available():
        return
    devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    smallest = min(devices, key=lambda device: device.total_memory)
    gigabytes, has_bfloat16 = smallest.total_memory / 1e9, smallest.major >= 8
    parts = fitting_presets(gigabytes, "bfloat16" if has_bfloat16 else "float32")
    words = [name if count == 1 else f"{name} (each step in {count} parts)" for name, count in parts.items()]
    message = f"{gigabytes:.0f} GB of GPU memory are enough for {', '.join(words) or 'the networks of cpu-demo alone'}"
    yield Finding("presets", "ok", message)


def fitting_presets(gpu_gb: float, precision: str) -> dict[str, int]:
    """The presets for a GPU whose training fits into its memory, with the number of parts that a step is divided into.

    Only steps of networks without batch norms are divided, because the others learn worse in parts.
    """
    found = {}
    for name, preset in PRESETS.items():
        needed_gb = preset.get("step_gb", {}).get(precision)
        most = MAX_STEP_PARTS if preset["values"].get("train.arch") == "r3gan" else 1
        for parts in [2**n for n in range(most.bit_length())]:
            if needed_gb and CUDA_GB + STEP_MARGIN * needed_gb / parts <= gpu_gb:
                found[name] = parts
                break
    return found


def check_disk(folder: Path, free_bytes: float) -> Finding:
    """Check the free space for paintings, resumable states and DVC's cache."""
    message = f"{free_bytes / 1e9:,.0f} GB free at {folder}"
    if free_bytes >= COMFORTABLE_FREE_BYTES:
        return Finding("disk", "ok", message)
    fix = (
        "free some space; `dvc gc --workspace --all-branches --all-tags --all-experiments` drops from DVC's cache what "
        "no branch, tag or experiment names"
    )
    return Finding("disk", "wrong" if free_bytes < MIN_FREE_BYTES else "warning", message, fix)


def check_wikiart(params: Params) -> Finding:
    """Fetch robots.txt, if the site is the source."""
    site = params.scrape.wikiart
    fix = "look at the network, or at scrape.wikiart.base_url and contact in params.yaml"
    if params.scrape.source != "wikiart":
        return Finding("WikiArt", "ok", f"not asked, since scrape.source is {params.scrape.source}")
    try:
        settings = site.model_dump(include={"contact", "rate_per_s", "may_train"})
        with PoliteClient(site.base_url, retries=0, timeout_s=10, **settings) as client:
            client.fetch("/robots.txt", max_bytes=MAX_ROBOTS_BYTES)
    except FetchError as error:
        if error.kind != "missing":  # a site without robots.txt answers, too
            return Finding("WikiArt", "wrong", str(error), fix)
    except AtelierError as error:
        return Finding("WikiArt", "wrong", str(error), fix)
    return Finding("WikiArt", "ok", f"{site.base_url} answers")


def _try_product(what: str, device: torch.device) -> Finding:
    try:
        if not _multiplies_correctly(device):
            fix = "its memory or its cooling may be failing: train elsewhere until it is looked at"
            return Finding(what, "wrong", "a matrix product on it gives wrong numbers", fix)
        details = f"{torch.get_num_threads()} threads"
        if device.type == "cuda":
            free, total = torch.cuda.mem_get_info(device)
            details = f"{torch.cuda.get_device_name(device)}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        return Finding(what, "ok", f"{details}; a product of {MATRIX_SIZE}² numbers is right")
    except RuntimeError as error:  # torch raises it for all errors of a device
        fix = "is another program using its memory? `nvidia-smi` lists them; else update the driver"
        return Finding(what, "wrong", str(error).splitlines()[0], fix)


def _multiplies_correctly(device: torch.device) -> bool:
    """Return whether a product of integer matrices is right; it is exact in float32, whatever the order of sums."""
    draws = torch.Generator().manual_seed(0)
    left, right = (torch.randint(-8, 9, (MATRIX_SIZE, MATRIX_SIZE), generator=draws, dtype=torch.float32) for _ in "ab")
    product = (left.to(device) @ right.to(device)).cpu()
    return torch.equal(product[::64], left[::64] @ right)


def _driver_version(path: Path) -> str | None:
    try:
        match = re.search(r"\b(\d{3,}(?:\.\d+)+)\b", path.read_text())
    except OSError:
        return None
    return match[1] if match else None


if __name__ == "__main__":
    ignore_output_errors()
    for finding in check_machine(Path("params.yaml")):
        print(json.dumps(asdict(finding)), flush=True)
