"""params.yaml as typed sections: every knob, what it may hold, and an error a person can act on.

The comments of params.yaml say what each knob means; this file says what it may hold.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from atelier.errors import AtelierError
from atelier.settings.messages import describe_errors, join_with_or, read_yaml, to_plain
from atelier.web.hosts import is_loopback

Seed = Annotated[int, Field(ge=0, lt=2**31)]
Rate = Annotated[float, Field(gt=0, le=1000)]
Device = Literal["auto", "cpu", "cuda", "mps"]
Resolution = Literal[32, 64, 128, 256, 512]
Arch = Literal["dcgan", "r3gan", "sketch"]  # each has its section of that name in `train`
Layout = Literal["random", "line", "smooth", "panorama"]
Normalise = Literal["overlap", "batch", "none"]
ARCHS: tuple[str, ...] = get_args(Arch)


class Section(BaseModel):
    """A part of params.yaml: unknown keys are refused, "3" is no number, nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class WikiArt(Section):
    base_url: str = Field(
        "https://www.wikiart.org",
        pattern=r"^https?://[^/\s]+/?$",
        description="an address like https://www.wikiart.org",
    )
    genre: str | None = Field(
        "landscape", pattern=r"^[a-z0-9-]+$", description="null or a slug that `atelier genres` lists"
    )
    style: str | None = Field(
        None, pattern=r"^[a-z0-9-]+$", description="null or a slug that `atelier styles` lists"
    )
    artist: str | None = Field(
        None,
        pattern=r"^[a-z0-9-]+$",
        description="null or an artist as in WikiArt's addresses, claude-monet say",
    )
    rights: Literal["public-domain", "any"] = "any"
    limit: Annotated[int, Field(ge=1)] | None = None
    rate_per_s: Rate = 1.0
    max_requests: Annotated[int, Field(ge=1)] | None = None
    contact: str = Field(
        "", max_length=200, pattern=r"^[\x21-\x7e]*$", description="an e-mail address or a URL"
    )
    may_train: bool = False


class Gallery(Section):
    works: int = Field(600, ge=8, le=100_000)
    seed: Seed = 1
    size_px: int = Field(512, ge=128, le=4096)


class Folder(Section):
    path: str | None = None
    catalog: str | None = None

    def image_folder(self) -> Path:
        """The folder that `path` names, relative to the current directory, which is the studio's root.

        Raises AtelierError where `path` is empty, or names the studio itself or a place where its stages write.
        """
        key = f"scrape.folder.path holds {self.path!r}"
        if not self.path or not self.path.strip():
            raise AtelierError(f"{key}: name the folder that your pictures lie in")
        folder = _expanded(self.path, key)
        try:
            target, studio = folder.resolve(), Path.cwd().resolve()
        except (OSError, RuntimeError, ValueError) as error:  # a loop of links; a NUL
            raise AtelierError(f"{key}, which leads nowhere ({error})") from None
        if target == studio:
            raise AtelierError(
                f"{key}, which is the studio itself with all that it made: name the folder that your pictures lie in"
            )
        for written in ("data", ".atelier", ".dvc", ".git"):
            if target.is_relative_to(studio / written):
                raise AtelierError(
                    f"{key}, which lies in {written}/, where the studio keeps what it makes: "
                    "move your pictures into a folder of their own and name that"
                )
        return folder

    def catalog_file(self) -> Path | None:
        """The CSV that `catalog` names; None where it names none."""
        return (
            _expanded(self.catalog, f"scrape.folder.catalog holds {self.catalog!r}") if self.catalog else None
        )


