"""`hzlm data`."""

import argparse
import sys
from pathlib import Path

from hzlm.commands.arguments import count
from hzlm.errors import UserError

SUMMARY = "look at datasets, check, merge, split and export them"
EXAMPLES = (
    "hzlm data inspect runs/data --row-length 512",
    "hzlm data check runs/data",
    "hzlm data merge runs/news runs/reviews --output runs/data",
    "hzlm data split runs/data --parts 4 --output runs/parts",
    "hzlm data export runs/data --to jsonl --split dev --output dev.jsonl",
)

RECORDS = 10
"""Shown by `hzlm data check`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    inspect = actions.add_parser("inspect", help="sizes, counts, lengths, vocabulary, how full rows get")
    inspect.add_argument("folder", type=Path, metavar="FOLDER", help="dataset folder")
    inspect.add_argument("--row-length", type=count, default=128, metavar="N",
                         help="positions of a row that sentences are packed into (default 128)")  # fmt: skip
    inspect.set_defaults(act=_inspect)

    check = actions.add_parser("check", help="read every byte of a dataset and name each fault; exit status 2 if any",
                               description="Reads every byte of the streams, sidecars and vocabulary of a dataset, and "
                               "names each fault. Of the other files (dev.tsv, test.tsv, report.json, prepare.yaml) "
                               "no checksum is kept: they are not looked at.")  # fmt: skip
    check.add_argument("folder", type=Path, metavar="FOLDER", help="dataset folder")
    check.set_defaults(act=_check)

    merge = actions.add_parser("merge", help="one dataset out of several of one vocabulary")
    merge.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="dataset folder")
    merge.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="dataset folder to be written")
    merge.set_defaults(act=_merge)

    split = actions.add_parser("split", help="cut a dataset between documents into parts",
                               description="Cuts the streams of a dataset between documents into parts of about as "
                               "many positions. dev.tsv and test.tsv are not cut.")  # fmt: skip
    split.add_argument("folder", type=Path, metavar="FOLDER", help="dataset folder")
    split.add_argument("--parts", type=count, required=True, metavar="N", help="how many parts")
    split.add_argument("--output", type=Path, required=True, metavar="FOLDER",
                       help="folder to be written; the parts are the dataset folders in it")  # fmt: skip
    split.set_defaults(act=_split)

    export = actions.add_parser("export", help="write the sentences of a split for other programs")
    export.add_argument("folder", type=Path, metavar="FOLDER", help="dataset folder")
    export.add_argument("--to", choices=("jsonl",), required=True, help="jsonl: one JSON object a sentence")
    export.add_argument("--split", choices=("train", "dev", "test"), default="train", help="(default train)")
    export.add_argument("--output", type=Path, metavar="FILE", help="file to be written (default: standard output)")
    export.set_defaults(act=_export)


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    options.act(options)


def _inspect(options: argparse.Namespace) -> None:
    from hzlm.tools.datasets.inspect import inspect_dataset

    print(inspect_dataset(options.folder, options.row_length))


def _check(options: argparse.Namespace) -> None:
    from hzlm.data.dataset import Dataset
    from hzlm.tools.datasets.check import check_dataset
    from hzlm.tools.datasets.show import show_records, spread

    faults = 0
    for fault in check_dataset(options.folder):
        print(f"fault: {fault}", flush=True)
        faults += 1
    if faults:
        raise UserError(
            f"{options.folder}: {faults} fault(s), named above; copy those files again, or prepare it again"
        )
    train = Dataset.open(options.folder, "train")
    print(show_records(train, spread(len(train), RECORDS)))
    print(f"{options.folder}: whole")


def _merge(options: argparse.Namespace) -> None:
    from hzlm.tools.datasets.merge import merge_datasets

    print(merge_datasets(options.folders, options.output))


def _split(options: argparse.Namespace) -> None:
    from hzlm.tools.datasets.split import split_dataset

    print(*split_dataset(options.folder, options.parts, options.output), sep="\n")


def _export(options: argparse.Namespace) -> None:
    from hzlm.tools.datasets.export import export_file, export_jsonl

    if options.output is None:
        export_jsonl(options.folder, options.split, sys.stdout)
    else:
        export_file(options.folder, options.split, options.output)
