"""`hzlm pairs`."""

import argparse
from pathlib import Path

SUMMARY = "turn lines of given sources and right targets into a dataset for fine-tuning"
EXAMPLES = (
    "hzlm pairs errors.tsv --vocabulary runs/first --output runs/pairs",
    "hzlm pairs errors.tsv --vocabulary runs/first --output runs/pairs --decontaminate sighan15_test.tsv",
    "hzlm pairs speech.tsv more.tsv --vocabulary runs/data --output runs/pairs --dev 0.1 --test 0.1 --skip-unknown",
)
NOTES = """\
A line is source<TAB>target or id<TAB>source<TAB>target. A source is text with errors, as long as the target, or
pinyin: a syllable or sign for each character, or syllables for the hanzi of the target alone. A file is text where
one of its sources holds a hanzi."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="UTF-8 lines, columns parted by tabs")
    parser.add_argument("--vocabulary", type=Path, required=True, metavar="PATH",
                        help="vocabulary.json, or the dataset, checkpoint or run folder that holds one")  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="dataset folder to be written")
    parser.add_argument("--dev", type=_share, default=0.05, metavar="SHARE", help="of the lines (default 0.05)")
    parser.add_argument("--test", type=_share, default=0.0, metavar="SHARE", help="of the lines (default 0)")
    parser.add_argument("--skip-unknown", action="store_true",
                        help="leave out lines whose targets the vocabulary lacks a character of")  # fmt: skip
    parser.add_argument("--decontaminate", nargs="+", type=Path, default=[], metavar="TEST",
                        help="leave out lines whose targets stand in these test files")  # fmt: skip


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from hzlm.tools.pairs import make_pairs

    print(
        make_pairs(
            options.files,
            options.vocabulary,
            options.output,
            options.dev,
            options.test,
            options.skip_unknown,
            options.decontaminate,
        )
    )


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is no share from 0 up to, but not, 1")
    return value
