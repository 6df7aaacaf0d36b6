"""`hzlm demo`."""

import argparse
from pathlib import Path

from hzlm.train.stop import end_at_once

SUMMARY = "the whole line on this machine: text, dataset, model, figures"
EXAMPLES = ("hzlm demo",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--output", type=Path, default=Path("runs/demo"), metavar="FOLDER",
                      help="where everything is written (default runs/demo)")  # fmt: skip


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    with end_at_once():
        from hzlm.tools.demo import run_demo

    run_demo(options.output)
