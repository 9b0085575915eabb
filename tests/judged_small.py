"""Cheaper previews in tests: pictures are judged at 32 px, and batch norms calibrated on 128 latents instead of 1,024.

`python -m tests.judged_small` is `python -m tasks.train` with these, also in the processes that it starts. They do not
import torch's compiler.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

import tasks.train
from atelier.metrics import features
from atelier.training import monitor
from atelier.training.distributed import ProcessGroup
from tasks.stage import Stage, main

CHEAPER = ((features, "SMALLEST_SIDE_PX", 32), (monitor, "CALIBRATION_BATCHES", 2))


def apply() -> None:
    """Change this process for good."""
    for module, name, value in CHEAPER:
        setattr(module, name, value)
    if "torch._dynamo" not in sys.modules:
        sys.modules["torch._dynamo"] = _Compiler("torch._dynamo")


class _Compiler(ModuleType):
    """In the place of torch._dynamo, which an optimizer imports (1.5 s) to say what torch.compile leaves out.

    Nothing is compiled here. Whatever else is asked for comes from the real module, which is then imported.
    """

    graph_break = staticmethod(lambda: None)
    disable = staticmethod(lambda function, *_, **__: function)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        del sys.modules["torch._dynamo"]
        return getattr(importlib.import_module("torch._dynamo"), name)


def train(stage: Stage, group: ProcessGroup) -> str:
    """In the place of tasks.train.train, in a process that stage train starts."""
    apply()
    return tasks.train.train(stage, group)


if __name__ in ("__main__", "__mp_main__"):  # the second in the processes that the first starts
    apply()

if __name__ == "__main__":
    main("train", tasks.train.run)
