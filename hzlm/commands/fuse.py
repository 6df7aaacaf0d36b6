"""`hzlm fuse`."""

import argparse
from pathlib import Path

SUMMARY = "make a dataset's n-gram model the companion of a trained model, its weight tuned on dev text"
EXAMPLES = ("hzlm fuse runs/first runs/data",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder of `hzlm train`")
    parser.add_argument("data", type=Path, metavar="DATASET", help="dataset folder prepared with ngram.order")


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from hzlm.evaluate.fuse import fuse

    print(fuse(options.run, options.data))
