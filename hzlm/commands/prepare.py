"""`hzlm prepare`."""

import argparse
import os
from pathlib import Path

from hzlm.commands.arguments import count

SUMMARY = "turn raw text into a dataset"
EXAMPLES = (
    "hzlm prepare corpus/ news.jsonl.gz --output runs/data",
    "hzlm prepare reviews.txt --output runs/reviews --set vocabulary.path=runs/data/vocabulary.json ngram.order=4",
    "hzlm prepare crawl/ --output runs/crawl --on slurm --set slurm.partition=cpu slurm.jobs=64",
)
NOTES = """\
sections of settings, each explained in docs/preparing.md:
  input filter duplicates decontaminate sentences split annotation vocabulary ngram slurm"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT",
                         help="text, JSON lines, parquet, HTML, WARC or WET: file or folder")  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="dataset folder to be written")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file of settings")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="section.key=value",
                         help="settings, as in sentences.unit=clause vocabulary.size=6000")  # fmt: skip
    parser.add_argument("--workers", type=count, metavar="N",
                         help="processes on this machine (default: its cores)")  # fmt: skip
    parser.add_argument("--on", choices=("local", "slurm"), default="local",
                         help="do the work on this machine (default) or by jobs on Slurm")  # fmt: skip
    parser.add_argument("--keep-work", action="store_true",
                         help="keep OUTPUT.work, to go on from it with other settings")  # fmt: skip


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from hzlm.errors import UserError
    from hzlm.tools.engines.engine import Engine
    from hzlm.tools.engines.local import LocalEngine
    from hzlm.tools.prepare import prepare, work_folder
    from hzlm.tools.stages.config import load_prepare_config
    from hzlm.tools.stages.run import MODULES

    config = load_prepare_config(options.config, options.set)
    engine: Engine
    if options.on == "local":
        engine = LocalEngine(options.workers or len(os.sched_getaffinity(0)), MODULES)
    elif options.workers is not None:
        raise UserError("--workers counts processes on this machine; on Slurm give slurm.jobs and slurm.cpus instead")
    else:
        from hzlm.tools.engines.slurm import SlurmEngine

        engine = SlurmEngine(config.slurm, work_folder(options.output) / "slurm", MODULES)
    print(prepare(options.inputs, options.output, config, engine, options.keep_work))
