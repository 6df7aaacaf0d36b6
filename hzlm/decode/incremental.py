"""The decoder run one position at a time: what the beam search spends its time in.

The same network as `EncoderDecoder`, with its weights laid out for a few rows at a time: query, key and value of self
attention are one matrix, the keys and values of all cross attentions another, and what a hypothesis has seen lies in
one tensor for all layers, so that following the hypotheses is one copy.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from hzlm.decode.packed import pack
from hzlm.kernels.faces import OLDEST_GPU
from hzlm.model.blocks import DecoderBlock
from hzlm.model.encoder_decoder import EncoderDecoder

# A layer with its weights: [rows, in] -> [rows, out]. Functions, since to call a module takes as long as to run it.
Operation = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Block:
    """What one decoder block computes, but for the keys and values of its cross attention."""

    self_norm: Operation
    query_key_value: Operation
    self_output: Operation
    cross_norm: Operation
    cross_query: Operation
    cross_output: Operation
    feed_forward_norm: Operation
    expand: Operation
    contract: Operation


class IncrementalDecoder:
    """The decoder of a model, and of one search at a time what its hypotheses have seen.

    Shapes: B sentences of N positions, K hypotheses (beams) of each, L decoder blocks, H heads of size D, W = H * D.
    """

    def __init__(self, model: EncoderDecoder, packed: bool = False) -> None:
        """Copies the decoder's matrices.

        Args:
            model: computes in its own dtype.
            packed: pack the matrices (`hzlm.decode.packed`); the model is float32 then.
        """
        self._tokens, self._positions = model.tokens.weight, model.positions.target
        self._norm = _normalise(model.decoder_norm.norm)
        self._aligned = model.config.aligned
        self.target_start = model.target_start
        self._heads = model.config.heads
        self._packed = packed
        self._cached_attention = _load_cached_attention(self._tokens.device)
        decoder = [block for block in model.decoder if isinstance(block, DecoderBlock)]
        self._blocks = [self._lay_out(block) for block in decoder]
        attentions = [block.cross_attention for block in decoder]
        self._memory_keys_values = self._join(*(part for a in attentions for part in (a.key, a.value)))
        self._output = self._multiply(self._tokens.detach()[self.target_start :], None)

    def _lay_out(self, block: DecoderBlock) -> Block:
        own, cross, feed_forward = block.self_attention, block.cross_attention, block.feed_forward
        return Block(
            _normalise(block.self_norm),
            self._join(own.query, own.key, own.value),
            self._join(own.output),
            _normalise(block.cross_norm),
            self._join(cross.query),
            self._join(cross.output),
            _normalise(block.feed_forward_norm),
            self._join(feed_forward.expand),
            self._join(feed_forward.contract),
        )

    def _join(self, *linears: nn.Linear) -> Operation:
        """The layers as one, their outputs one after the other."""
        weight = torch.cat([linear.weight.detach() for linear in linears])
        return self._multiply(weight, torch.cat([linear.bias.detach() for linear in linears]))

    def _multiply(self, weight: Tensor, bias: Tensor | None) -> Operation:
        if self._packed:
            return pack(weight, bias)
        return lambda x: functional.linear(x, weight, bias)

    def start(self, memory: Tensor, segments: Tensor, beam: int) -> None:
        """Before the first position, and before `fill` where there is a prefix.

        Args:
            memory: [B, N, W], the encoder's output.
            segments: [B, N], 1 on the sentence, 0 after its end.
            beam: K.
        """
        batch, length, width = memory.shape
        size = width // self._heads
        self._memory, self._beam, self._position, self._prefix = memory, beam, 0, 0
        # [2 L, B * H, N, D]: keys of block 0, values of block 0, keys of block 1, ...
        crossed = self._memory_keys_values(memory).view(batch, length, -1, self._heads, size)
        self._crossed = crossed.permute(2, 0, 3, 1, 4).reshape(-1, batch * self._heads, length, size)
        hidden = torch.zeros(batch, 1, 1, length, dtype=memory.dtype, device=memory.device)
        hidden = hidden.masked_fill_((segments == 0)[:, None, None], -torch.inf)
        self._cross_bias = hidden.expand(batch, self._heads, 1, length).reshape(-1, 1, length)
        # [N, L, 2, B * K, W]: time first, so that the past of all layers is one stretch of memory
        self._past = memory.new_empty(length, len(self._blocks), 2, batch * beam, width)
        self._spare = torch.empty_like(self._past)

    def fill(self, tokens: Tensor) -> Tensor:
        """Runs the first P positions at once, right behind `start`: what all hypotheses of a sentence have seen.

        Args:
            tokens: int64 [B, P], the target token before each of them ([BOS] first).

        Returns:
            [B, P, W], what `logits` takes.
        """
        batch, self._prefix = tokens.shape
        x = functional.embedding(tokens, self._tokens) + self._positions[: self._prefix]
        if self._aligned:
            x = x + self._memory[:, : self._prefix]
        x = x.flatten(0, 1)
        self._position = self._prefix
        for number, block in enumerate(self._blocks):
            joined = block.query_key_value(block.self_norm(x)).view(batch, self._prefix, 3, -1)
            kept = joined[:, :, 1:].permute(1, 2, 0, 3).repeat_interleave(self._beam, dim=2)
            # no hypothesis reorders what all have in common, so both memories hold it
            self._past[: self._prefix, number] = self._spare[: self._prefix, number] = kept
            query, key, value = joined.unflatten(3, (self._heads, -1)).permute(2, 0, 3, 1, 4)
            seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
            x = self._finish_block(x, seen.transpose(1, 2).reshape(x.shape), number)
        return x.view(batch, self._prefix, -1)

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden [R, W] -> [R, targets]; index i is the token id target_start + i."""
        return self._output(self._norm(hidden))

    def reorder(self, rows: Tensor) -> None:
        """Lets hypothesis i of the B * K go on from what was hypothesis rows[i]; rows int64 [B * K].

        After `fill` the two are hypotheses of one sentence.
        """
        now = slice(self._prefix, self._position)
        torch.index_select(self._past[now], 3, rows, out=self._spare[now])
        self._past, self._spare = self._spare, self._past

    def step(self, tokens: Tensor) -> Tensor:
        """What the model says of the next position.

        Args:
            tokens: int64 [B, K], the target token before that position ([BOS] at the first).

        Returns:
            Logits [B * K, targets] (`logits`).
        """
        position = self._position
        x = functional.embedding(tokens, self._tokens) + self._positions[position]
        if self._aligned:
            x = x + self._memory[:, position, None]
        x = x.view(-1, x.shape[-1])
        self._position += 1
        for number, block in enumerate(self._blocks):
            joined = block.query_key_value(block.self_norm(x)).view(len(x), 3, -1)
            self._past[position, number] = joined[:, 1:].transpose(0, 1)
            x = self._finish_block(x, self._attend_past(joined[:, 0], number), number)
        return self.logits(x)

    def _finish_block(self, x: Tensor, seen: Tensor, number: int) -> Tensor:
        """What a block does with x [rows, W] and what its self attention has seen, both of any rows a sentence."""
        block = self._blocks[number]
        x = x + block.self_output(seen)
        x = x + block.cross_output(self._attend_memory(block.cross_query(block.cross_norm(x)), number))
        return x + block.contract(block.expand(block.feed_forward_norm(x)).relu_())

    def _attend_past(self, query: Tensor, number: int) -> Tensor:
        """query [B * K, W] looks at the positions so far -> [B * K, W]."""
        if self._cached_attention is not None:
            keys, values = self._past[:, number].unflatten(3, (self._heads, -1)).permute(1, 2, 0, 3, 4)
            lengths = torch.full((len(query),), self._position, dtype=torch.int32)
            return self._cached_attention(query.unflatten(1, (self._heads, -1)), keys, values, lengths).flatten(1)
        size = query.shape[1] // self._heads
        past = self._past[: self._position, number].view(self._position, 2, -1, size)
        keys, values = past[:, 0].transpose(0, 1), past[:, 1].transpose(0, 1)  # [B * K * H, steps, D]
        scores = torch.bmm(query.reshape(-1, 1, size), keys.transpose(1, 2)).mul_(size**-0.5)
        return torch.bmm(scores.softmax(dim=-1), values).view(query.shape)

    def _attend_memory(self, query: Tensor, number: int) -> Tensor:
        """query [B * Q, W] looks at the encoder's output: the Q beams or positions of a sentence are one matrix."""
        keys, values = self._crossed[2 * number], self._crossed[2 * number + 1]
        size, asked = keys.shape[-1], len(query) * self._heads // len(keys)
        queries = query.view(-1, asked, self._heads, size).transpose(1, 2).reshape(-1, asked, size)
        scores = torch.baddbmm(self._cross_bias, queries, keys.transpose(1, 2), alpha=size**-0.5)
        seen = torch.bmm(scores.softmax(dim=-1), values)  # [B * H, Q, D]
        return seen.view(-1, self._heads, asked, size).transpose(1, 2).reshape(query.shape)


def _normalise(norm: nn.LayerNorm) -> Operation:
    return lambda x: torch.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _load_cached_attention(device: torch.device) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] | None:
    """`hzlm.kernels.cached_attention` on GPUs, where it is one kernel; None elsewhere."""
    on_gpu = device.type == "cuda" and torch.version.cuda is not None
    if not on_gpu or torch.cuda.get_device_capability(device) < OLDEST_GPU:
        return None
    from hzlm.kernels.gpu.cached_attention import cached_attention  # only here: Triton is not installed everywhere

    return cached_attention
