"""`hzlm evaluate`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hzlm.commands.arguments import count

if TYPE_CHECKING:
    from hzlm.evaluate.files import Format
    from hzlm.evaluate.output import Report

SUMMARY = "measure a model on sentences whose hanzi are known"
EXAMPLES = (
    "hzlm evaluate runs/first runs/data/test.tsv",
    "hzlm evaluate runs/first thchs30.tsv --tones --output runs/first/thchs30",
    "hzlm evaluate runs/corrector sighan15_test.tsv --output runs/corrector/sighan15",
    "hzlm evaluate runs/first runs/data --view pinyin keys --context 32 --limit 2000",
)
NOTES = """formats of the file:
  pinyin      pinyin<TAB>hanzi[<TAB>source]
  readings    [id<TAB>]readings of the hanzi<TAB>sentence
  correction  [id<TAB>]sentence with errors<TAB>sentence"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="run folder or checkpoint")
    parser.add_argument("data", type=Path, metavar="DATA",
                        help="file of sentences, in one of the formats below, or dataset: its dev split")  # fmt: skip
    parser.add_argument("--format", choices=["pinyin", "readings", "correction"],
                        help="of the file; else its first line tells")  # fmt: skip
    parser.add_argument("--tones", action="store_true", help="keep the tones of readings, which are else left out")
    parser.add_argument("--view", nargs="+", action="extend", metavar="VIEW",
                        help="of a dataset: what is shown of the sentences (default: pinyin)")  # fmt: skip
    parser.add_argument("--context", type=count, metavar="N",
                        help="of a dataset: give up to N characters of preceding sentences")  # fmt: skip
    parser.add_argument("--fuzzy", action="store_true",
                        help="of a file with pinyin: let sounds that people confuse stand for each other")  # fmt: skip
    parser.add_argument("--beam", type=count, metavar="N",
                        help="beam width of the model alone (default 10); with n-grams 16 and more")  # fmt: skip
    parser.add_argument("--limit", type=count, metavar="N",
                        help="measure the first N lines only; of a dataset N sentences a view")  # fmt: skip
    parser.add_argument("--output", type=Path, metavar="FOLDER",
                        help="write evaluation.json, evaluation.md and charts there")  # fmt: skip


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from hzlm.evaluate.run import CANDIDATES, evaluate

    form = _check_options(options)
    if options.output is not None:
        # a missing package for charts is told now, not after the evaluation
        from hzlm.evaluate.output import make_folder, write_report

        make_folder(options.output)
    report: Report
    if form == "correction":
        from hzlm.evaluate.correct import evaluate_correction

        report = evaluate_correction(options.model, options.data, options.limit)
    else:
        report = evaluate(
            options.model,
            options.data,
            options.beam or CANDIDATES,
            options.limit,
            form,
            options.tones,
            tuple(dict.fromkeys(options.view or ("pinyin",))),
            options.context or 0,
            options.fuzzy,
        )
    print(report.table())
    print(report.json(), flush=True)
    if options.output is not None:
        write_report(report, options.output)


def _check_options(options: argparse.Namespace) -> "Format":
    """The format of the data. Raises `UserError` where an option is for other data."""
    from hzlm.errors import UserError
    from hzlm.evaluate.files import recognize

    if options.data.is_dir():
        form: Format = "pinyin"
        refused = {"--format": options.format, "--fuzzy": options.fuzzy}
        why = "for files, and this is a dataset, whose views say what is read how"
    else:
        form = options.format or recognize(options.data)
        refused = {"--view": options.view, "--context": options.context}
        why = "for datasets, and this is a file"
    for name, given in refused.items():
        if given:
            raise UserError(f"{options.data}: {name} is {why}; leave it out")
    if options.tones and form != "readings":
        raise UserError(f"{options.data}: --tones is for files with readings, and this one holds {form}; leave it out")
    for name, given in {"--beam": options.beam, "--fuzzy": options.fuzzy}.items():
        if given and form == "correction":
            what = "for files with pinyin, and this one holds corrections"
            raise UserError(f"{options.data}: {name} is {what}; leave it out")
    return form
