"""What this machine offers the studio: Python, packages, torch, GPU, disk, settings, WikiArt. Changes nothing.

`python -m atelier.doctor` prints the findings as JSON, a line each as it is found: torch is looked at in a process
of its own, which a broken driver may take down.
"""

import json
import platform
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from atelier.errors import AtelierError, Finding, ignore_output_errors
from atelier.settings.load import load_params
from atelier.settings.schema import Params
from atelier.web.client import PoliteClient
from atelier.web.response import FetchError

NEEDED_BYTES = 3e9  # the default gallery's run
COMFORTABLE_BYTES = 20e9  # a genre of WikiArt with its trainings
DRIVER = Path("/proc/driver/nvidia/version")
OLDEST_DRIVERS = {11: 450, 12: 525, 13: 580}  # Linux drivers that a CUDA major runs on (CUDA's release notes)
PACKAGE = "atelier-studio"
SIDE = 2048  # of the matrix product
ROBOTS_BYTES = 500_000


def findings(params_path: Path) -> Iterator[Finding]:
    """Everything that needs neither DVC nor git nor Prefect, in an order in which causes come before effects."""
    try:
        yield python()
        yield packages()
    except metadata.PackageNotFoundError:
        yield Finding("packages", "wrong", "Atelier is not installed in this Python", "`make setup`")
    yield torch_build(torch.version.cuda, torch.cuda.is_available(), _driver(DRIVER))
    yield from processors()
    yield disk(Path.cwd(), shutil.disk_usage(Path.cwd()).free)
    try:
        params = load_params(params_path)
    except AtelierError as error:
        yield Finding("params.yaml", "wrong", str(error), "edit the line that it names")
        return
    yield Finding("params.yaml", "ok", "every key is known and in its range")
    yield wikiart(params)


def python() -> Finding:
    """The version, against what pyproject.toml asks for."""
    version, asked = platform.python_version(), metadata.metadata(PACKAGE)["Requires-Python"]
    if version not in SpecifierSet(asked):
        mend = "`rm -r .venv && make setup PYTHON=python3.12`, or another that is asked for"
        return Finding("Python", "wrong", f"{version}, not {asked}", mend)
    return Finding("Python", "ok", f"{version}, {platform.system()} {platform.machine()}")


def packages(required: list[str] | None = None) -> Finding:
    """Every package that Atelier requires, against what is installed."""
    required = metadata.requires(PACKAGE) or [] if required is None else required
    wrong, count = [], 0
    for line in required:
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


def torch_build(built_for: str | None, works: bool, driver: str | None) -> Finding:
    """torch's CUDA against the driver's. `built_for` is torch's CUDA version, `driver` the NVIDIA driver's."""
    version = torch.__version__
    if built_for is None:
        if driver:
            said = f"{version}, built without CUDA, beside an NVIDIA driver {driver}"
            return Finding("torch", "warning", said, "install requirements.lock's torch: `make setup`")
        return Finding("torch", "ok", f"{version}, for CPUs")
    if driver is None:
        return Finding("torch", "ok", f"{version} for CUDA {built_for}; no NVIDIA driver, so it uses the CPU")
    oldest = OLDEST_DRIVERS.get(int(built_for.split(".")[0]), 0)
    if int(driver.split(".")[0]) < oldest:
        said = (
            f"{version} for CUDA {built_for} needs a driver of {oldest} or newer; this machine has {driver}"
        )
        return Finding("torch", "wrong", said, f"update the NVIDIA driver to {oldest} or newer, and restart")
    if not works:
        said = f"{version} for CUDA {built_for} finds no GPU, though the driver is {driver}"
        mend = "see `nvidia-smi` and CUDA_VISIBLE_DEVICES; in a container, start it with its GPUs"
        return Finding("torch", "wrong", said, mend)
    return Finding("torch", "ok", f"{version} for CUDA {built_for}, driver {driver}")


def processors() -> Iterator[Finding]:
    """Each GPU's memory and a real matrix product on it; without any, the CPU's."""
    if not torch.cuda.is_available():
        said = f"{torch.get_num_threads()} threads; a product of {SIDE}² numbers is right"
        yield _tried("CPU", torch.device("cpu"), lambda: said)
        return
    for index in range(torch.cuda.device_count()):
        device = torch.device("cuda", index)

        def told(device: torch.device = device) -> str:
            free, total = torch.cuda.mem_get_info(device)
            name = torch.cuda.get_device_name(device)
            return f"{name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free; a product of {SIDE}² numbers is right"

        yield _tried(f"GPU {index}", device, told)


def disk(place: Path, free_bytes: float) -> Finding:
    """Room for paintings, states and DVC's cache."""
    said = f"{free_bytes / 1e9:,.0f} GB free at {place}"
    if free_bytes >= COMFORTABLE_BYTES:
        return Finding("disk", "ok", said)
    mend = (
        "free some space; `dvc gc --workspace --all-branches --all-tags --all-experiments` drops from DVC's cache what "
        "no branch, tag or experiment names"
    )
    return Finding("disk", "wrong" if free_bytes < NEEDED_BYTES else "warning", said, mend)


def wikiart(params: Params) -> Finding:
    """A look at its robots.txt, where the site is the source."""
    site = params.scrape.wikiart
    mend = "look at the network, or at scrape.wikiart.base_url and contact in params.yaml"
    if params.scrape.source != "wikiart":
        return Finding("WikiArt", "ok", f"not asked, since scrape.source is {params.scrape.source}")
    try:
        with PoliteClient(
            site.base_url,
            contact=site.contact,
            rate_per_s=site.rate_per_s,
            retries=0,
            timeout_s=10,
            may_train=site.may_train,
        ) as client:
            client.fetch("/robots.txt", max_bytes=ROBOTS_BYTES)
    except FetchError as error:
        if error.kind != "missing":  # a site may do without rules
            return Finding("WikiArt", "wrong", str(error), mend)
    except AtelierError as error:
        return Finding("WikiArt", "wrong", str(error), mend)
    return Finding("WikiArt", "ok", f"{site.base_url} answers")


def _tried(what: str, device: torch.device, told: Callable[[], str]) -> Finding:
    try:
        if not _multiplies(device):
            mend = "its memory or its cooling may be failing: train elsewhere until it is looked at"
            return Finding(what, "wrong", "a matrix product on it gives wrong numbers", mend)
        return Finding(what, "ok", told())
    except RuntimeError as error:  # torch's, for all that a device can refuse
        mend = "is another program using its memory? `nvidia-smi` lists them; else update the driver"
        return Finding(what, "wrong", str(error).splitlines()[0], mend)


def _multiplies(device: torch.device) -> bool:
    """Whole numbers, whose product is exact in float32 whatever the order of sums."""
    draws = torch.Generator().manual_seed(0)
    left, right = (torch.randint(-8, 9, (SIDE, SIDE), generator=draws, dtype=torch.float32) for _ in "ab")
    product = (left.to(device) @ right.to(device)).cpu()
    return torch.equal(product[::64], left[::64] @ right)


def _driver(path: Path) -> str | None:
    try:
        match = re.search(r"\b(\d{3,}(?:\.\d+)+)\b", path.read_text())
    except OSError:
        return None
    return match[1] if match else None


if __name__ == "__main__":
    ignore_output_errors()
    for finding in findings(Path("params.yaml")):
        print(json.dumps(asdict(finding)), flush=True)
