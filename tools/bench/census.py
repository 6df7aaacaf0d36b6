"""What a program sends and what it holds, counted at torch's dispatcher: every number is of real tensors, none of RSS.

Both counts are dispatch modes: they see each operation of the thread that enters them, inside the backward pass and
recomputation too. torch.distributed's collectives, its point-to-point calls (DeepSpeed's pipeline uses these) and its
object collectives are all such operations; what goes through the rendezvous store is not counted.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from weakref import ref

from torch import Tensor, UntypedStorage, distributed
from torch.distributed import ProcessGroup
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from hzlm.tools.plan.channels import Channel, Volume

OTHER = "other"
"""The kind of a storage that nobody has claimed: activations, buffers, whatever passes."""


@dataclass(frozen=True)
class _Operation:
    """How one operation of c10d is counted."""

    name: str
    tensors: str | None
    """The argument that holds the whole of what is communicated."""


_COLLECTIVES = {
    "allreduce_": _Operation("all_reduce", "tensors"),
    "allreduce_coalesced_": _Operation("all_reduce", "tensors"),
    "allgather_": _Operation("all_gather", "output_tensors"),
    "_allgather_base_": _Operation("all_gather", "output_tensor"),
    "allgather_into_tensor_coalesced_": _Operation("all_gather", "outputs"),
    "reduce_scatter_": _Operation("reduce_scatter", "input_tensors"),
    "_reduce_scatter_base_": _Operation("reduce_scatter", "input_tensor"),
    "reduce_scatter_tensor_coalesced_": _Operation("reduce_scatter", "inputs"),
    "broadcast_": _Operation("broadcast", "tensors"),
    "reduce_": _Operation("reduce", "tensors"),
    "barrier": _Operation("barrier", None),
    "monitored_barrier_": _Operation("barrier", None),
}


class TrafficCensus(TorchDispatchMode):
    """Counts what this rank communicates while entered."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: Counter[Channel] = Counter()
        self._payload: Counter[Channel] = Counter()

    def traffic(self) -> dict[Channel, Volume]:
        """All that has been communicated so far."""
        return {channel: Volume(calls, self._payload[channel]) for channel, calls in self._calls.items()}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs an operation and counts it; ValueError where it communicates in a way that is not counted here."""
        if func.namespace in ("c10d", "_c10d_functional", "_c10d_functional_autograd"):
            given = {argument.name: value for argument, value in zip(func._schema.arguments, args, strict=False)}
            self._count(func, given | (kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _count(self, func: Any, arguments: dict[str, Any]) -> None:
        name = func._schema.name.removeprefix("c10d::")
        if name in _COLLECTIVES:
            operation = _COLLECTIVES[name]
            group = ProcessGroup.unbox(arguments["process_group"])
            ranks = tuple(distributed.get_process_group_ranks(group))
            whole = [] if operation.tensors is None else list(tree_iter(arguments[operation.tensors]))
            channel = Channel(operation.name, ranks, whole[0].dtype if whole else None)
        elif name in ("send", "recv_"):
            group = ProcessGroup.unbox(arguments["process_group"])
            own = distributed.get_rank()
            peer = distributed.get_global_rank(group, arguments["dst" if name == "send" else "src"])
            whole = arguments["tensors"]
            ranks = (own, peer) if name == "send" else (peer, own)
            channel = Channel(name.removesuffix("_"), ranks, whole[0].dtype)
        else:
            raise ValueError(f"{func} is not counted: say in {__name__} what it sends")
        self._calls[channel] += 1
        self._payload[channel] += sum(tensor.nbytes for tensor in whole)


@dataclass(frozen=True)
class Memory:
    """Live bytes of tensor storages, by kind."""

    current: dict[str, int]
    """Now."""
    at_peak: dict[str, int]
    """When all together were most."""
    largest: dict[str, int]
    """Each kind by itself, when it was most."""

    @property
    def peak(self) -> int:
        """The most that was live at any moment."""
        return sum(self.at_peak.values())


@dataclass(frozen=True)
class _Live:
    number: int
    nbytes: int
    alive: ref[UntypedStorage]


class MemoryCensus(TorchDispatchMode):
    """Counts the storages that are alive while entered: each once, however many tensors view it, until it is freed.

    A storage counts from when it is claimed or an operation first reads or writes it. Not seen is what an operation
    allocates for itself and frees before it returns, and the states of generators that recomputation keeps. While any
    dispatch mode is on, autograd adds up the gradients of a tensor out of place, so that for a moment there may be one
    more than there is otherwise.
    """

    def __init__(self, known: Mapping[str, Iterable[Tensor]], gradients_of: Iterable[Tensor] = ()) -> None:
        """As the census begins.

        Args:
            known: tensors that are there already, by kind, such as weights and states.
            gradients_of: leaves whose `.grad` is claimed as "gradients" whenever the backward pass has added to it.
        """
        super().__init__()
        self._known = {kind: list(tensors) for kind, tensors in known.items()}
        self._leaves = list(gradients_of)
        self._hooks: list[Any] = []
        self._live: dict[int, _Live] = {}
        self._kinds: dict[int, str] = {}
        self._events: list[tuple[int, int]] = []
        self._count = 0

    def __enter__(self) -> Self:
        for kind, tensors in self._known.items():
            self.claim(kind, tensors)
        self._known.clear()
        self._hooks = [leaf.register_post_accumulate_grad_hook(self._claim_gradient) for leaf in self._leaves]
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        for hook in self._hooks:
            hook.remove()
        self._live.clear()  # frees the weak references: what dies from now on is no event

    def claim(self, kind: str, tensors: Iterable[Tensor]) -> None:
        """Says what the storages of some tensors are, and have been since they were made."""
        for tensor in tensors:
            number = self._see(tensor)
            if number is not None:
                self._kinds[number] = kind

    def memory(self) -> Memory:
        """What is and was alive; after the census, as it was at its end."""
        now: Counter[str] = Counter()
        largest: Counter[str] = Counter()
        at_peak: dict[str, int] = {}
        total = peak = 0
        for number, change in self._events:
            kind = self._kinds.get(number, OTHER)
            now[kind] += change
            total += change
            largest[kind] = max(largest[kind], now[kind])
            if total > peak:
                peak, at_peak = total, dict(now)
        return Memory(dict(now), at_peak, dict(largest))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs an operation and counts the storages of what it takes and gives."""
        result = func(*args, **(kwargs or {}))
        for value in tree_iter((args, kwargs, result)):
            if isinstance(value, Tensor):
                self._see(value)
        return result

    def _claim_gradient(self, leaf: Tensor) -> None:
        if leaf.grad is not None:
            self.claim("gradients", [leaf.grad])

    def _see(self, tensor: Tensor) -> int | None:
        """Counts a storage that is new or has changed its size, and gives its number; None for a meta tensor."""
        if tensor.device.type == "meta":
            return None
        storage = tensor.untyped_storage()
        key, nbytes = id(storage), storage.nbytes()
        known = self._live.get(key)
        if known is not None and known.nbytes == nbytes:
            return known.number
        if known is None:
            self._count += 1
            number, alive, change = self._count, ref(storage, lambda _: self._free(key)), nbytes
        else:
            number, alive, change = known.number, known.alive, nbytes - known.nbytes
        self._live[key] = _Live(number, nbytes, alive)
        self._events.append((number, change))
        return number

    def _free(self, key: int) -> None:
        gone = self._live.pop(key)
        self._events.append((gone.number, -gone.nbytes))
