"""The census against bytes counted by hand, by torch's own memory profiler and by what real ranks send."""

import gc
from collections.abc import Callable
from typing import Any

import deepspeed
import pytest
import torch
from deepspeed.pipe import PipelineModule
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, distributed, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

from hzlm.launch.processes import run_ranks
from hzlm.parallel.collectives import enter, leave
from hzlm.parallel.mesh import make_mesh
from hzlm.tools.bench.census import MemoryCensus, TrafficCensus
from hzlm.tools.plan.channels import Channel, Volume

FLOAT = 4
CPU = torch.device("cpu")


def test_a_chain_holds_what_its_backward_needs() -> None:
    x, first, second = torch.randn(8, 16), torch.randn(16, 32, requires_grad=True), torch.randn(32, 4)
    with MemoryCensus({"weights": [first, second], "input": [x]}, [first]) as census:
        y = torch.relu(x @ first) @ second
        held = census.memory()
        y.sum().backward()
    known = {"weights": (16 * 32 + 32 * 4) * FLOAT, "input": 8 * 16 * FLOAT}
    # the product dies when relu is done, whose result both products around it keep
    assert held.current == known | {"other": (8 * 32 + 8 * 4) * FLOAT}
    assert held.at_peak == known | {"other": 2 * 8 * 32 * FLOAT}
    assert held.peak == sum(held.at_peak.values())
    after = census.memory()
    assert after.current == known | {"other": 8 * 4 * FLOAT, "gradients": 16 * 32 * FLOAT}
    assert after.largest["gradients"] == 16 * 32 * FLOAT


def test_recomputation_keeps_the_input_of_each_block_only() -> None:
    def block(x: Tensor) -> Tensor:
        return x.tanh().sigmoid()

    def held(run: Callable[[Tensor], Tensor]) -> int:
        x = torch.randn(64, requires_grad=True)
        with MemoryCensus({"input": [x]}) as census:
            y = x
            for _ in range(4):
                y = run(y)
            use = census.memory().current["other"]
            y.sum().backward()
        return use

    def recomputed(x: Tensor) -> Tensor:
        return checkpoint(block, x, use_reentrant=False, preserve_rng_state=False)

    assert held(block) == 8 * 64 * FLOAT
    assert held(recomputed) == 4 * 64 * FLOAT  # three borders between blocks and the result


def test_views_and_operations_in_place_are_the_same_storage() -> None:
    with MemoryCensus({}) as census:
        x = torch.zeros(10, 10)
        rows = [x[1:], x.t().contiguous()[:2], x.detach(), x.view(100).add_(1)]
        assert census.memory().current == {"other": 2 * 400}  # one of them is a copy
        del rows, x
        assert census.memory().current == {"other": 0}
    assert census.memory().peak == 2 * 400


def test_a_storage_is_alive_until_its_last_view_is_gone() -> None:
    with MemoryCensus({}) as census:
        x = torch.zeros(100)
        part = x[:1]
        del x
        assert census.memory().current == {"other": 400}
        loop: list[Any] = [part]
        loop.append(loop)
        del part, loop
        gc.collect()
        assert census.memory().current == {"other": 0}


def test_a_storage_may_change_its_size() -> None:
    x = torch.zeros(10)
    with MemoryCensus({"weights": [x]}) as census:
        torch.arange(100.0, out=x.resize_(0))
    assert census.memory().current["weights"] == 400


def test_what_is_made_elsewhere_counts_once_it_is_used() -> None:
    x, unused = torch.zeros(10), torch.zeros(20)
    with MemoryCensus({}) as census:
        x.sum()
    assert census.memory().current == {"other": 40}
    assert len(unused) == 20


def test_a_claim_holds_for_the_time_before_it() -> None:
    with MemoryCensus({}) as census:
        buffer = torch.zeros(10)
        torch.zeros(20)
        census.claim("states", [buffer])
    assert census.memory().at_peak == {"states": 40, "other": 80}


