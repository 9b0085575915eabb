"""Labels: the classes of the paintings that a model was trained on, and the layers that use them.

A label is a vector of weights, one number for each class: 1 for one class and 0 for the others, all 0 for no label, or
shares of several classes between two labels. The generator adds a weighted sum of one vector for each class to the
first features of a latent, which is the embedding of the label, joined to the latent, in the first layer. The
discriminator is a projection discriminator (Miyato & Koyama, arXiv 1802.05637), as R3GAN's (arXiv 2501.05441): the
logit of its features, plus their product with the label's vector. All these vectors begin at zero, so a label changes
nothing before it is trained, and no label is the network without labels.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from atelier.errors import AtelierError
from atelier.pictures import Cells

MIN_WORKS = 20  # of a class: with fewer, pictures of it would be copies of them
MAX_CLASSES = 64
# vectors are the weights times it, which speeds up their learning: with 1, a short training from a model without labels
# paints nearly the same for all of them (bench/RESULTS.md)
GAIN = 4.0
MAX_NAME = 200  # characters
MAX_SHOWN = 8  # of the small classes, in a log
OTHER = "other"  # the class of all works whose class is too small
NONE = "none"  # the name for a picture without a label
LABEL_SETTINGS = ("labels", "label_counts", "labels_of", "unlabelled")  # of a network, see `Labels.settings`
EMBEDDING = "embed.weight"  # of both networks: a row for each class

Mixture = Sequence[tuple[str, float]]  # classes and their weights


@dataclass(frozen=True)
class Labels:
    """The classes of a model: `names`, the number of training paintings of each, and of those without, `unlabelled`.

    `kind` is the column of the catalog that they are from, for example "genre".
    """

    kind: str
    names: tuple[str, ...]
    counts: tuple[int, ...]
    unlabelled: int = 0

    @classmethod
    def of(cls, kind: str, values: Sequence[str]) -> Self:
        """The classes of training paintings, from a text for each, which is empty where it is unknown.

        A class with fewer than MIN_WORKS paintings, or beyond the MAX_CLASSES − 1 largest, goes into OTHER; if that has
        fewer as well, its paintings have no label. Raises AtelierError where fewer than two classes are left.
        """
        counts = Counter(filter(None, map(_class_name, values)))
        large = [name for name in counts if counts[name] >= MIN_WORKS and name != OTHER]
        names = sorted(large, key=lambda name: (-counts[name], name))[: MAX_CLASSES - 1]
        others = sum(counts.values()) - sum(counts[name] for name in names)
        numbers = [counts[name] for name in names]
        if others >= MIN_WORKS:
            names, numbers = [*names, OTHER], [*numbers, others]
        if len(names) < 2:
            found = f"only {names[0]}, of {numbers[0]:,} paintings" if names else "no painting has one"
            raise AtelierError(
                f"train.labels holds {kind}, which needs two classes of {MIN_WORKS} training paintings or more; there "
                f"is {found}: set train.labels to none, or to another of genre, style, artist and source"
            )
        return cls(kind, tuple(names), tuple(numbers), len(values) - sum(numbers))

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self | None:
        """The classes in the settings of a network; None without any. Raises ValueError where they are damaged."""
        if "labels" not in settings:
            return None
        damaged = ValueError("the names or the counts of its labels are damaged")
        found: list[Any] = [settings.get(name) for name in LABEL_SETTINGS]
        names, counts, kind, unlabelled = found
        if not (isinstance(names, list) and isinstance(counts, list)):
            raise damaged
        labels = cls(kind, tuple(names), tuple(counts), unlabelled)
        named = all(isinstance(name, str) and _class_name(name) == name for name in (*labels.names, labels.kind))
        counted = all(type(count) is int and 0 <= count < 2**40 for count in (*labels.counts, labels.unlabelled))
        size = 0 < len(labels.names) == len(labels.counts) <= MAX_CLASSES
        if not (named and counted and size and len({*labels.names}) == len(labels.names) and any(labels.counts)):
            raise damaged
        return labels

    def settings(self) -> dict[str, Any]:
        """The classes as settings of a network, which its files contain."""
        values = ([*self.names], [*self.counts], self.kind, self.unlabelled)
        return dict(zip(LABEL_SETTINGS, values, strict=True))

    def in_words(self, values: Sequence[str]) -> str:
        """The classes, how many paintings each has, and what is in OTHER. `values` are those that `of` received."""
        words = [f"{name} {count:,}" for name, count in zip(self.names, self.counts, strict=True)]
        named = Counter(filter(None, map(_class_name, values)))
        folded = Counter({name: named[name] for name in named if name not in self.names and name != OTHER})
        small = ", ".join(f"{name} {count}" for name, count in folded.most_common(MAX_SHOWN))
        small += f", and {len(folded) - MAX_SHOWN} more" if len(folded) > MAX_SHOWN else ""
        small = f" (fewer than {MIN_WORKS} each, or beyond {MAX_CLASSES} classes: {small})" if small else ""
        if OTHER in self.names:
            words[-1] += small
        elif named.total() > sum(self.counts):
            words.append(f"{named.total() - sum(self.counts)} in smaller classes have no label{small}")
        without = len(values) - named.total()
        return f"labels by {self.kind}: {', '.join(words)}" + (
            f"; {without:,} without a {self.kind}" if without else ""
        )

    def rows(self, values: Sequence[str]) -> Tensor:
        """The class of each work as its number (n,), −1 where it has none, from a text for each."""
        numbers = {name: number for number, name in enumerate(self.names)}
        other = numbers.get(OTHER, -1)
        return torch.tensor([numbers.get(name, other) if (name := _class_name(value)) else -1 for value in values])

    def one_hot(self, rows: Tensor) -> Tensor:
        """The weights (n, classes) of classes (n,), float32; all zero for −1."""
        return (rows[:, None] == torch.arange(len(self.names))).float()

    def weights(self, label: str | Mixture | None) -> Tensor:
        """The weights (classes,) of a class, of a mixture of classes, or of None or NONE, float32.

        Raises AtelierError, which lists the classes, for one that the model does not have.
        """
        pairs: Mixture = [(label, 1.0)] if isinstance(label, str) else label or []
        weights = torch.zeros(len(self.names), dtype=torch.float64)
        for name, weight in pairs:
            if name == NONE:
                continue
            if name not in self.names:
                raise AtelierError(f"the model has no label {name!r}; its labels are {', '.join(self.names)}")
            weights[self.names.index(name)] += weight
        return weights.float()

    def draw(self, seed: int, index: int) -> str:
        """The label of picture `index` of a seed: each class, and NONE, as often as in the training set."""
        key = hashlib.sha256(f"atelier-label/1:{seed}:{index}".encode()).digest()
        place = int.from_bytes(key[:8], "big") % (sum(self.counts) + self.unlabelled)
        for name, count in zip(self.names, self.counts, strict=True):
            if place < count:
                return name
            place -= count
        return NONE

    def sample(self, count: int, draws: torch.Generator) -> Tensor:
        """The weights (count, classes) of random labels, as often as in the training set, float32 on the CPU."""
        frequencies = torch.tensor([*self.counts, self.unlabelled], dtype=torch.float64)
        rows = torch.multinomial(frequencies, count, replacement=True, generator=draws)
        return self.one_hot(rows)


class LabelEmbedding(nn.Module):
    """One vector for each class: features · rows · columns numbers, GAIN times the weights, which begin at zero.

    The weights are a matrix, (classes, numbers), which Adam trains, because Muon would mix the classes' gradients.
    """

    def __init__(self, classes: int, features: int, cells: Cells = (1, 1)) -> None:
        super().__init__()
        self._shape = (classes, features, *cells)
        self.weight = nn.Parameter(torch.zeros(classes, math.prod(self._shape[1:])))

    def vectors(self) -> Tensor:
        """The vectors, (classes, numbers)."""
        return GAIN * self.weight

    def kernels(self) -> Tensor:
        """The vectors as kernels (classes, features, rows, columns) of a transposed convolution of label weights."""
        return self.vectors().view(self._shape)


class Discriminator(nn.Module):
    """Base class of the discriminators: `layers` end in a layer that maps features (B, n, h, w) to logits.

    The logit of an image with a label is increased by the product of the features with the label's vector.
    """

    layers: nn.Sequential
    embed: LabelEmbedding | None

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits (B,) of images (B, 3, H, W); `labels` are weights (B, classes), None for none."""
        if self.embed is None or labels is None:
            found: Tensor = self.layers(images)
            return found.flatten()
        features = self.layers[:-1](images)
        logits: Tensor = self.layers[-1](features).flatten()
        with torch.autocast(images.device.type, enabled=False):  # as the last layer
            vectors = labels.to(self.embed.weight.dtype) @ self.embed.vectors()
            logits = logits + (features.to(vectors.dtype).flatten(1) * vectors).sum(1)
        return logits


def relabelled(tensors: Mapping[str, Tensor], found: Labels | None, wanted: Labels | None) -> dict[str, Tensor]:
    """The weights of a network with labels `found` for one with labels `wanted`; classes are matched by their names.

    A class that `found` lacks begins at zero. Where the kinds of labels differ, or one has none, the embedding is left
    out, as where `tensors` has none: then all classes begin at zero, or the network paints as it did without a label.
    """
    kept = {name: tensor for name, tensor in tensors.items() if name != EMBEDDING}
    if found is None or wanted is None or found.kind != wanted.kind or EMBEDDING not in tensors:
        return kept
    rows = dict(zip(found.names, tensors[EMBEDDING], strict=True))
    zeros = torch.zeros_like(tensors[EMBEDDING][0])
    return {**kept, EMBEDDING: torch.stack([rows.get(name, zeros) for name in wanted.names])}


def _class_name(text: str) -> str:
    """A class's name on one line of printable characters; empty where a text names none."""
    kept = "".join(character if character.isprintable() else " " for character in text)
    name = " ".join(kept.split())[:MAX_NAME].strip()
    return "" if name == NONE else name
