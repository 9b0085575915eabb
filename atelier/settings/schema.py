"""The sections of params.yaml as pydantic models: types, ranges, defaults. The comments there explain each key."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from atelier.errors import join_with_or
from atelier.settings.base import Device, LearningRate, Rate, Resolution, Section, Seed, Sha256, Slug
from atelier.settings.training import Train
from atelier.web.limits import is_loopback

Layout = Literal["random", "line", "smooth", "panorama"]
Normalise = Literal["overlap", "batch", "none"]


class WikiArt(Section):
    base_url: str = Field(
        "https://www.wikiart.org",
        pattern=r"^https?://[^/\s]+/?$",
        description="an address like https://www.wikiart.org",
    )
    genre: Slug | None = Field("landscape", description="null or a slug that `atelier genres` lists")
    style: Slug | None = Field(None, description="null or a slug that `atelier styles` lists")
    artist: Slug | None = Field(None, description="null or an artist's slug at WikiArt like claude-monet")
    rights: Literal["public-domain", "any"] = "any"
    limit: Annotated[int, Field(ge=1)] | None = None
    rate_per_s: Rate = 1.0
    max_requests: Annotated[int, Field(ge=1)] | None = None
    contact: str = Field("", max_length=200, pattern=r"^[!-~]*$", description="an e-mail address or a URL")
    may_train: bool = False


class Gallery(Section):
    works: int = Field(600, ge=8, le=100_000)
    seed: Seed = 1
    size_px: int = Field(512, ge=128, le=4096)


class Folder(Section):
    path: str | None = None
    catalog: str | None = None


class Scrape(Section):
    source: Literal["gallery", "wikiart", "folder"] = "gallery"
    snapshot: str = Field("2026-11-22", pattern=r"^\d{4}-\d{2}-\d{2}$", description='a quoted date like "2026-11-22"')
    wikiart: WikiArt = WikiArt()
    gallery: Gallery = Gallery()
    folder: Folder = Folder()

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if self.source == "folder" and not (self.folder.path or "").strip():
            raise ValueError(
                f"scrape.folder.path holds {self.folder.path!r}; it may hold the folder that your pictures are in, "
                "since scrape.source holds folder"
            )
        if self.source == "wikiart":
            named = [name for name in ("genre", "style", "artist") if getattr(self.wikiart, name)]
            if len(named) != 1:
                raise ValueError(
                    "scrape.wikiart: set exactly one of genre, style and artist, the others null; "
                    f"set now: {', '.join(named) or 'none'}"
                )
            if not self.wikiart.contact and not is_loopback(self.wikiart.base_url):
                raise ValueError(
                    "scrape.wikiart.contact holds ''; it may hold an e-mail address or a URL for WikiArt to reach you"
                )
        return self


class Download(Section):
    size_px: Annotated[int, Field(ge=32, le=8192)] | None = 512
    workers: int = Field(8, ge=1, le=256)
    engine: Literal["threads", "processes", "dask"] = "threads"
    dask_address: str | None = Field(
        None, pattern=r"^(tcp|tls)://[^/\s]+:\d+$", description="null or an address like tcp://10.0.0.5:8786"
    )
    rate_per_s: Rate = 2.0
    retries: int = Field(6, ge=0, le=50)
    timeout_s: float = Field(30.0, gt=0, le=3600)
    min_side_px: int = Field(64, ge=1, le=8192)
    max_pixels: int = Field(120_000_000, ge=4096)
    max_bytes: int = Field(100_000_000, ge=1024)


class Augment(Section):
    resolution: Resolution = 64
    aspect: Literal["square", "3:2", "4:3", "16:9", "2:3", "3:4", "9:16", "as the set"] = "square"
    crop: Literal["center", "random"] = "center"
    crops: int = Field(1, ge=1, le=64)
    mirror: bool = True
    held_out: float = Field(0.1, ge=0.02, le=0.5)
    near_duplicates: Literal["exclude", "keep"] = "exclude"


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
    label: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    pick: str | None = Field(None, pattern=r"^[1-9]\d{0,3} of [1-9]\d{0,3}$", description="null or a share like 1 of 4")
    device: Device = "cpu"

    @model_validator(mode="after")
    def _check_pick(self) -> Self:
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
    lr: LearningRate = 1e-3
    blur_px: float = Field(0.5, ge=0, le=3)
    seed: Seed = 0
    paintings: int = Field(1000, ge=2, le=100_000)
    device: Device = "auto"


class External(Section):
    path: str | None = None
    sha256: Sha256 | None = Field(None, description="null or the file's SHA-256, 64 of 0-9 and a-f")


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
    def _check_external(self) -> Self:
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
    def _check_across_sections(self) -> Self:
        network = self.train_upscaler.scale
        reachable = [network**passes for passes in (1, 2, 3) if network**passes <= 8]
        if self.upscale.method == "learned" and self.upscale.scale not in reachable:
            raise ValueError(
                f"upscale.scale holds {self.upscale.scale}; with train_upscaler.scale {network} "
                f"it may hold {join_with_or(reachable)}"
            )
        size_px = self.download.size_px
        if size_px is not None and size_px < self.augment.resolution:
            raise ValueError(
                f"download.size_px holds {size_px}; it may hold null or a whole number "
                f"from {self.augment.resolution} (augment.resolution) up"
            )
        return self
