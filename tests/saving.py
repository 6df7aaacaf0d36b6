"""What a rank in a process of its own does to test checkpoints; a module, so that processes can import it."""

import errno
from pathlib import Path
from unittest.mock import patch

import torch
from fake_engine import KINDS, FakeEngine
from torch import Tensor, distributed

from hzlm.config import RunConfig
from hzlm.data.blend import Blend
from hzlm.parallel.mesh import make_mesh
from hzlm.train import checkpoint_write
from hzlm.train.checkpoint import RunState, open_together, resume, save_checkpoint

Layout = tuple[int, int, int]


def save_and_read(
    config: RunConfig, writing: Layout, reading: Layout, failing: int
) -> tuple[list[tuple[str, str]], str]:
    """Saves under one layout and reads under another; then saves while one rank cannot write.

    Returns:
        Where what was read is not what was written, and the error of the second saving on this rank.
    """
    distributed.init_process_group("gloo")
    blend = Blend.open(config.data, "train")
    first, second = (make_mesh(*layout, False, torch.device("cpu")) for layout in (writing, reading))
    filled = FakeEngine(config.model, blend.vocabulary, first).fill().engine
    save_checkpoint(config, filled, blend, RunState(3, cursor=64), None, first)
    engine = FakeEngine(config.model, blend.vocabulary, second, seed=1)
    stored = open_together(config.train.output, second)
    assert stored is not None
    resume(stored, engine.engine, blend)
    save_file = checkpoint_write.save_file

    def fail(tensors: dict[str, Tensor], path: Path) -> None:
        if path.name.startswith(f"exp_avg-0000{failing}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        save_file(tensors, path)

    text = ""
    try:
        with patch.object(checkpoint_write, "save_file", fail):
            save_checkpoint(config, filled, blend, RunState(4, cursor=64), None, first)
    except OSError as error:
        text = str(error)
    distributed.destroy_process_group()
    return engine.differences(KINDS[1:]), text
