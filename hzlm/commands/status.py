"""`hzlm status`."""

import argparse
from pathlib import Path

SUMMARY = "show how far a run is, how fast it goes, and how it was started and stopped"
EXAMPLES = (
    "hzlm status runs/first",
    "hzlm status runs/first --json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder of `hzlm train`")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from hzlm.train.status import read_status

    status = read_status(options.run)
    print(status.json() if options.json else status.table())
