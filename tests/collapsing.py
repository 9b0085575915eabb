"""A training that collapses at a known step; as a program, such trainings that are killed during the rollback."""

import os
import signal
import sys
from pathlib import Path

import torch

from atelier.networks import NetworkConfig
from atelier.progress import Progress
from atelier.training.config import TrainingPlan
from atelier.training.state import Checkpoints
from atelier.training.trainer import Trainer
from tests import judged_small
from tests.datasets import noise

CPU = torch.device("cpu")
PLAN = TrainingPlan(
    network=NetworkConfig("dcgan", 16, {"nz": 4, "ngf": 4, "ndf": 2}),
    batch=8,
    seed=3,
    lr=2e-3,
    lr_discriminator=2e-3,
    beta1=0.5,
    ema=0.5,
    augment=("brightness",),
    augment_probability=0.8,
    snapshot_kimg=0.04,
    images=240,
    lr_decay=0,
    quality_samples=8,
    on_collapse="rollback",
)
GOOD, BAD = {"kid": 3.0, "kid_coarse": 1.0, "coverage": 0.8}, {"kid": 6.0, "kid_coarse": 2.0, "coverage": 0.1}
FAIR = {"kid": 4.5, "kid_coarse": 1.5, "coverage": 0.7}


class Judged(Trainer):
    """A trainer whose snapshots have the scores in `judgement`, by kimg and number of rollbacks."""

    judgement: dict[tuple[float, int], dict[str, float]]

    def _quality_row(self):
        found = self.judgement.get((self.kimg, len(self.curves.rollbacks)), FAIR)
        return {"kimg": self.kimg, **found}


def judged(dataset, states, plan=PLAN, kind=Judged) -> Judged:
    """A training that is best at 0.08 kimg and collapses at 0.12 and 0.16, before its rollback."""
    trainer = kind(plan, dataset, CPU, states)
    trainer.judgement = {(0.08, 0): GOOD, (0.12, 0): BAD, (0.16, 0): BAD}
    return trainer


MOMENTS = ("before it saves where it stands", "before it drops what lay ahead", "after it dropped one of two")


class Mortal(Judged):
    """A trainer that is killed by SIGKILL at a moment of its first rollback."""

    moment: str

    def save(self) -> None:
        self._die_at(MOMENTS[0])
        super().save()
        self._die_at(MOMENTS[1])

    def _die_at(self, moment: str) -> None:
        if self.curves.rollbacks and self.moment == moment:
            os.kill(os.getpid(), signal.SIGKILL)


class MortalCheckpoints(Checkpoints):
    """The states of a training that is killed when the first of them has been deleted."""

    def drop_after(self, step: int) -> None:
        self.path(self.steps()[0]).unlink()
        os.kill(os.getpid(), signal.SIGKILL)


def fall(directory: Path) -> None:
    """Train in `directory`, called after one of MOMENTS, until killed then."""
    trainer = judged(noise(16, train=16), directory, kind=Mortal)
    trainer.moment = directory.name
    if trainer.moment == MOMENTS[2]:
        trainer._checkpoints = MortalCheckpoints(directory)
    with Progress("train", 1, "kimg") as progress:
        trainer.train(progress)


if __name__ == "__main__":
    judged_small.apply()
    judged(noise(16, train=16), Path(sys.argv[1], "never trained"))  # what it imports is imported once
    for moment in MOMENTS:  # a fork each
        if not (child := os.fork()):
            fall(Path(sys.argv[1], moment))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