class Scrape(Section):
    source: Literal["gallery", "wikiart", "folder"] = "gallery"
    snapshot: str = Field(
        "2026-11-22", pattern=r"^\d{4}-\d{2}-\d{2}$", description='a quoted date like "2026-11-22"'
    )
    wikiart: WikiArt = WikiArt()
    gallery: Gallery = Gallery()
    folder: Folder = Folder()

    @model_validator(mode="after")
    def _a_folder_is_named(self) -> Self:
        if self.source == "folder" and not (self.folder.path or "").strip():
            raise ValueError(
                f"scrape.folder.path holds {self.folder.path!r}; it may hold the folder that your pictures lie in, "
                "since scrape.source holds folder"
            )
        return self

    @model_validator(mode="after")
    def _wikiart_can_be_asked(self) -> Self:
        if self.source != "wikiart":
            return self
        asked = [name for name in ("genre", "style", "artist") if getattr(self.wikiart, name)]
        if len(asked) != 1:
            held = ", ".join(asked) or "none"
            raise ValueError(
                f"scrape.wikiart: set exactly one of genre, style and artist, the others null; set now: {held}"
            )
        if not self.wikiart.contact and not is_loopback(self.wikiart.base_url):
            raise ValueError(
                "scrape.wikiart.contact holds ''; it may hold an e-mail address or a URL, so that WikiArt can reach you"
            )
        return self


class Download(Section):
    size_px: Annotated[int, Field(ge=32, le=8192)] | None = 512
    workers: int = Field(8, ge=1, le=256)
    engine: Literal["threads", "processes", "dask"] = "threads"
    dask_address: str | None = Field(
        None,
        pattern=r"^(tcp|tls)://[^/\s]+:\d+$",
        description="null or a Dask scheduler's address like tcp://10.0.0.5:8786",
    )
    rate_per_s: Rate = 2.0
    retries: int = Field(6, ge=0, le=50)
    timeout_s: float = Field(30.0, gt=0, le=3600)
    min_side_px: int = Field(64, ge=1, le=8192)
    max_pixels: int = Field(120_000_000, ge=4096)
    max_bytes: int = Field(100_000_000, ge=1024)


class Augment(Section):
    resolution: Resolution = 64
    crop: Literal["center", "random"] = "center"
    mirror: bool = True
    held_out: float = Field(0.1, ge=0.02, le=0.5)
    near_duplicates: Literal["exclude", "keep"] = "exclude"


class Dcgan(Section):
    nz: int = Field(100, ge=1, le=4096)
    ngf: int = Field(24, ge=1, le=1024)
    ndf: int = Field(12, ge=1, le=1024)


class R3gan(Section):
    preset: Literal["S", "M", "L"] = "S"
    nz: int = Field(64, ge=1, le=4096)


class Sketch(Section):
    nz: int = Field(100, ge=1, le=4096)
    ngf: int = Field(24, ge=1, le=1024)
    ndf: int = Field(24, ge=1, le=1024)
    noise: Annotated[int, Field(ge=0, le=1024)] | None = 8

    @model_validator(mode="after")
    def _noise_has_features_to_be_as_strong_as(self) -> Self:
        if self.noise is not None and self.noise > self.ngf:
            raise ValueError(
                f"train.sketch.noise holds {self.noise}; it may hold at most {self.ngf} (train.sketch.ngf)"
            )
        return self


AUTO_BATCH: Mapping[Arch, int] = {"dcgan": 64, "r3gan": 64, "sketch": 32}


