"""The best of each group of candidates are picked by the discriminator's score."""

from pathlib import Path

import numpy as np
import pytest
import torch

from atelier.canvas.artworks import Judge, best_of
from atelier.errors import AtelierError
from atelier.networks import NetworkConfig, make_networks, save_network
from tests.models import SMALL

SCORES = [3, 9, 9, 1, 5, 0, 7, 2, 4, 4, 4, 4]  # of the candidates 0, 1, 2 …


def chosen(pick: str, count: int) -> list[int]:
    keep, of = map(int, pick.split(" of "))
    return list(best_of(keep, of, count, lambda index: float(SCORES[index])))


def test_the_best_of_each_group_are_picked_and_the_first_of_equals() -> None:
    assert chosen("1 of 4", 3) == [1, 6, 8]
    assert chosen("2 of 4", 6) == [1, 2, 6, 4, 8, 9]


def test_a_larger_count_keeps_what_a_smaller_one_picked() -> None:
    for pick in ("1 of 2", "1 of 3", "2 of 3", "3 of 4"):
        most = chosen(pick, 4)
        assert all(chosen(pick, count) == most[:count] for count in range(1, 5))


def test_no_candidate_beyond_the_last_group_is_scored() -> None:
    assert chosen("1 of 12", 1) == [1]  # a thirteenth does not exist here


@pytest.mark.parametrize(
    "network",
    [
        SMALL,
        NetworkConfig("sketch", 32, {"nz": 16, "ngf": 8, "ndf": 8, "noise": 4}),
        NetworkConfig("r3gan", 32, {"preset": "S", "nz": 16}),
    ],
    ids=lambda network: network.arch,
)
def test_a_picture_has_the_same_score_alone_and_in_a_batch(tmp_path: Path, network: NetworkConfig) -> None:
    torch.manual_seed(0)
    _, discriminator = make_networks(network)
    save_network(tmp_path / "d.safetensors", discriminator, network, {})
    pictures = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    judge = Judge(tmp_path / "d.safetensors", torch.device("cpu"))
    scores = [judge.score(picture) for picture in pictures]
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1
    assert np.allclose(scores, discriminator.eval()(images).detach(), atol=1e-4)
    assert len(set(scores)) == 5


def test_another_size_and_a_diverged_discriminator_are_refused(tmp_path: Path) -> None:
    _, discriminator = make_networks(SMALL)
    with torch.no_grad():
        discriminator.layers[0].weight.fill_(torch.nan)
    save_network(tmp_path / "d.safetensors", discriminator, SMALL, {})
    judge = Judge(tmp_path / "d.safetensors", torch.device("cpu"))
    with pytest.raises(AtelierError, match="judges pictures of 32 × 32 px, these have 64 × 32"):
        judge.score(np.zeros((32, 64, 3), np.uint8))
    with pytest.raises(AtelierError, match="its training diverged"):
        judge.score(np.zeros((32, 32, 3), np.uint8))


def test_a_file_without_a_discriminator_is_refused_with_a_message(tmp_path: Path) -> None:
    with pytest.raises(AtelierError, match="dvc repro train"):
        Judge(tmp_path / "none.safetensors", torch.device("cpu"))
    generator, _ = make_networks(SMALL)
    save_network(tmp_path / "g.safetensors", generator, SMALL, {})
    with pytest.raises(AtelierError, match="does not hold the weights of its dcgan"):
        Judge(tmp_path / "g.safetensors", torch.device("cpu"))
