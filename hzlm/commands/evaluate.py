"""`hzlm evaluate`."""

import argparse
from pathlib import Path

from hzlm.commands.arguments import count

SUMMARY = "measure a model on sentences whose hanzi are known"
EXAMPLES = ("hzlm evaluate runs/first runs/data/test.tsv",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="run folder or checkpoint")
    parser.add_argument("data", type=Path, metavar="DATA.tsv", help="lines of pinyin<TAB>hanzi[<TAB>source]")
    parser.add_argument("--beam", type=count, default=10, metavar="N",
                        help="beam width of the model alone (default 10); with n-grams 30 and more")  # fmt: skip
    parser.add_argument("--limit", type=count, metavar="N", help="measure the first N lines only")


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from hzlm.evaluate.run import evaluate

    evaluation = evaluate(options.model, options.data, beam=options.beam, limit=options.limit)
    print(evaluation.table())
    print(evaluation.json())
