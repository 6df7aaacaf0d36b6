"""`hzlm bench decode`: how fast sentences are converted on this CPU, beside Hugging Face's `generate`."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor

from hzlm.decode.converter import BATCH_SIZE, Converter, Source
from hzlm.errors import UserError
from hzlm.evaluate.files import read_examples
from hzlm.launch.environment import keep_freed_memory
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.progress import Progress
from hzlm.table import format_table
from hzlm.tools.twin import copy_weights, make_twin
from hzlm.vocabulary import Vocabulary

BEAMS = (1, 4)
CANDIDATES = 5
SYLLABLES = 12
CALLS = 40
"""Sentences converted one by one in a turn."""


@dataclass(frozen=True)
class Case:
    """What one measurement is of."""

    system: str
    beam: int
    threads: int


def bench_decode(
    model: EncoderDecoder, vocabulary: Vocabulary, data: Path, sentences: int = 512, rounds: int = 3
) -> None:
    """Measures in turns and prints a table, and one JSON object as the last line.

    `sentences_per_s_beam1`, `sentences_per_s_beam4`: in batches of 64 on all threads of the process, the best one
    asked for.
    `p50_ms_12_syllables`, `p95_ms_12_syllables`: of single sentences of 12 syllables, beam 4, five candidates, on one
    thread. `vs_hf_generate`: sentences a second, beam 4, over those of the faster of Blenderbot in float32 and in
    bf16 with the same weights, which looks for any token where ours looks for the hanzi of a syllable.

    Args:
        model: in float32.
        vocabulary: of the model.
        data: lines of pinyin<TAB>hanzi, as `hzlm prepare` writes dev.tsv and test.tsv.
        sentences: converted in batches in a turn.
        rounds: turns that count; one more warms up.

    Raises:
        UserError: the file has no sentence of 12 syllables, or not enough sentences.
    """
    keep_freed_memory()
    converter = Converter(model, vocabulary)
    sources = [example.source for example in read_examples(data, converter)]
    singles = [source for source in sources if len(source.ids) == SYLLABLES][:CALLS]
    if not singles or len(sources) < BATCH_SIZE:
        raise UserError(f"{data}: {len(sources)} sentences, {len(singles)} of them of 12 syllables: give a longer file")
    batch = sources[:sentences]
    generators = {
        f"Blenderbot, {str(dtype).removeprefix('torch.')}": _Generator(model, dtype)
        for dtype in (torch.float32, torch.bfloat16)
    }
    all_threads = torch.get_num_threads()
    cases = [Case("hzlm", beam, threads) for beam in BEAMS for threads in sorted({1, min(2, all_threads), all_threads})]
    cases += [Case(system, beam, all_threads) for system in generators for beam in BEAMS]
    latencies: dict[Case, list[float]] = {case: [] for case in cases}
    rates: dict[Case, list[float]] = {case: [] for case in cases}
    with Progress((rounds + 1) * len(cases), "benchmark", "measurements") as bar:
        for number in range(rounds + 1):
            for case in cases:
                torch.set_num_threads(case.threads)
                convert = _converter_of(case, converter, generators)
                seconds = [_seconds(convert, [source], CANDIDATES) for source in singles]
                rate = len(batch) / _seconds(convert, batch, 1)
                if number > 0:  # the first turn warms up
                    latencies[case] += seconds
                    rates[case].append(rate)
                bar.advance()
    torch.set_num_threads(all_threads)
    print(_describe(latencies, rates))
    print(_summary(latencies, rates, all_threads))


class _Generator:
    """Hugging Face's beam search over the twin."""

    def __init__(self, model: EncoderDecoder, dtype: torch.dtype) -> None:
        self._twin = make_twin(model.config, len(model.tokens.weight)).eval()
        copy_weights(model, self._twin)
        self._twin.to(dtype)

    def convert(self, sources: Sequence[Source], beam: int) -> None:
        """Batches of sentences of about the same length, as the Converter makes them; the length is given."""
        rows = [torch.from_numpy(source.ids) for source in sources]
        rows.sort(key=len)
        for start in range(0, len(rows), BATCH_SIZE):
            self._generate(torch.nn.utils.rnn.pad_sequence(rows[start : start + BATCH_SIZE], batch_first=True), beam)

    @torch.inference_mode()
    def _generate(self, source: Tensor, beam: int) -> None:
        length = source.shape[1]
        self._twin.generate(
            input_ids=source, attention_mask=(source != Vocabulary.pad_id).long(), num_beams=beam, do_sample=False,
            min_new_tokens=length, max_new_tokens=length, num_return_sequences=1,
        )  # fmt: skip


# (sources, candidates of each): converts them
Convert = Callable[[Sequence[Source], int], object]


def _converter_of(case: Case, converter: Converter, generators: dict[str, _Generator]) -> Convert:
    if case.system in generators:
        return lambda sources, n_best: generators[case.system].convert(sources, case.beam)
    return lambda sources, n_best: converter.search(sources, n_best if case.beam > 1 else 1, case.beam)


def _seconds(convert: Convert, sources: Sequence[Source], n_best: int) -> float:
    start = time.perf_counter()
    convert(sources, n_best)
    return time.perf_counter() - start


def _percentile(seconds: Sequence[float], share: int) -> float:
    """In milliseconds."""
    return 1e3 * float(np.percentile(seconds, share))


def _describe(latencies: dict[Case, list[float]], rates: dict[Case, list[float]]) -> str:
    headings = ("system", "beam", "threads", "sentences/s", f"p50 ms, {SYLLABLES} syllables", "p95 ms")
    rows = [
        (
            case.system,
            str(case.beam),
            str(case.threads),
            f"{median(rates[case]):,.1f}",
            f"{_percentile(seconds, 50):.1f}",
            f"{_percentile(seconds, 95):.1f}",
        )
        for case, seconds in latencies.items()
    ]
    return format_table(headings, rows)


def _summary(latencies: dict[Case, list[float]], rates: dict[Case, list[float]], threads: int) -> str:
    narrow, wide = (median(rates[Case("hzlm", beam, threads)]) for beam in BEAMS)
    single = latencies[Case("hzlm", BEAMS[-1], 1)]
    theirs = max(median(rates[case]) for case in rates if case.system != "hzlm" and case.beam == BEAMS[-1])
    return json.dumps(
        {
            "sentences_per_s_beam1": round(narrow, 1),
            "sentences_per_s_beam4": round(wide, 1),
            "p50_ms_12_syllables": round(_percentile(single, 50), 2),
            "p95_ms_12_syllables": round(_percentile(single, 95), 2),
            "vs_hf_generate": round(wide / theirs, 2),
        }
    )
