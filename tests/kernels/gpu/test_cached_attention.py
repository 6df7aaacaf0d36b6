"""Attention over a cache in Triton against its definition in float64."""

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreter import Traffic, spread, watch
from torch import Tensor

from hzlm.decode import incremental
from hzlm.kernels.cached_attention import cached_attention_reference
from hzlm.kernels.gpu.blocks import choose_blocks
from hzlm.kernels.gpu.cached_attention import cached_attention
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.tools.bench.kernels.cached_attention import cached_attention_cost
from hzlm.vocabulary import Vocabulary

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
# Everything but the result is float32 (2^-24 = 6e-8, over sums of a hundred products); that is rounded once: to half of
# 2^-10 in fp16, of 2^-7 in bf16.
TOLERANCE = {torch.float32: 2e-6, torch.float16: 5e-4, torch.bfloat16: 4e-3}
BLOCK = choose_blocks("cached_attention", 32)["BLOCK"]


def draw(lengths: Sequence[int], most: int, heads: int, size: int, dtype: torch.dtype, seed: int = 0) -> list[Tensor]:
    """Query, keys, values, lengths; behind the end of a row is NaN."""
    generator = torch.Generator().manual_seed(seed)
    rows = len(lengths)
    query = torch.randn(rows, heads, size, generator=generator).to(dtype)
    keys, values = torch.randn(2, rows, most, heads, size, generator=generator).to(dtype)
    for row, length in enumerate(lengths):
        keys[row, length:] = values[row, length:] = torch.nan
    return [query, keys, values, torch.tensor(lengths, dtype=torch.int32)]


def run(arguments: Sequence[Tensor]) -> tuple[Tensor, Traffic]:
    with watch() as traffic:
        out = cached_attention(*arguments)
    return out, traffic


def check(arguments: Sequence[Tensor]) -> None:
    out, _ = run(arguments)
    *tensors, lengths = arguments
    expected = cached_attention_reference(*(x.double() for x in tensors), lengths)
    assert out.dtype == tensors[0].dtype
    assert out[lengths == 0].eq(0.0).all()
    torch.testing.assert_close(out.double(), expected, rtol=TOLERANCE[out.dtype], atol=TOLERANCE[out.dtype])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("lengths", "size"),
    [
        ([1, 0, 13], 32),
        ([BLOCK - 1, BLOCK, BLOCK + 1, 0], 32),
        ([2 * BLOCK + 1, 3 * BLOCK], 64),
        ([70, 5], 96),
        ([33], 128),
        ([7, 9], 8),
    ],
)
def test_equals_the_definition(lengths: list[int], size: int, dtype: torch.dtype) -> None:
    check(draw(lengths, max(lengths) + 2, 2, size, dtype))


@settings(max_examples=12)
@given(
    st.lists(st.integers(0, 150), min_size=1, max_size=3),
    st.integers(1, 3),
    st.integers(1, 70),
    st.sampled_from(FLOATS),
    st.integers(0, 2**31),
)
def test_equals_the_definition_of_any_shape(
    lengths: list[int], heads: int, size: int, dtype: torch.dtype, seed: int
) -> None:
    check(draw(lengths, max(lengths), heads, size, dtype, seed))


def test_large_scores_do_not_overflow() -> None:
    query, keys, values, lengths = draw([70, 3], 70, 1, 32, torch.float16)
    check([query * 50, keys * 50, values, lengths])


def test_the_cache_may_have_any_strides() -> None:
    """That of the decoder has the positions outside, and keys and values of all layers within each."""
    query, keys, values, lengths = draw([9, 0, 4], 9, 2, 32, torch.float32)
    expected, _ = run([query, keys, values, lengths])
    cache = torch.stack([keys, values]).permute(2, 0, 1, 3, 4).contiguous()
    joined = torch.stack([query, query, query], 1)
    assert torch.equal(run([joined[:, 1], *cache.permute(1, 2, 0, 3, 4), lengths])[0], expected)
    assert torch.equal(run([*map(spread, (query, keys, values)), lengths])[0], expected)
    swapped = [x.transpose(-1, -2).contiguous().transpose(-1, -2) for x in (query, keys, values)]
    assert torch.equal(run([*swapped, lengths])[0], expected)


