"""`hzlm watch`."""

import argparse
from pathlib import Path

from hzlm.commands.arguments import count

SUMMARY = "decode dev sentences with every checkpoint of a run, while it goes on"
EXAMPLES = ("hzlm watch runs/first", "hzlm watch runs/first --once --sentences 2000")
NOTES = """\
The figures go to RUN/watch.jsonl and, with the worst mistakes, to RUN/tensorboard/watch, which
TensorBoard shows beside the curves of the training. It ends with the run."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder of `hzlm train`")
    parser.add_argument("--sentences", type=count, default=500, metavar="N",
                        help="dev sentences of each view (default 500)")  # fmt: skip
    parser.add_argument("--once", action="store_true", help="end when all checkpoints that there are were measured")
    parser.add_argument("--poll", type=count, default=10, metavar="SECONDS",
                        help="between two looks for checkpoints (default 10)")  # fmt: skip


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from hzlm.tools.watch import watch

    for step, figures in watch(options.run, options.sentences, options.once, options.poll):
        print(f"step {step:,}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()), flush=True)
