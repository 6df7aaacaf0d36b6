"""`hzlm train`."""

import argparse
from pathlib import Path

from hzlm.train.stop import end_at_once

SUMMARY = "train a model; the same command resumes an interrupted run"
EXAMPLES = (
    "hzlm train run.yaml",
    "hzlm train run.yaml model.size=tiny train.output=runs/tiny",
)

RUN_EXAMPLE = """\
  model: {size: small}
  data: {path: runs/data, views: {pinyin: 1}}
  schedule: {scale: 1, warmup_steps: 200}
  train: {output: runs/first, steps: 2000, micro_batch_rows: 16}"""
"""A whole run in the fewest lines."""

TRAIN_STATUSES = """\
exit status:
  0    the run is whole
  1    something outside broke, such as a full disk; what is saved stays whole
  2    a mistake in the config or the data
  130  Ctrl-C, 143 SIGTERM: the step was finished and saved, and the same command goes on;
       a second Ctrl-C ends the run at once, as either signal does before the first step"""
"""How `hzlm train` ends."""

NOTES = f"with this in run.yaml:\n{RUN_EXAMPLE}\n\n{TRAIN_STATUSES}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="YAML file of the run")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="replaces a value of the file")


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    with end_at_once():
        from hzlm.config import load_config
        from hzlm.evaluate.samples import show_conversions
        from hzlm.train.run import train

        train(load_config(options.config, options.overrides), on_checkpoint=show_conversions)
