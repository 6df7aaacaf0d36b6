"""The command `hzlm`.

Each handler imports what it needs itself, so that `--help` is quick and converting needs no extra of the package.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from hzlm import __version__
from hzlm.errors import UserError

if TYPE_CHECKING:
    from hzlm.decode.converter import Converter

EXTRAS = {
    **dict.fromkeys(("deepspeed", "psutil", "tensorboard", "jiwer", "sacrebleu", "matplotlib"), "train"),
    **dict.fromkeys(("jieba", "pypinyin", "opencc", "zstandard"), "data"),
}
"""Modules that only some commands need -> the extra that installs them."""

RUN_EXAMPLE = """\
  model: {size: small}
  data: {path: runs/data, views: {pinyin: 1}}
  schedule: {scale: 1, warmup_steps: 200}
  train: {output: runs/first, steps: 2000, micro_batch_rows: 16}"""
"""A whole run in the fewest lines."""

LINES_AT_ONCE = 1024
"""Lines of a pipe that are sorted by length and converted together."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 for what broke outside, 2 for a mistake of the user's."""
    options = _parser().parse_args(arguments)
    try:
        options.handler(options)
        sys.stdout.flush()
    except UserError as error:
        return _fail(str(error), 2)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        return _fail(f'{error.name} is not installed, which this command needs; run: pip install "hzlm[{extra}]"', 1)
    except BrokenPipeError:
        # The reader of our output has left; what is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _fail(f"{place}{error.strerror or error}", 1)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    return 0


def _fail(text: str, status: int) -> int:
    print(f"hzlm: error: {text}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("hzlm", description="Restore Chinese sentences: from pinyin to hanzi.")
    parser.add_argument("--version", action="version", version=f"hzlm {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, summary: str, *examples: str) -> argparse.ArgumentParser:
        lines = "\n".join(f"  {example}" for example in examples)
        return commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=f"examples:\n{lines}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    prepare = command(
        "prepare",
        "turn raw text into a dataset",
        "hzlm prepare corpus/ news.jsonl.gz --output runs/data",
        "hzlm prepare reviews.txt --output runs/reviews --vocabulary runs/data/vocabulary.json",
    )
    prepare.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="text or JSON lines, file or folder")
    prepare.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="dataset folder to be written")
    prepare.add_argument("--vocabulary", type=Path, metavar="FILE", help="take this vocabulary, build none")
    prepare.add_argument("--coverage", type=_rate, default=0.9999, metavar="SHARE",
                         help="share of the text's characters that the vocabulary covers (default 0.9999)")  # fmt: skip
    prepare.add_argument("--unit", choices=("sentence", "clause"), default="sentence",
                         help="what a sample is: a sentence (default), or a clause without punctuation")  # fmt: skip
    prepare.add_argument("--max-length", type=_count, default=128, metavar="N",
                         help="longest sample in characters (default 128)")  # fmt: skip
    prepare.set_defaults(handler=_prepare)

    train = command(
        "train",
        "train a model; the same command resumes an interrupted run",
        "hzlm train run.yaml",
        "hzlm train run.yaml model.size=tiny train.output=runs/tiny",
    )
    assert train.epilog is not None
    train.epilog += f"\n\nwith this in run.yaml:\n{RUN_EXAMPLE}"
    train.add_argument("config", type=Path, metavar="CONFIG", help="YAML file of the run")
    train.add_argument("overrides", nargs="*", metavar="section.key=value", help="replaces a value of the file")
    train.set_defaults(handler=_train)

    evaluate = command(
        "evaluate",
        "measure a model on sentences whose hanzi are known",
        "hzlm evaluate runs/first runs/data/test.tsv",
    )
    evaluate.add_argument("model", type=Path, metavar="MODEL", help="run folder or checkpoint")
    evaluate.add_argument("data", type=Path, metavar="DATA.tsv", help="lines of pinyin<TAB>hanzi[<TAB>source]")
    evaluate.add_argument("--beam", type=_count, default=10, metavar="N", help="beam width, 10 or more (default 10)")
    evaluate.add_argument("--limit", type=_count, metavar="N", help="measure the first N lines only")
    evaluate.set_defaults(handler=_evaluate)

    convert = command(
        "convert",
        "turn pinyin into hanzi",
        'hzlm convert runs/first "wo ai bei jing"',
        'hzlm convert runs/first "wo3 ai4 bei3 jing1" --n-best 5',
        "hzlm convert runs/first < pinyin.txt > hanzi.txt",
    )
    convert.add_argument("model", type=Path, metavar="MODEL", help="run folder or checkpoint")
    convert.add_argument("text", nargs="?", metavar="PINYIN", help="syllables; without it, lines of standard input")
    convert.add_argument("--n-best", type=_count, metavar="K",
                         help="print up to K candidates, one a line: rank, text, natural log-probability")  # fmt: skip
    convert.add_argument("--beam", type=_count, metavar="N", help="beam width (default: K, 4 at the least)")
    convert.set_defaults(handler=_convert)

    demo = command("demo", "the whole line on this machine: text, dataset, model, figures", "hzlm demo")
    demo.add_argument("--output", type=Path, default=Path("runs/demo"), metavar="FOLDER",
                      help="where everything is written (default runs/demo)")  # fmt: skip
    demo.set_defaults(handler=_demo)
    return parser


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is no whole number above 0")
    return int(text)


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share above 0 and up to 1")
    return value


