"""`hzlm prepare`."""

import argparse
from pathlib import Path

from hzlm.commands.arguments import count, rate

SUMMARY = "turn raw text into a dataset"
EXAMPLES = (
    "hzlm prepare corpus/ news.jsonl.gz --output runs/data",
    "hzlm prepare reviews.txt --output runs/reviews --vocabulary runs/data/vocabulary.json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="text or JSON lines, file or folder")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="dataset folder to be written")
    parser.add_argument("--vocabulary", type=Path, metavar="FILE", help="take this vocabulary, build none")
    parser.add_argument("--coverage", type=rate, default=0.9999, metavar="SHARE",
                         help="share of the text's characters that the vocabulary covers (default 0.9999)")  # fmt: skip
    parser.add_argument("--unit", choices=("sentence", "clause"), default="sentence",
                         help="what a sample is: a sentence (default), or a clause without punctuation")  # fmt: skip
    parser.add_argument("--max-length", type=count, default=128, metavar="N",
                         help="longest sample in characters (default 128)")  # fmt: skip
    parser.add_argument("--ngram", type=count, metavar="ORDER",
                         help="also build a character n-gram model of the training split")  # fmt: skip
    parser.add_argument("--ngram-size", type=float, default=16.0, metavar="MB",
                         help="prune the n-gram model to this size (default 16)")  # fmt: skip
    parser.add_argument("--arpa", type=Path, metavar="FILE", help="also write the n-gram model in ARPA format")


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from hzlm.tools.prepare import prepare

    report = prepare(
        options.inputs,
        options.output,
        vocabulary=options.vocabulary,
        coverage=options.coverage,
        unit=options.unit,
        max_length=options.max_length,
        ngram_order=options.ngram,
        ngram_size=options.ngram_size,
        arpa=options.arpa,
    )
    print(report)
