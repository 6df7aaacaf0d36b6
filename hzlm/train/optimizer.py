"""The optimizer behind ZeRO stage 1: which parameters decay, and where each logical tensor lies in its flat tensors."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hzlm.config import OptimizerConfig
from hzlm.kernels.lamb import Fragment
from hzlm.parallel.collectives import all_reduce, gather_objects
from hzlm.parallel.mesh import Mesh
from hzlm.parallel.sharding import sharding_of
from hzlm.train.apex_lamb import choose_lamb
from hzlm.train.averages import Averages
from hzlm.train.lamb import AdamW, Kernels, Lamb
from hzlm.train.rate_factors import factor_of

TOKEN_TABLE = "tokens.weight"
"""The tensor that the last stage has too, as output projection."""


@dataclass(frozen=True)
class ParameterState:
    """What a rank holds of one logical tensor: its weight as the model has it, and flat float32 views of what ZeRO
    has given this rank of its master, moments and average."""

    weight: nn.Parameter
    start: int
    """The first element of the flattened weight that the views hold."""
    masters: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor
    averages: Tensor | None = None
    """None where no average is kept."""


def build_optimizer(
    config: OptimizerConfig, parameters: Iterable[nn.Parameter], mesh: Mesh, kernels: Kernels = "torch"
) -> Lamb:
    """The configured optimizer, for DeepSpeed to put its flat tensors in; `kernels` as `Lamb` has it."""
    kind = AdamW if config.name == "adamw" else choose_lamb(mesh)
    groups = split_by_decay(parameters, config.weight_decay)
    return kind(groups, betas=config.betas, eps=config.eps, kernels=kernels)


def split_by_decay(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Two parameter groups: matrices with weight decay and trust ratio, biases and LayerNorms without either."""
    listed = list(parameters)
    vectors = [parameter for parameter in listed if parameter.dim() < 2]
    matrices = [parameter for parameter in listed if parameter.dim() >= 2]
    return [
        {"params": matrices, "weight_decay": weight_decay, "trust": True},
        {"params": vectors, "weight_decay": 0.0, "trust": False},
    ]


def is_counted(name: str, weight: Tensor, mesh: Mesh) -> bool:
    """Whether this rank counts and stores its part of a tensor: of ranks that hold it alike one does, but for the
    data-parallel ones."""
    return (mesh.tensor.index == 0 or sharding_of(weight) is not None) and (mesh.is_first_stage or name != TOKEN_TABLE)


def link_parameters(
    named: Mapping[str, nn.Parameter],
    optimizer: Lamb,
    mesh: Mesh,
    rate_factors: Mapping[str, float],
    averages: Averages | None,
) -> dict[str, ParameterState]:
    """Reads from ZeRO where each parameter lies in its flat partitions, and tells the optimizer; a collective call.

    Args:
        named: the parameters of this rank's stage by their names in `EncoderDecoder`, as DeepSpeed has got them.
        optimizer: as DeepSpeed has got it: a flat parameter in each group.
        mesh: of this rank.
        rate_factors: on the learning rate, as `hzlm.train.rate_factors.factor_of` reads them.
        averages: of the flat parameters; None where none are kept.
    """
    names = sorted(set().union(*gather_objects(list(named), mesh.world)))
    numbers = {name: number for number, name in enumerate(names)}
    if mesh.world.size > 1:
        optimizer.set_layout(len(names), partial(all_reduce, axis=mesh.world))
    optimizer.set_rate_factors({number: factor_of(name, rate_factors) for name, number in numbers.items()})
    optimizer.initialize_state()
    flats = [group["params"][0] for group in optimizer.param_groups]
    fragments: dict[Tensor, list[Fragment]] = {flat: [] for flat in flats}
    linked = {}
    for name, weight in named.items():
        mapping: Any = weight.__dict__["_hp_mapping"]
        if mapping is None:  # all of it lies in the partitions of other data-parallel ranks
            masters, *rest = torch.empty(4, 0, device=weight.device)
            linked[name] = ParameterState(weight, 0, masters, *rest[: 2 if averages is None else 3])
            continue
        flat = flats[mapping.param_group_index]
        place = mapping.hp_fragment_address
        fragment = Fragment(place.start, place.numel, numbers[name], is_counted(name, weight, mesh))
        fragments[flat].append(fragment)
        moments = optimizer.state[flat]
        linked[name] = ParameterState(
            weight,
            mapping.lp_fragment_address.start,
            fragment.of(flat.data),
            fragment.of(moments["exp_avg"]),
            fragment.of(moments["exp_avg_sq"]),
            None if averages is None else fragment.of(averages.of(flat)),
        )
    for flat, parts in fragments.items():
        optimizer.set_fragments(flat, parts)
    return linked
