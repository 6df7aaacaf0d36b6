"""`hzlm fuse`: an n-gram model becomes the companion of a trained model, with the weight that does best on dev text."""

from collections.abc import Callable, Sequence
from pathlib import Path

from hzlm.decode.companion import Companion, Fusion, save_companion
from hzlm.decode.converter import Converter, System
from hzlm.decode.ngram import NGRAM_FILE, NgramModel
from hzlm.errors import UserError
from hzlm.evaluate.files import Example, parse_line, read_lines
from hzlm.evaluate.metrics import character_accuracy
from hzlm.evaluate.spread import choose_spread
from hzlm.model.checkpoint_files import CHECKPOINTS
from hzlm.model.pretrained import find_checkpoint, load_model, step_of
from hzlm.progress import Progress

WEIGHTS = (0.0, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.5, 4.0, 6.0, 9.0)
"""Tried in this order; of equally good ones the first is taken."""

SENTENCES = 500
"""Dev sentences looked at, spread over the whole file: their order is that of the text."""


def fuse(run: Path, data: Path) -> Fusion:
    """Tunes the weight of shallow fusion by character accuracy on dev.tsv, and writes RUN/companion.

    Args:
        run: run folder of `hzlm train`; its latest checkpoint is what is tuned for.
        data: dataset folder made by `hzlm prepare` with an n-gram model.

    Raises:
        UserError: something is missing or damaged, or model and n-gram model have different vocabularies.
    """
    if not (run / CHECKPOINTS).is_dir():
        raise UserError(f"{run}: no run folder with checkpoints; give the folder that hzlm train wrote")
    checkpoint = find_checkpoint(run)
    model, vocabulary = load_model(checkpoint or run)
    path = data / NGRAM_FILE
    if not path.is_file():
        raise UserError(f"{path}: no such file; make the dataset with hzlm prepare --set ngram.order=3")
    ngram = NgramModel.load(path, vocabulary)
    converter = Converter(model, vocabulary)
    lines = choose_spread(lambda: read_lines(data / "dev.tsv"), SENTENCES)
    examples = [parse_line(line, converter) for line in lines]
    with Progress((len(WEIGHTS) + 1) * len(examples), "tuning", "sentences") as progress:

        def accuracy(weight: float, system: System) -> float:
            converter.companion = Companion(ngram, weight)
            return _accuracy(converter, examples, system, progress.advance)

        accuracies = {weight: accuracy(weight, "fused") for weight in WEIGHTS}
        ngram_accuracy = accuracy(1.0, "n-gram")
    best = max(WEIGHTS, key=accuracies.__getitem__)
    fusion = Fusion(
        weight=best,
        step=step_of(checkpoint or run),
        sentences=len(examples),
        accuracies={str(weight): round(share, 6) for weight, share in accuracies.items()},
        ngram_accuracy=round(ngram_accuracy, 6),
    )
    save_companion(run, ngram, fusion, vocabulary)
    return fusion


def _accuracy(
    converter: Converter,
    examples: Sequence[Example],
    system: System,
    advance: Callable[[int], None],
) -> float:
    found = converter.search([example.source for example in examples], 1, None, advance, system)
    return character_accuracy(
        [example.hanzi for example in examples],
        [candidates[0].text for candidates in found],
        [[character is None for character in example.source.characters] for example in examples],
    )
