"""Convert a generator to ONNX, and compare the file with the generator.

The input `z` has the numbers of one picture along its second axis, standard normal: first the latent, then the grain
(see `FieldGenerator`). The output `images` is (batch, 3, H, W) in about [−1, 1]. The file's metadata says how many
numbers of each there are, and which generator it was made of.
"""

import contextlib
import io
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from atelier.errors import AtelierError
from atelier.files import digest, write_bytes
from atelier.networks import load_generator
from atelier.networks.latent_field import FieldGenerator, draw_inputs

if TYPE_CHECKING:
    import onnx

OPSET = 20  # of ONNX 1.15 (2023); onnxruntime reads it from 1.17 on
INPUT, OUTPUT = "z", "images"
EXAMPLE_FIELD = (2, 3)  # cells; two sizes that differ, so that neither is taken for a constant
VERIFIED_PICTURES = 100
TOLERANCE = 1.0  # of 255: float32 rounds differently in other programs


def convert(path: Path, batch: int | None = None, field: bool = False) -> bytes:
    """Return a generator.safetensors as an ONNX file in float32; equal inputs give equal bytes.

    The file takes `batch` pictures at once, (batch, inputs), or any number for None; with `field` a field of latents of
    any size, (1, inputs, rows, columns). Raises AtelierError if the generator cannot be read, or onnx is not installed.
    """
    generator, header = load_generator(path)
    example = torch.zeros(1, generator.inputs, *EXAMPLE_FIELD) if field else torch.zeros(batch or 2, generator.inputs)
    sizes: dict[int, Any] = {2: torch.export.Dim("rows"), 3: torch.export.Dim("columns")} if field else {}
    if batch is None and not field:
        sizes = {0: torch.export.Dim("batch")}
    model = _traced(generator, example, sizes)
    _strip(model)
    facts = {
        "arch": header["arch"],
        "generator_sha256": digest(path),
        "grain_numbers": str(generator.grain_numbers),
        "latent_numbers": str(generator.nz),
        "resolution": str(header["resolution"]),
    }
    if generator.labels:  # their weights are the inputs behind the latent
        facts["labels"] = json.dumps(generator.labels.names)
    for name, value in facts.items():
        model.metadata_props.add(key=name, value=value)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def export(path: Path, to: Path, batch: int | None = None) -> str:
    """Write an ONNX file of a generator and compare it with the generator; return a sentence about the result.

    Raises AtelierError as `convert` does, and, without writing anything, where the pictures differ by more than
    `TOLERANCE` or onnxruntime is not installed.
    """
    content = convert(path, batch)
    largest = largest_difference(content, path)
    if largest > TOLERANCE:
        raise AtelierError(
            f"onnxruntime renders pictures of {path} that differ by {largest:.3g} of 255, more than {TOLERANCE:g}: "
            "nothing was written; please report it with the versions that `atelier doctor` prints"
        )
    write_bytes(to, content)
    size = "any number of pictures" if batch is None else f"{batch} pictures" if batch > 1 else "one picture"
    return (
        f"{to}: {len(content) / 1e6:.1f} MB, opset {OPSET}, for {size} at once; the {VERIFIED_PICTURES} pictures that "
        f"were compared differ by at most {largest:.2g} of 255"
    )


def largest_difference(content: bytes, path: Path) -> float:
    """The largest difference of pixels between onnxruntime and the generator, in 255ths, in pictures of seed 0."""
    runtime = _import("onnxruntime")
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    generator = load_generator(path)[0]
    (shape,) = (entry.shape for entry in session.get_inputs())
    step = shape[0] if isinstance(shape[0], int) else 10
    largest = 0.0
    for start in range(0, VERIFIED_PICTURES, step):
        z = torch.cat([draw_inputs(generator, 0, index) for index in range(start, start + step)])
        (images,) = session.run(None, {INPUT: z.numpy()})
        with torch.inference_mode():
            difference = np.abs(images.clip(-1, 1) - generator(z).clamp(-1, 1).numpy())
        largest = max(largest, float(difference.max()) * 127.5)
    return largest


def _traced(generator: FieldGenerator, example: torch.Tensor, sizes: dict[int, Any]) -> "onnx.ModelProto":
    _import("onnxscript")
    # the exporter prints its progress, and warns of what other models would need
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.inference_mode():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            generator, (example,), dynamo=True, opset_version=OPSET, dynamic_shapes=(sizes,),
            input_names=[INPUT], output_names=[OUTPUT], verbose=False,
        )  # fmt: skip
    assert program is not None
    return program.model_proto


def _strip(model: "onnx.ModelProto") -> None:
    """Remove what tells about the machine and the source code: stack traces with paths, names of modules."""
    model.producer_name, model.producer_version = "atelier", ""
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.functions):
        del part.metadata_props[:]
        part.doc_string = ""


def _import(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise AtelierError(f"ONNX needs the package {name}: `uv pip install {name}`") from None