def _prepare(options: argparse.Namespace) -> None:
    from hzlm.tools.prepare import prepare

    report = prepare(
        options.inputs,
        options.output,
        vocabulary=options.vocabulary,
        coverage=options.coverage,
        unit=options.unit,
        max_length=options.max_length,
    )
    print(report)


def _train(options: argparse.Namespace) -> None:
    from hzlm.config import load_config
    from hzlm.train.run import train

    train(load_config(options.config, options.overrides))


def _evaluate(options: argparse.Namespace) -> None:
    from hzlm.evaluate.run import evaluate

    evaluation = evaluate(options.model, options.data, beam=options.beam, limit=options.limit)
    print(evaluation.table())
    print(evaluation.json())


def _convert(options: argparse.Namespace) -> None:
    from hzlm.decode.converter import Converter
    from hzlm.progress import Progress

    converter = Converter.load(options.model)
    if options.text is not None:
        _convert_lines(converter, [("the text", options.text)], options)
        return
    # Someone who types wants each answer at once; a pipe is quicker in blocks.
    block = 1 if sys.stdin.isatty() else LINES_AT_ONCE
    lines = _read_lines(sys.stdin.buffer)
    with Progress(None, "converting", "lines") as progress:
        while batch := list(islice(lines, block)):
            _convert_lines(converter, batch, options)
            progress.advance(len(batch))


def _read_lines(stream: BinaryIO) -> Iterator[tuple[str, str]]:
    """Each line of standard input with its place."""
    for number, line in enumerate(stream, start=1):
        where = f"standard input, line {number}"
        try:
            yield where, line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise UserError(f"{where}: no UTF-8 text; convert it to UTF-8 first") from None


def _convert_lines(converter: "Converter", lines: Sequence[tuple[str, str]], options: argparse.Namespace) -> None:
    """Print the conversion of every line, in order; a blank line stays blank."""
    sources = [converter.read(text, where) for where, text in lines if text.strip()]
    results = iter(converter.search(sources, options.n_best or 1, options.beam))
    for _, text in lines:
        if not text.strip():
            print()
        elif options.n_best is None:
            print(next(results)[0].text)
        else:
            for rank, candidate in enumerate(next(results), start=1):
                print(rank, candidate.text, f"{candidate.log_probability:.4f}", sep="\t")
    sys.stdout.flush()


def _demo(options: argparse.Namespace) -> None:
    from hzlm.tools.demo import run_demo

    run_demo(options.output)


if __name__ == "__main__":
    sys.exit(main())
