"""`hzlm evaluate`."""

import argparse
from pathlib import Path

from hzlm.commands.arguments import count

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
    parser.add_argument("--fuzzy", action="store_true", help="let sounds that people confuse stand for each other")
    parser.add_argument("--beam", type=count, metavar="N",
                        help="beam width of the model alone (default 10); with n-grams 30 and more")  # fmt: skip
    parser.add_argument("--limit", type=count, metavar="N", help="measure the first N lines only")
    parser.add_argument("--output", type=Path, metavar="FOLDER",
                        help="write evaluation.json, evaluation.md and charts there")  # fmt: skip


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from hzlm.errors import UserError
    from hzlm.evaluate.files import recognize
    from hzlm.evaluate.output import Report, make_folder, write_report
    from hzlm.evaluate.run import CANDIDATES, evaluate

    is_dataset = options.data.is_dir()
    if not is_dataset and (options.view or options.context):
        raise UserError(f"{options.data}: --view and --context are for datasets, and this is a file; leave them out")
    form = "pinyin" if is_dataset else options.format or recognize(options.data)
    if options.tones and form != "readings":
        raise UserError(f"{options.data}: --tones is for files with readings, and this one holds {form}; leave it out")
    if options.beam and form == "correction":
        raise UserError(
            f"{options.data}: --beam is for files with pinyin, and this one holds corrections; leave it out"
        )
    if options.output is not None:
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
            options.view or ("pinyin",),
            options.context or 0,
            options.fuzzy,
        )
    if options.output is not None:
        write_report(report, options.output)
    print(report.table())
    print(report.json())