def test_nothing_counts_after_the_end() -> None:
    x = torch.zeros(10, requires_grad=True)
    with MemoryCensus({"weights": [x]}, [x]) as census:
        pass
    x.sum().backward()
    del x
    assert census.memory().current == {"weights": 40}


@settings(max_examples=15, deadline=None)
@given(
    rows=st.integers(4, 40),
    width=st.integers(4, 40),
    inner=st.integers(4, 40),
    layers=st.integers(1, 3),
    recompute=st.booleans(),
)
def test_as_the_profiler_of_the_allocator(rows: int, width: int, inner: int, layers: int, recompute: bool) -> None:
    # operations that allocate next to nothing for themselves
    net = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))
    x = torch.randn(rows, width)

    def step() -> None:
        y = x
        for _ in range(layers):
            y = checkpoint(net, y, use_reentrant=False, preserve_rng_state=False) if recompute else net(y)
        y.square().mean().backward()

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    net.zero_grad()
    with MemoryCensus({"known": [x, *net.parameters()]}, net.parameters()) as census:
        step()
    memory = census.memory()
    known = memory.current["known"]
    assert memory.current == {"known": known, "gradients": live, "other": 0}
    assert memory.peak - known == pytest.approx(peak, abs=16)


class _Reduced(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed = gradient.clone()
        distributed.all_reduce(summed)
        return summed


def communicate() -> dict[Channel, Volume]:
    """What one of two ranks counts of every kind of call."""
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    pair = distributed.new_group([0, 1])
    x, other = torch.ones(6), torch.empty(6)
    with TrafficCensus() as census:
        distributed.all_reduce(x.double(), group=pair)
        distributed.all_reduce(x.double(), group=pair, async_op=True).wait()
        distributed.all_gather([torch.empty(6), torch.empty(6)], x)
        distributed.all_gather_single(torch.empty(12), x)
        distributed.reduce_scatter_single(torch.empty(3), x)
        distributed.reduce_scatter(torch.empty(3), [x[:3], x[3:]])
        distributed.broadcast(x.bfloat16(), 1)
        distributed.reduce(x.half(), 1)
        distributed.barrier()
        if rank == 0:
            distributed.send(x.int(), 1)
            distributed.recv(other, 1)
        else:
            distributed.recv(torch.empty(6, dtype=torch.int32), 0)
            distributed.send(x, 0)
        to, back = (
            distributed.P2POp(distributed.isend, x, 1 - rank),
            distributed.P2POp(distributed.irecv, other, 1 - rank),
        )
        for work in distributed.batch_isend_irecv([to, back] if rank == 0 else [back, to]):
            work.wait()
        leaf = torch.ones(2, dtype=torch.bfloat16, requires_grad=True)
        checkpoint(_Reduced.apply, leaf, use_reentrant=False).sum().backward()
        with pytest.raises(ValueError, match=r"c10d\.gather_.* is not counted"):
            distributed.gather(x, [other, other.clone()] if rank == 0 else None)
    distributed.all_reduce(x)
    return census.traffic()


def test_two_ranks_count_what_they_sent() -> None:
    world = (0, 1)
    both = {
        Channel("all_reduce", world, torch.float64): Volume(2, 2 * 6 * 8),
        Channel("all_gather", world, torch.float32): Volume(2, 2 * 12 * FLOAT),
        Channel("reduce_scatter", world, torch.float32): Volume(2, 2 * 6 * FLOAT),
        Channel("broadcast", world, torch.bfloat16): Volume(1, 6 * 2),
        Channel("reduce", world, torch.float16): Volume(1, 6 * 2),
        Channel("barrier", world, None): Volume(1, 0),
        Channel("all_reduce", world, torch.bfloat16): Volume(1, 2 * 2),
    }
    first, second = run_ranks(communicate, 2)
    assert first == both | {
        Channel("send", (0, 1), torch.int32): Volume(1, 24),
        Channel("recv", (1, 0), torch.float32): Volume(2, 48),
        Channel("send", (0, 1), torch.float32): Volume(1, 24),
    }
    assert second == both | {
        Channel("recv", (0, 1), torch.int32): Volume(1, 24),
        Channel("send", (1, 0), torch.float32): Volume(2, 48),
        Channel("recv", (0, 1), torch.float32): Volume(1, 24),
    }


def split_layer(split_rows: bool) -> dict[Channel, Volume]:
    """What one of two tensor-parallel ranks counts of a feed-forward layer, forward and backward."""
    distributed.init_process_group("gloo")
    mesh = make_mesh(1, 1, 2, split_rows, CPU)
    x = torch.ones(2 if split_rows else 4, 5, requires_grad=True)
    with TrafficCensus() as census:
        leave(enter(x, mesh).relu(), mesh).sum().backward()
    return census.traffic()


@pytest.mark.parametrize("split_rows", [False, True])
def test_our_collectives_are_seen_forward_and_backward(split_rows: bool) -> None:
    whole = 4 * 5 * FLOAT
    expected = {
        False: {Channel("all_reduce", (0, 1), torch.float32): Volume(2, 2 * whole)},
        True: {
            Channel("all_gather", (0, 1), torch.float32): Volume(2, 2 * whole),
            Channel("reduce_scatter", (0, 1), torch.float32): Volume(2, 2 * whole),
        },
    }[split_rows]
    assert run_ranks(split_layer, 2, split_rows) == [expected, expected]


def train_in_stages() -> dict[Channel, Volume]:
    """What one of the two stages of DeepSpeed's pipeline counts of its second step: three micro-batches of [2, 5]."""
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # would be compiled, and is not used
    deepspeed.init_distributed("gloo", verbose=False)
    module = PipelineModule([nn.Linear(5, 5), nn.Linear(5, 5)], num_stages=2, loss_fn=nn.functional.mse_loss)
    config = {
        "train_micro_batch_size_per_gpu": 2,
        "gradient_accumulation_steps": 3,
        "gradient_clipping": 1.0,
        "optimizer": {"type": "Adam", "params": {"torch_adam": True}},
        "zero_optimization": {"stage": 1, "reduce_bucket_size": 100},
    }
    engine, *_ = deepspeed.initialize(model=module, config=config, model_parameters=list(module.parameters()))
    batches = iter([(torch.ones(2, 5), torch.zeros(2, 5))] * 6)
    engine.train_batch(batches)
    with TrafficCensus() as census:
        engine.train_batch(batches)
    return census.traffic()


def test_the_pipeline_of_deepspeed_is_counted() -> None:
    ranks = (0, 1)
    border = Volume(3, 3 * 2 * 5 * FLOAT)
    both = {
        Channel("broadcast", ranks, torch.float32): Volume(1, 2 * FLOAT),  # the loss of its rows, and of all ranks
        Channel("all_reduce", ranks, torch.float32): Volume(1, FLOAT),  # the norm
    }
    for rank, traffic in enumerate(run_ranks(train_in_stages, 2)):
        alone = Channel("all_reduce", (rank,), torch.float32)
        sent = Channel("send" if rank == 0 else "recv", (0, 1), torch.float32)
        received = Channel("recv" if rank == 0 else "send", (1, 0), torch.float32)
        # the gradients and the norm also go through the data-parallel group, which is of one rank here
        assert traffic == both | {sent: border, received: border, alone: Volume(2, (5 * 5 + 5 + 1) * FLOAT)}
        assert alone.wire(traffic[alone].payload) == 0


def test_the_wire_of_a_ring() -> None:
    four = (0, 1, 2, 3)
    assert Channel("all_reduce", four, torch.float32).wire(100) == 150
    assert Channel("reduce_scatter", four, torch.float32).wire(100) == 75
    assert Channel("all_reduce", (3,), torch.float32).wire(100) == 0
    assert Channel("barrier", four, None).wire(0) == 0
    assert (Channel("send", (2, 0), torch.float32).wire(100), Channel("recv", (2, 0), torch.float32).wire(100)) == (
        100,
        0,
    )
