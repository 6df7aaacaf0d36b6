"""What a rank holds at the peak of a training step on CPUs, by formula, in bytes of tensors.

R rows of L positions in a micro-batch, W the hidden size, F the feed-forward size, A heads, T tensor-parallel ranks, e
bytes a number; H = R L W e is one side of the hidden state, S = R A L^2 e the attention weights. x is H, with split
rows H / T. A layer keeps for its backward pass, of each micro-batch,

| layer | bytes |
|---|---|
| encoder block | 2x (what it hands on) + H + (4H + S) / T + x + H + R L F e / T, and 2 x with dropout |
| decoder block | 2x + 2 (H + (4H + S) / T) + 2x + H + R L F e / T, and 3x with dropout; with split rows H, the memory |
| recompute = selective | R L^2 e in place of each S / T |
| recompute = whole | 2x |
| embedding, either last LayerNorm | 2x |

and 2 R L e for each LayerNorm. Stage p of P keeps min(M, P - p) of M micro-batches (1F1B).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from hzlm.config import RunConfig
from hzlm.kernels.linear_cross_entropy import POSITIONS_AT_ONCE
from hzlm.model.recompute import Recompute
from hzlm.tools.plan.traffic import DTYPES, Holding, Place, count_places, count_shares, hidden_bytes

FLOAT, LONG = 4, 8


@dataclass(frozen=True)
class Footprint:
    """Bytes of one rank."""

    weights: int
    gradients: int
    states: int
    """Masters and moments."""
    activations: int
    """Of all micro-batches in flight."""
    passing: int
    """What the loss, the borders of stages or the optimizer need beside the others when all is most."""

    @property
    def peak(self) -> int:
        """All together."""
        return self.weights + self.gradients + self.states + self.activations + self.passing


def step_memory(
    config: RunConfig, place: Place, holding: Holding, vocabulary: tuple[int, int], targets: Mapping[str, int]
) -> Footprint:
    """The footprint of a rank in `Engine.train_step`.

    Args:
        config: of the run.
        place: of the rank.
        holding: of the rank.
        vocabulary: tokens, and those that are ever predicted.
        targets: of a micro-batch, of each side ("encoder", "decoder") that has a loss.

    Raises:
        ValueError: the schedule is dualpipev, for which there is no formula.
    """
    if config.parallel.schedule == "dualpipev":
        raise ValueError("no formula for what dualpipev keeps")
    size = DTYPES[config.train.precision].itemsize
    numbers = sum(map(sum, holding.groups))
    own = sum(-(-sum(group) // place.sizes[1]) for group in holding.groups)
    weights, gradients, states = numbers * size, numbers * size, 3 * own * FLOAT
    kept = sum(_kept(config, name) for name in holding.layers)
    last = place.index[0] == place.sizes[0] - 1
    most = min(config.train.accumulation, place.sizes[0] - place.index[0])
    # what the first backward pass meets, and later ones: these find gradients, and maybe no more forward passes
    later = most if config.train.accumulation > most else most - 1
    passing = _working(config, holding)
    if last:  # its gradients come from the places with targets, and from either side to be stacked
        passing = max(_loss(config, vocabulary, targets), passing + 4 * hidden_bytes(config) // count_shares(config))

    def training(in_flight: int, gradients: int) -> Footprint:
        activations = in_flight * (kept + _fed(config))
        return Footprint(weights, gradients, states, activations, passing + _borders(config, place, in_flight))

    # the step: gradients flattened for the sum, and this rank's part of them in float32
    flat = max(numbers * size, own * (FLOAT + (size if size < FLOAT else 0)))
    step = Footprint(weights, gradients, states, 0, flat + _borders(config, place, 1))
    return max(training(most, 0), training(later, gradients), step, key=lambda footprint: footprint.peak)


def _kept(config: RunConfig, name: str) -> int:
    """What a layer keeps of one micro-batch."""
    x = hidden_bytes(config) // count_shares(config)
    kind = name.partition(".")[0]
    if kind == "tokens":
        return 0
    if kind == "positions":
        return 4 * x if config.model.dropout > 0 else 2 * x
    if kind in ("encoder", "decoder"):
        return _kept_by_block(config, name, config.parallel.recompute)
    return 2 * x + _statistics(config)


def _kept_by_block(config: RunConfig, name: str, recompute: Recompute) -> int:
    model, ranks, size = config.model, config.parallel.tensor, DTYPES[config.train.precision].itemsize
    rows, length = config.train.micro_batch_rows, config.data.row_length
    hidden = hidden_bytes(config)
    x = hidden // count_shares(config)
    if recompute == "whole":
        return 2 * x
    mask = rows * length**2 * size
    weights = mask if recompute == "selective" else mask * model.heads // ranks
    attentions = 1 if name.startswith("encoder") else 2
    one = hidden + 4 * hidden // ranks + weights + x
    memory = hidden if attentions == 2 and config.parallel.sequence_parallel else 0
    inner = rows * length * model.feed_forward_size * size // ranks
    parts = attentions + 1
    dropped = parts * x if model.dropout > 0 else 0
    return 2 * x + attentions * one + memory + hidden + inner + parts * _statistics(config) + dropped


def _statistics(config: RunConfig) -> int:
    """Mean and deviation of a LayerNorm."""
    return 2 * count_places(config) * DTYPES[config.train.precision].itemsize // count_shares(config)


def _fed(config: RunConfig) -> int:
    """Ids, positions and segments of a micro-batch, as they come and as the engine copies them; its labels."""
    return count_places(config) * (2 * (2 * LONG + LONG + FLOAT) + LONG + 2 * FLOAT)


def _working(config: RunConfig, holding: Holding) -> int:
    """On the way back through a block the gradients of what it handed on, of a normalised input, of the inner layer,
    and what is computed anew."""
    inner = hidden_bytes(config) * config.model.feed_forward_size // (config.model.hidden_size * config.parallel.tensor)
    both = 2 * hidden_bytes(config) // count_shares(config)
    again = 0
    if config.parallel.recompute == "whole":
        again = max(_kept_by_block(config, name, "none") - both for name in holding.layers if "." in name)
    return both + hidden_bytes(config) + inner + again


def _borders(config: RunConfig, place: Place, in_flight: int) -> int:
    """What comes over the borders of a stage: each micro-batch's input twice, buffers, and gradients."""
    if place.sizes[0] == 1:
        return 0
    both = 2 * hidden_bytes(config) // count_shares(config)
    behind = both * (2 * in_flight + 1) if place.index[0] > 0 else 0
    before = both if place.index[0] < place.sizes[0] - 1 else 0
    return behind + before


def _loss(config: RunConfig, vocabulary: tuple[int, int], targets: Mapping[str, int]) -> int:
    """The cross entropy at its most: what each side keeps, and one chunk of logits."""
    size = DTYPES[config.train.precision].itemsize
    width, ranks = config.model.hidden_size, config.parallel.tensor
    classes = vocabulary[1] // ranks
    hidden = sum(2 * count * width * size for count in targets.values())
    tables = len(targets) * classes * width * size + classes * width * FLOAT
    rows = min(max(targets.values(), default=0), POSITIONS_AT_ONCE)
    # logits and their softmax, for which narrow ones are widened
    chunk = rows * classes * (size + FLOAT + (FLOAT if size < FLOAT else 0))
    gathered = len(targets) * hidden_bytes(config) if config.parallel.sequence_parallel else 0
    return hidden + tables + chunk + gathered
