"""`hzlm average`."""

import argparse
from pathlib import Path

from hzlm.commands.arguments import count
from hzlm.errors import UserError

SUMMARY = "average the weights of checkpoints into one model"
EXAMPLES = (
    "hzlm average runs/first --last 5 --output runs/first_average",
    "hzlm average runs/first/checkpoints/step_00009000 runs/second/checkpoints/best --output runs/mean",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH",
                        help="a run folder of `hzlm train` with --last, else checkpoints")  # fmt: skip
    parser.add_argument("--last", type=count, metavar="N", help="average the last N checkpoints of the run")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="checkpoint folder to write")


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from hzlm.tools.average import average_checkpoints, last_checkpoints

    paths = options.paths
    if options.last is not None:
        if len(paths) > 1:
            raise UserError(f"--last {options.last} goes with one run folder, not {len(paths)} paths; leave it out")
        paths = last_checkpoints(paths[0], options.last)
    elif len(paths) == 1:
        raise UserError(f"{paths[0]}: is one path; pass --last N with a run folder, or several checkpoints")
    average_checkpoints(paths, options.output)
    print(f"{options.output}: the mean of {', '.join(map(str, paths))}")
