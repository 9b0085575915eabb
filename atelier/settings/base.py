"""The base class of the sections of params.yaml, and types that several of them use."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Seed = Annotated[int, Field(ge=0, lt=2**31)]
Rate = Annotated[float, Field(gt=0, le=1000)]
Device = Literal["auto", "cpu", "cuda", "mps"]
PaintingPrecision = Literal["float64", "float32"]  # not set by the user: it follows from the device
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
BelowOne = Annotated[float, Field(ge=0, lt=1)]  # a share, a momentum or a decay
Share = Annotated[float, Field(ge=0, le=1)]
LearningRate = Annotated[float, Field(gt=0, le=1)]
Resolution = Literal[32, 64, 128, 256, 512]


class Section(BaseModel):
    """A part of params.yaml. Frozen; unknown keys are errors, and so are values of another type ("3" for 3)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
