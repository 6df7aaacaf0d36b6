"""`hzlm check`."""

import argparse
import json
from pathlib import Path

SUMMARY = "check on this machine that every layout of processes trains the same model"
NOTES = (
    "Without --data the demo's text is prepared in runs/bench at the first call; exit status 1 where a layout differs."
)
EXAMPLES = (
    "hzlm check layouts",
    "hzlm check layouts 2x1x2 1x1x2+rows 2x1x1+dualpipev",
    "hzlm check layouts --data runs/data --optimizer adamw",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    subjects = parser.add_subparsers(metavar="SUBJECT", required=True)
    layouts = subjects.add_parser(
        "layouts", help="20 steps of a tiny model under each layout, beside the same steps of one process"
    )
    layouts.add_argument("layouts", nargs="*", metavar="PxDxT", help="pipe x data x tensor (default: all, and resumes)")
    layouts.add_argument("--data", type=Path, metavar="DATASET", help="dataset (default: the demo's text)")
    layouts.add_argument("--optimizer", choices=("lamb", "adamw"), default="lamb")
    layouts.set_defaults(measure=_check_layouts)


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    status: int = options.measure(options)
    return status


def _check_layouts(options: argparse.Namespace) -> int:
    from hzlm.commands.bench import prepare_demo_data
    from hzlm.tools.check.layouts import BOUND, LAYOUTS, RESUMES, check_layouts, describe, parse_layout

    layouts = [parse_layout(text) for text in options.layouts]
    data = options.data or prepare_demo_data()
    outcomes = check_layouts(data, layouts or LAYOUTS, () if layouts else RESUMES, options.optimizer)
    print(describe(outcomes))
    failed = [outcome.name for outcome in outcomes if not outcome.holds]
    found = {
        "checked": len(outcomes),
        "largest_error": max(max(outcome.loss_error, outcome.tensor_error) for outcome in outcomes),
        "bound": BOUND,
        "failed": failed,
    }
    print(json.dumps(found))
    return 1 if failed else 0
