"""`hzlm calibrate`."""

import argparse
import sys
from pathlib import Path

from hzlm.commands.arguments import rate

SUMMARY = "tune how boldly a trained model corrects, on sentences with errors"
EXAMPLES = (
    "hzlm calibrate runs/corrector dev.tsv",
    "hzlm calibrate runs/corrector dev.tsv --untouched 0.995",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder of `hzlm train`; gets correction.json")
    parser.add_argument("pairs", type=Path, metavar="PAIRS.tsv",
                        help="lines of [id<TAB>]sentence with errors<TAB>sentence; no test set")  # fmt: skip
    parser.add_argument("--untouched", type=rate, default=0.98, metavar="SHARE",
                        help="least share of the right sentences to be left as they are (default 0.98)")  # fmt: skip


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from hzlm.evaluate.calibrate import calibrate

    print(f"{options.pairs}: tuned on, so no test set: no figure on it can be trusted afterwards", file=sys.stderr)
    print(calibrate(options.run, options.pairs, options.untouched))