class Train(Section):
    arch: Arch = "sketch"
    init_from: str | None = Field(
        "auto",
        pattern=r"^(auto|base)$|-[0-9a-f]{16}/?$",
        description="auto, base, null or a model in models/, as `atelier import` names it",
    )
    kimg: float = Field(64, ge=0, le=1e7)
    batch: Annotated[int, Field(ge=2, le=8192)] | Literal["auto"] = Field(
        "auto", description="auto, or a whole number at least 2 and at most 8192"
    )
    seed: Seed = 0
    generation: int = Field(0, ge=0)
    device: Device = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    gpus: Annotated[int, Field(ge=1, le=4096)] | Literal["auto"] = Field(
        "auto", description="auto or a whole number from 1 up"
    )
    snapshot_kimg: float = Field(20, gt=0)
    lr: float = Field(2e-4, gt=0, le=1)
    lr_discriminator: Annotated[float, Field(gt=0, le=1)] | None = None
    lr_decay: Annotated[float, Field(ge=0, le=1)] | Literal["auto", "cosine"] = Field(
        "auto", description="auto, a number at least 0 and at most 1, or cosine"
    )
    beta1: Annotated[float, Field(ge=0, lt=1)] | Literal["auto"] = Field(
        "auto", description="auto, or a number at least 0 and below 1"
    )
    beta2: Annotated[float, Field(ge=0, lt=1)] | Literal["auto", "rising"] = Field(
        "auto", description="auto, a number at least 0 and below 1, or rising"
    )
    optimizer: Literal["auto", "adam", "muon"] = "auto"
    muon_lr: float = Field(0.01, gt=0, le=1)
    muon_lr_discriminator: Annotated[float, Field(gt=0, le=1)] | None = None
    warm_start: Annotated[float, Field(ge=0, lt=1)] | Literal["auto"] = Field(
        "auto", description="auto, or a number at least 0 and below 1"
    )
    loss: Literal["auto", "nonsaturating", "relativistic"] = "auto"
    gamma: Annotated[float, Field(ge=0, le=1e5)] | None = None
    ema: Annotated[float, Field(ge=0, lt=1)] | Literal["auto", "power"] = Field(
        "auto", description="auto, a number at least 0 and below 1, or power"
    )
    augment: list[Literal["translation", "brightness", "saturation", "contrast", "cutout"]] = [
        "translation",
        "brightness",
    ]
    augment_probability: Annotated[float, Field(ge=0, le=1)] | Literal["auto", "by-size", "adaptive"] = Field(
        "auto", description="auto, a number at least 0 and at most 1, by-size or adaptive"
    )
    pick: Literal["last", "best"] = "last"
    minutes: Annotated[float, Field(gt=0)] | None = None
    on_collapse: Literal["stop", "rollback", "ignore"] = "stop"
    dcgan: Dcgan = Dcgan()
    r3gan: R3gan = R3gan()
    sketch: Sketch = Sketch()

    @property
    def step_batch(self) -> int:
        """Pictures a step: `batch`, or what the architecture has for auto."""
        return AUTO_BATCH[self.arch] if self.batch == "auto" else self.batch

    @model_validator(mode="after")
    def _a_batch_has_equal_parts(self) -> Self:
        which = f", {self.step_batch} for {self.arch}" if self.batch == "auto" else ""
        if self.gpus != "auto" and self.step_batch % self.gpus:
            raise ValueError(
                f"train.batch holds {self.batch}{which}; it may hold a multiple of {self.gpus} (train.gpus), "
                "so that each has an equal part"
            )
        return self

    @model_validator(mode="after")
    def _something_paints(self) -> Self:
        if self.kimg == 0 and self.init_from in (None, "auto"):
            raise ValueError(
                "train.kimg holds 0; it may hold a number above 0, and 0 only where train.init_from is base or a model"
            )
        return self


class Evaluate(Section):
    samples: int = Field(600, ge=32, le=100_000)
    seed: Seed = 0
    device: Device = "auto"
    inception: bool = False
    inception_weights: str | None = None


class Generate(Section):
    count: int = Field(64, ge=1, le=100_000)
    seed: Seed = 1
    canvas: list[Annotated[int, Field(ge=1, le=4096)]] = Field([1, 1], min_length=2, max_length=2)
    layout: Layout = "random"
    normalise: Normalise = "overlap"
    seamless: bool = False
    truncation: float = Field(1.0, ge=0, le=2)
    pick: str | None = Field(
        None, pattern=r"^[1-9]\d{0,3} of [1-9]\d{0,3}$", description="null or a share like 1 of 4"
    )
    device: Device = "cpu"

    @model_validator(mode="after")
    def _a_pick_is_a_choice(self) -> Self:
        if self.pick is None:
            return self
        keep, of = map(int, self.pick.split(" of "))
        if keep >= of or self.canvas != [1, 1]:
            raise ValueError(
                f"generate.pick holds {self.pick}; it may hold a share like 1 of 4, fewer of more, and that only with "
                "canvas [1, 1], the size that the discriminator judges"
            )
        return self


