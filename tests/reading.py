"""What the ranks of a run read; importable in processes of their own."""

from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

from hzlm.data.batches import BatchReader
from hzlm.data.blend import Blend
from hzlm.data_config import DataConfig
from hzlm.parallel.mesh import ALONE, Mesh, make_mesh


def open_reader(folder: Path, mesh: Mesh = ALONE) -> BatchReader:
    """Of a dataset's training split, in rows of 20 positions, with views that are drawn."""
    fields = {"path": folder, "row_length": 20, "views": {"pinyin": 1.0, "masked": 1.0}}
    config = DataConfig.model_validate(fields, strict=False)
    return BatchReader(Blend.open(config, "train"), config, 3, mesh)


def read_as_rank(folder: Path, pipe: int, data: int, tensor: int) -> list[Any]:
    """`read` in one process of a mesh."""
    distributed.init_process_group("gloo")
    try:
        return read(open_reader(folder, make_mesh(pipe, data, tensor, False, torch.device("cpu"))))
    finally:
        distributed.destroy_process_group()


def read(reader: BatchReader) -> list[Any]:
    """Four steps of 3 x 2 rows and an evaluation set of 9 rows, in plain lists."""
    steps = [asdict(step) for step in islice(reader.steps(7, rows=2, micro_batches=3), 4)]
    evaluation = [asdict(batch) for batch in reader.one_pass(2, limit=9, at_least=2)]
    return [to_lists(steps), to_lists(evaluation)]


def to_lists(value: Any) -> Any:
    """The same with lists for tensors."""
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: to_lists(each) for key, each in value.items()}
    return [to_lists(each) for each in value] if isinstance(value, list) else value
