"""Counts of runs -> the pieces that they are best cut into, by sentencepiece."""

import io
import tempfile
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

from hzlm.errors import UserError
from hzlm.pieces import SCORES_PER_NAT, Pieces
from hzlm.vocabulary import BYTES

COVERAGE = 0.9995
"""Share of the characters of all runs that are pieces themselves; the rest becomes bytes."""


def train_pieces(runs: Mapping[str, int], size: int, required: Collection[str] = ()) -> Pieces:
    """Trains a unigram model (Kudo 2018). The same counts always give the same pieces.

    Args:
        runs: run of letters and digits -> occurrences.
        size: pieces wanted; fewer where the runs hold no more.
        required: characters that must be pieces.

    Raises:
        UserError: the single characters alone are more than `size`.
    """
    from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

    if not runs and not required:
        return Pieces((), ())
    alphabet = _alphabet(runs) | set(required)
    if len(alphabet) > size:
        raise UserError(
            f"vocabulary.pieces is {size}, but text and vocabulary.include have {len(alphabet)} different letters and "
            f"digits, and each is a piece; give at least {len(alphabet)}, or 0 for a vocabulary of characters alone"
        )
    spelt = Counter(dict.fromkeys(required, 1))
    for run, count in runs.items():
        known = "".join(character if character in alphabet else " " for character in run)
        for part in known.split():
            spelt[part] += count
    model = io.BytesIO()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "runs.tsv"
        path.write_text("".join(f"{run}\t{count}\n" for run, count in sorted(spelt.items())), encoding="utf-8")
        SentencePieceTrainer.train(
            input=str(path),
            input_format="tsv",
            model_writer=model,
            model_type="unigram",
            # <unk> and the bytes are no pieces of ours
            vocab_size=size + 1 + BYTES,
            hard_vocab_limit=False,
            byte_fallback=True,
            character_coverage=1.0,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            bos_id=-1,
            eos_id=-1,
            # sums of expectations depend on how many threads share them
            num_threads=1,
            minloglevel=2,
        )
    trained = SentencePieceProcessor(model_proto=model.getvalue())
    ids = range(1 + BYTES, len(trained))
    return Pieces(
        tuple(map(trained.id_to_piece, ids)), tuple(round(trained.get_score(i) * SCORES_PER_NAT) for i in ids)
    )


def _alphabet(runs: Mapping[str, int]) -> set[str]:
    """The most frequent characters that make up COVERAGE of the runs."""
    counts: Counter[str] = Counter()
    for run, count in runs.items():
        for character in run:
            counts[character] += count
    wanted = COVERAGE * counts.total()
    alphabet: set[str] = set()
    covered = 0
    for character, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if covered >= wanted:
            break
        alphabet.add(character)
        covered += count
    return alphabet
