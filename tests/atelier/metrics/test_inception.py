"""FID and KID, with FID's network and random weights in the place of the real ones: known by their hash like those."""

import hashlib
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_fidelity import FeatureExtractorInceptionV3, calculate_metrics

from atelier.metrics import inception
from atelier.metrics.inception import Inception, InceptionUnavailable, read_inception_weights
from tests.bare import OK, Bare, bare
from tests.inception import random_weights

CPU = torch.device("cpu")
CLOSED = "http://127.0.0.1:9/weights.pth"


@cache
def digest() -> str:
    return hashlib.sha256(random_weights()).hexdigest()


@pytest.fixture(autouse=True)
def random_weights_are_the_known_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are enlarged to 75 px instead of 299, for speed."""
    monkeypatch.setattr(FeatureExtractorInceptionV3, "INPUT_IMAGE_SIZE", 75)
    monkeypatch.setattr(inception, "SHA256", digest())
    monkeypatch.setattr(inception, "SIZE_BYTES", len(random_weights()))
    monkeypatch.setattr(inception, "URL", CLOSED)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def cached(home: Path) -> Path:
    return home / "torch" / "hub" / "checkpoints" / inception.NAME


def pictures(seed: int, count: int = 12, brightest: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, brightest, (count, 32, 32, 3), dtype=np.uint8)


class Shown(torch.utils.data.Dataset):
    """Pictures as torch-fidelity takes them."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = torch.from_numpy(images).permute(0, 3, 1, 2)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self.images[row]


def test_kid_is_torch_fidelitys_of_the_same_pictures(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(random_weights())
    ours, theirs = pictures(0), pictures(1, brightest=200)
    found = Inception(random_weights(), CPU).distances(ours, theirs, pictures(2, brightest=200))
    expected = calculate_metrics(
        input1=Shown(ours), input2=Shown(theirs), kid=True, kid_subsets=1, kid_subset_size=len(ours), cuda=False,
        save_cpu_ram=True, feature_extractor_weights_path=str(path), cache=False, verbose=False,
    )  # fmt: skip
    assert found["kid"]["value"] == pytest.approx(expected["kernel_inception_distance_mean"], abs=1e-5)
    assert found["kid"]["value"] > 10 * abs(found["kid"]["floor"])
    assert found["fid"] > 0


def test_a_set_has_distance_0_from_itself_for_every_batch_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, images = Inception(random_weights(), CPU), pictures(0, count=7)
    whole = network.features(images)
    assert whole.shape == (7, 2048)
    assert network.distances(images, images, images[:3])["fid"] == pytest.approx(0, abs=1e-6)
    monkeypatch.setattr(inception, "BATCH", 3)
    assert torch.allclose(network.features(images), whole, atol=1e-4)


def test_a_given_file_is_read_without_a_network(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(random_weights())
    assert read_inception_weights(path) == random_weights()
    assert not cached(tmp_path).exists()


@pytest.mark.parametrize("change", [lambda _: b"", lambda _: b"cos\nsystem\n", lambda whole: whole[:-1] + b"x"])
def test_another_file_is_refused_before_anything_reads_it(tmp_path: Path, change) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(change(random_weights()))
    with pytest.raises(InceptionUnavailable, match=r"is not the file weights-inception.* was not read"):
        read_inception_weights(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InceptionUnavailable, match=r"there is no file .*gone\.pth"):
        read_inception_weights(tmp_path / "gone.pth")


def test_they_are_downloaded_once_into_torchs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = OK + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(random_weights())
    with bare([head, random_weights()]) as site:
        monkeypatch.setattr(inception, "URL", site.base_url)
        for _ in range(2):
            assert read_inception_weights(None) == random_weights()
        assert len(site.heads) == 1
    assert cached(tmp_path).read_bytes() == random_weights()
    assert [path.name for path in cached(tmp_path).parent.iterdir()] == [inception.NAME]


def test_a_damaged_file_in_the_cache_is_downloaded_anew(tmp_path: Path) -> None:
    cached(tmp_path).parent.mkdir(parents=True)
    cached(tmp_path).write_bytes(random_weights()[:1000])
    with pytest.raises(InceptionUnavailable, match="cannot be downloaded"):
        read_inception_weights(None)


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ([b"HTTP/1.1 404 no\r\nContent-Length: 0\r\n\r\n"], "it answered 404"),
        ([OK + b"Content-Length: 5\r\n\r\n", b"<html"], "answers with something else than weights-inception"),
        ([OK + b"Content-Length: 900\r\n\r\n", b"torn"], "cannot be downloaded"),
        ([OK + b"\r\n", b"x" * 3000, 0.2, b"x" * 3000], "answers with something else"),
        ([2.0], "no answer in time"),
    ],
    ids=["missing", "a page", "torn", "endless", "silent"],
)
def test_a_wrong_answer_of_the_server_is_never_kept(pieces, words, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(inception, "TIMEOUT_S", 0.5)
    monkeypatch.setattr(inception, "SIZE_BYTES", 2000)
    with bare(pieces) as site:
        monkeypatch.setattr(inception, "URL", site.base_url)
        with pytest.raises(InceptionUnavailable, match=words):
            read_inception_weights(None)
    assert not cached(tmp_path).exists()


@pytest.mark.parametrize("head", [OK + b"\r\n", OK + b"Content-Length: 64000000\r\n\r\n"], ids=["endless", "announced"])
def test_of_an_answer_that_is_too_large_little_is_read(head, tmp_path: Path, monkeypatch) -> None:
    sent: list[bytes] = []
    monkeypatch.setattr(inception, "SIZE_BYTES", 2000)
    with bare(large_answer(head, sent)) as site:
        monkeypatch.setattr(inception, "URL", site.base_url)
        with pytest.raises(InceptionUnavailable, match="answers with something else than weights-inception"):
            read_inception_weights(None)
    assert len(sent) < 500  # of 1000: some megabytes are in the buffers of the connection
    assert not cached(tmp_path).exists()


def test_a_redirect_is_followed_and_what_comes_with_it_is_not_read(tmp_path: Path, monkeypatch) -> None:
    sent: list[bytes] = []
    length = b"Content-Length: %d\r\n\r\n" % len(random_weights())
    site: Bare

    def redirect() -> Iterator[bytes]:
        yield from large_answer(f"HTTP/1.1 302 found\r\nLocation: {site.base_url}/there\r\n\r\n".encode(), sent)

    with bare(redirect(), [OK + length, random_weights()]) as site:
        monkeypatch.setattr(inception, "URL", site.base_url)
        assert read_inception_weights(None) == random_weights()
        assert "GET /there " in site.heads[1]
    assert len(sent) < 500


def large_answer(head: bytes, sent: list[bytes]) -> Iterator[bytes]:
    """A head and 64 MB; `sent` has what the connection took of them."""
    yield head
    for _ in range(1000):
        yield bytes(64_000)
        sent.append(head)


def test_without_a_network_it_says_where_to_put_the_file() -> None:
    with pytest.raises(InceptionUnavailable, match=r"\(no connection\): get that file .* evaluate\.inception_weights"):
        read_inception_weights(None)


def test_without_torch_fidelity_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(InceptionUnavailable, match=r"uv pip install .torch-fidelity>=.* \(the extra `inception`"):
        Inception(random_weights(), CPU)