def test_runs_give_equal_bits() -> None:
    arguments = draw([70, 33], 70, 2, 64, torch.bfloat16)
    assert torch.equal(run(arguments)[0], run(arguments)[0])


def test_there_may_be_no_rows_and_no_cache() -> None:
    out, traffic = run(draw([], 4, 2, 32, torch.float32))
    assert out.shape == (0, 2, 32)
    assert traffic.launches == 0
    assert run(draw([0, 0], 0, 2, 32, torch.float32))[0].eq(0.0).all()


def test_what_is_no_number_stays_in_its_row() -> None:
    arguments = draw([9, 9], 9, 2, 32, torch.float32)
    expected, _ = run(arguments)
    arguments[0][0, 1, 5] = torch.nan
    out, _ = run(arguments)
    assert out[0, 1].isnan().all()
    assert torch.equal(out[0, 0], expected[0, 0])
    assert torch.equal(out[1], expected[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_moves_what_the_formula_says(dtype: torch.dtype) -> None:
    """Only what the rows see: not the rest of the cache."""
    lengths = [0, 1, BLOCK + 5, 7]
    _, traffic = run(draw(lengths, 200, 3, 24, dtype))
    cost = cached_attention_cost(lengths, 3, 24, dtype)
    assert (traffic.read, traffic.written, traffic.launches) == (cost.read, cost.written, 1)


@pytest.mark.parametrize(
    ("which", "change", "message"),
    [
        (0, lambda x: x.double(), r"query is torch\.float64"),
        (0, lambda x: x[0], "query has 2 dimensions"),
        (1, lambda x: x[0], "keys has 3 dimensions"),
        (1, lambda x: x[..., :4], r"keys has shape \[2, 9, 2, 4\]; it must be \[2, 9, 2, 32\]"),
        (1, lambda x: x.half(), r"keys is torch\.float16"),
        (2, lambda x: x[:, 1:], r"values has shape \[2, 8, 2, 32\]"),
        (2, lambda x: x.half(), r"values is torch\.float16"),
        (2, lambda x: x.to("meta"), "values is on meta"),
        (3, lambda x: x[:1], r"lengths has shape \[1\]"),
        (3, lambda x: x.long(), r"lengths is torch\.int64"),
        (3, lambda x: x.to("meta"), "lengths is on meta; it must be on cpu"),
        (3, lambda x: x + 1, r"lengths has \[10, 5\]; each must be in 0\.\.9"),
        (3, lambda x: x - 5, r"lengths has \[4, -1\]; each must be in 0\.\.9"),
    ],
)
def test_wrong_arguments_are_refused(which: int, change: Callable[[Tensor], Tensor], message: str) -> None:
    arguments = draw([9, 4], 9, 2, 32, torch.float32)
    arguments[which] = change(arguments[which])
    with watch() as traffic, pytest.raises(ValueError, match=message):
        cached_attention(*arguments)
    assert traffic.launches == 0


@torch.inference_mode()
def test_the_decoder_says_the_same_with_it(
    model: EncoderDecoder, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: on the cache as the decoder lays it out, whose hypotheses go on from others."""
    plain = incremental.IncrementalDecoder(model)
    monkeypatch.setattr(incremental, "_load_cached_attention", lambda device: cached_attention)
    fused = incremental.IncrementalDecoder(model)
    generator = torch.Generator().manual_seed(7)
    source = torch.randint(4, vocabulary.target_start, (2, 5), generator=generator)
    segments = torch.ones(2, 5, dtype=torch.int32)
    memory = model.encode(source, segments)
    with watch() as traffic:
        for decoder in (plain, fused):
            decoder.start(memory, segments, beam=3)
        for _ in range(5):
            tokens = torch.randint(vocabulary.target_start, vocabulary.size, (2, 3), generator=generator)
            torch.testing.assert_close(fused.step(tokens), plain.step(tokens), rtol=1e-5, atol=1e-5)
            rows = torch.randint(6, (6,), generator=generator)
            for decoder in (plain, fused):
                decoder.reorder(rows)
    assert traffic.launches == 5 * model.config.decoder_layers
