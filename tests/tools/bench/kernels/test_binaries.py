"""What a multiprocessor has room for, the budgets of binaries, and the table of them."""

from pathlib import Path

import pytest

from hzlm.tools.bench.kernels.binaries import Compiled, describe
from hzlm.tools.bench.kernels.budgets import Budget, find_excesses, read_budgets, write_budgets
from hzlm.tools.bench.kernels.paper_gpu import Binary


def make(name: str = "sums.add bf16", capability: int = 80, **fields: int) -> Binary:
    figures = {"registers": 64, "stack": 0, "shared": 1024, "threads": 128, "tensor_core": 8} | fields
    return Binary(name=name, constants="BLOCK=64", capability=capability, digest=str(figures), **figures)


@pytest.mark.parametrize(
    ("fields", "resident"),
    [
        ({"registers": 128}, 4),  # 65,536 registers / (128 x 128)
        ({"registers": 33}, 12),  # 33 x 32 are rounded up to 1,280
        ({"registers": 16, "threads": 32, "shared": 0}, 32),  # blocks
        ({"registers": 16, "shared": 0}, 16),  # 2,048 threads
        ({"shared": 40 * 1024}, 4),  # 164 KB / (40 + 1)
        ({"shared": 40 * 1024, "capability": 90}, 5),  # 228 KB / 41
    ],
)
def test_resident_blocks(fields: dict[str, int], resident: int) -> None:
    binary = make(**fields)
    assert binary.resident == resident
    assert binary.occupancy == resident * binary.threads / 2048


def test_what_is_over_budget_is_named() -> None:
    budgets = {"sums.add bf16": {"80": Budget(64, 1024, 8, 0.5)}}
    fine = Compiled(make(), ("base", "large"))
    assert find_excesses([fine], budgets, whole=True) == []
    start = "sums.add bf16 on 8.0 (BLOCK=64; xl): "
    for fields, text in (
        ({"registers": 65}, "65 registers, at most 64 are allowed"),
        ({"shared": 1040}, "1,040 bytes of shared memory, at most 1,024 are allowed"),
        ({"tensor_core": 4}, "4 tensor-core instructions, at least 8 are wanted"),
        ({"stack": 16}, "16 bytes of registers spilt to memory, none are allowed"),
    ):
        lines = find_excesses([fine, Compiled(make(**fields), ("xl",))], budgets, whole=True)
        assert start + text in lines
    (_, line) = find_excesses([Compiled(make(registers=72), ())], budgets, whole=True)
    assert line.endswith("occupancy 43.8%, at least 50.0% is wanted")


def test_a_kernel_needs_a_budget_and_an_a100_has_so_much_shared_memory() -> None:
    (line,) = find_excesses([Compiled(make("sums.new bf16"), ("tiny",))], {}, whole=True)
    assert line == "sums.new bf16 on 8.0 (BLOCK=64; tiny): no budget; --write-budgets writes one"
    large = make(capability=90, shared=164 * 1024)
    (line,) = find_excesses([Compiled(large, ("tiny",))], {large.name: {"90": Budget.of([large])}}, whole=True)
    assert line.endswith("167,936 bytes of shared memory, an A100 has 166,912")


def test_budgets_are_what_all_binaries_of_a_kernel_take(tmp_path: Path) -> None:
    path = tmp_path / "budgets.json"
    assert read_budgets(path) == {}
    both = [Compiled(make(registers=128), ("xl",)), Compiled(make(shared=2048, tensor_core=4), ("base",))]
    write_budgets(path, both, {})
    expected = Budget(128, 2048, 4, 0.25)
    assert read_budgets(path) == {"sums.add bf16": {"80": expected}}
    assert find_excesses(both, read_budgets(path), whole=True) == []
    other = make("sums.other bf16", 90)
    write_budgets(path, [Compiled(other, ("xl",))], read_budgets(path))
    kept = {"sums.add bf16": {"80": expected}, "sums.other bf16": {"90": Budget.of([other])}}
    assert read_budgets(path) == kept
    assert find_excesses(both, kept, whole=False) == []
    (line,) = find_excesses(both, kept, whole=True)
    assert line == "sums.other bf16: no kernel has this budget; --write-budgets takes it out"


def test_a_line_of_the_table_has_the_worst_of_its_binaries() -> None:
    pair = [Compiled(make(registers=128), ("xl",)), Compiled(make(shared=2048, tensor_core=4), ("xl",))]
    head, line, other = describe([*pair, Compiled(make(), ("base", "large"))]).splitlines()
    assert head.split()[:2] == ["kernel", "configurations"]
    assert line.split() == ["sums.add", "bf16", "xl", "8.0", "2", "128", "0", "2.0", "128", "25%", "4"]
    assert other.split() == ["sums.add", "bf16", "base", "large", "8.0", "1", "64", "0", "1.0", "128", "50%", "8"]
