"""What each kernel may take of a GPU; a change that takes more is a regression until the file says otherwise."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hzlm.tools.bench.kernels.binaries import Compiled
from hzlm.tools.bench.kernels.paper_gpu import Binary

MOST_SHARED = 163 * 1024
"""Bytes that a block can have on the smallest GPU that the kernels are for, the A100."""


@dataclass(frozen=True)
class Budget:
    """Bounds on all binaries of a kernel for one capability. Spilt registers are allowed to none."""

    registers: int
    """At most."""
    shared: int
    """Bytes, at most."""
    tensor_core: int
    """Matrix instructions, at least."""
    occupancy: float
    """At least."""

    @classmethod
    def of(cls, binaries: Sequence[Binary]) -> "Budget":
        """What these binaries take."""
        return cls(
            max(binary.registers for binary in binaries),
            max(binary.shared for binary in binaries),
            min(binary.tensor_core for binary in binaries),
            min(binary.occupancy for binary in binaries),
        )

    def excesses(self, binary: Binary) -> Iterator[str]:
        """What a binary takes too much or has too little of."""
        if binary.registers > self.registers:
            yield f"{binary.registers} registers, at most {self.registers} are allowed"
        if binary.shared > self.shared:
            yield f"{binary.shared:,} bytes of shared memory, at most {self.shared:,} are allowed"
        if binary.tensor_core < self.tensor_core:
            yield f"{binary.tensor_core} tensor-core instructions, at least {self.tensor_core} are wanted"
        if binary.occupancy < self.occupancy:
            yield f"occupancy {binary.occupancy:.1%}, at least {self.occupancy:.1%} is wanted"


Budgets = dict[str, dict[str, Budget]]
"""kernel -> capability ("80") -> its budget."""


def read_budgets(path: Path) -> Budgets:
    """The budgets in a file; none where there is no file."""
    if not path.exists():
        return {}
    stored = json.loads(path.read_text("utf-8"))
    return {
        kernel: {capability: Budget(**fields) for capability, fields in budgets.items()}
        for kernel, budgets in stored.items()
    }


def write_budgets(path: Path, compiled: Sequence[Compiled], others: Budgets) -> None:
    """Makes what the binaries take their budgets, beside those of other kernels."""
    grouped: dict[tuple[str, str], list[Binary]] = {}
    for one in compiled:
        grouped.setdefault((one.binary.name, str(one.binary.capability)), []).append(one.binary)
    budgets = {kernel: dict(own) for kernel, own in others.items()}
    for (kernel, capability), binaries in grouped.items():
        budgets.setdefault(kernel, {})[capability] = Budget.of(binaries)
    lines = [
        f"  {json.dumps(kernel)}: {{\n"
        + ",\n".join(f'    "{capability}": {json.dumps(asdict(budget))}' for capability, budget in sorted(own.items()))
        + "\n  }"
        for kernel, own in sorted(budgets.items())
    ]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


def find_excesses(compiled: Sequence[Compiled], budgets: Budgets, whole: bool) -> list[str]:
    """A line for each way in which a kernel is over its budget.

    Args:
        compiled: the binaries.
        budgets: of all kernels.
        whole: whether all kernels are among the binaries, so that a budget without a kernel is a mistake, too.
    """
    lines: dict[str, None] = {}
    for one in compiled:
        binary = one.binary
        where = f"{binary.name} on {binary.capability / 10:.1f} ({binary.constants}; {' '.join(one.configurations)})"
        budget = budgets.get(binary.name, {}).get(str(binary.capability))
        troubles = list(budget.excesses(binary)) if budget else ["no budget; --write-budgets writes one"]
        if binary.stack:
            troubles.append(f"{binary.stack} bytes of registers spilt to memory, none are allowed")
        if binary.shared > MOST_SHARED:
            troubles.append(f"{binary.shared:,} bytes of shared memory, an A100 has {MOST_SHARED:,}")
        lines.update(dict.fromkeys(f"{where}: {trouble}" for trouble in troubles))
    names = {one.binary.name for one in compiled}
    unused = [name for name in budgets if name not in names] if whole else []
    return [*lines, *(f"{name}: no kernel has this budget; --write-budgets takes it out" for name in unused)]
