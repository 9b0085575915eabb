"""Pictures on a run's page."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.orchestration.run_page import PICTURE_BYTES, picture_data_url


@pytest.mark.parametrize("size", [(64, 48), (3000, 1000)])
def test_a_picture_of_any_size_becomes_a_small_data_url(tmp_path: Path, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)  # noise compresses worst
    Image.fromarray(pixels).save(tmp_path / "grid.png")
    kind, _, content = picture_data_url(tmp_path / "grid.png").partition(",")
    assert kind == "data:image/webp;base64"
    packed = base64.b64decode(content)
    assert len(packed) <= PICTURE_BYTES
    with Image.open(io.BytesIO(packed)) as shown:
        assert shown.size[0] / shown.size[1] == pytest.approx(size[0] / size[1], rel=0.02)


def test_a_missing_or_damaged_picture_raises_os_error(tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(b"\x89PNG")
    for name in ("absent.png", "torn.png"):
        with pytest.raises(OSError):
            picture_data_url(tmp_path / name)