class TrainUpscaler(Section):
    scale: Literal[2, 4] = 2
    steps: int = Field(900, ge=1)
    features: int = Field(48, ge=4, le=256)
    blocks: int = Field(8, ge=1, le=64)
    patch_px: int = Field(32, ge=8, le=512)
    batch: int = Field(4, ge=1, le=1024)
    lr: float = Field(1e-3, gt=0, le=1)
    blur_px: float = Field(0.5, ge=0, le=3)
    seed: Seed = 0
    paintings: int = Field(1000, ge=2, le=100_000)
    device: Device = "auto"


class External(Section):
    path: str | None = None
    sha256: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="null or the file's SHA-256, 64 of 0-9 and a-f"
    )


class Print(Section):
    width_mm: Annotated[float, Field(gt=0, le=100_000)] | None = None
    dpi: float = Field(300, ge=10, le=10_000)


class Upscale(Section):
    method: Literal["learned", "external", "lanczos"] = "learned"
    scale: Literal[2, 4, 8] = 4
    bits: Literal[8, 16] = 8
    print: Print = Print()
    external: External = External()
    device: Device = "cpu"

    @model_validator(mode="after")
    def _an_external_network_is_named(self) -> Self:
        if self.method == "external" and None in (self.external.path, self.external.sha256):
            raise ValueError(
                "upscale.method holds external; upscale.external may then hold no null: a path and its file's sha256"
            )
        return self


class Nightly(Section):
    mode: Literal["continue", "fresh"] = "continue"
    kimg: Annotated[float, Field(gt=0, le=1e7)] | None = None
    gate: float = Field(0.95, ge=0.5, lt=1)
    branch: str = Field(
        "nightly",
        max_length=100,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*([./][A-Za-z0-9_-]+)*$",
        description="a branch's name like nightly or robot/nightly",
    )
    notify: str | None = Field(
        None,
        pattern=r"^(https?://[^\s]+|[a-z0-9-]+/[a-z0-9-]+)$",
        description="null, an address like https://example.org/hook, or a Prefect block like slack-webhook/studio",
    )


class Params(Section):
    """All of params.yaml."""

    scrape: Scrape = Scrape()
    download: Download = Download()
    augment: Augment = Augment()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    generate: Generate = Generate()
    train_upscaler: TrainUpscaler = TrainUpscaler()
    upscale: Upscale = Upscale()
    nightly: Nightly = Nightly()

    @model_validator(mode="after")
    def _sections_fit_each_other(self) -> Self:
        if self.upscale.method == "learned" and self.upscale.scale not in _powers(self.train_upscaler.scale):
            raise ValueError(
                f"upscale.scale holds {self.upscale.scale}; with train_upscaler.scale {self.train_upscaler.scale} "
                f"it may hold {join_with_or(_powers(self.train_upscaler.scale))}"
            )
        size_px = self.download.size_px
        if size_px is not None and size_px < self.augment.resolution:
            raise ValueError(
                f"download.size_px holds {size_px}; it may hold null or a whole number "
                f"from {self.augment.resolution} (augment.resolution) up"
            )
        return self


def _expanded(path: str, key: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:  # an unknown user, or one without a home directory
        raise AtelierError(
            f"{key}: no home directory is known for {Path(path).parts[0]}: write the whole path"
        ) from None


def load_params(path: Path, content: bytes | None = None) -> Params:
    """Read and check params.yaml, or `content` in its place, in whose errors `path` stands for it.

    Raises AtelierError naming every bad key, its line, what it holds and what it may hold.
    """
    try:
        document = read_yaml(path, content)
    except FileNotFoundError:
        raise AtelierError(f"{path} is missing: restore it with `git checkout {path}`") from None
    if not isinstance(document, Mapping):
        raise AtelierError(f"{path} holds no sections: restore it with `git checkout {path}`")
    try:
        return Params.model_validate(to_plain(document))
    except ValidationError as error:
        raise AtelierError("\n".join(describe_errors(path, document, error, Params))) from None


def _powers(scale: int) -> list[int]:
    return [scale**n for n in (1, 2, 3) if scale**n <= 8]
