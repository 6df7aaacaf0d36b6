"""`hzlm convert`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hzlm.commands.arguments import count
from hzlm.commands.standard_input import read_blocks

if TYPE_CHECKING:
    from hzlm.decode.converter import Converter

SUMMARY = "turn pinyin into hanzi"
EXAMPLES = (
    'hzlm convert runs/first "wo ai bei jing"',
    'hzlm convert runs/first "wo3 ai4 bei3 jing1" --n-best 5',
    'hzlm convert runs/first "ta" --context 她是我的老师。',
    'hzlm convert runs/first "wo zai zong guo" --fuzzy',
    "hzlm convert runs/first < pinyin.txt > hanzi.txt",
)

LINES_AT_ONCE = 1024
"""Lines of a pipe that are sorted by length and converted together."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="run folder or checkpoint")
    parser.add_argument("text", nargs="?", metavar="PINYIN", help="syllables; without it, lines of standard input")
    parser.add_argument("--context", default="", metavar="TEXT",
                        help="what stands before it; a model that was trained without context takes none")  # fmt: skip
    parser.add_argument("--fuzzy", action="store_true", help="let sounds that people confuse stand for each other")
    parser.add_argument("--n-best", type=count, metavar="K",
                         help="print up to K candidates, one a line: rank, text, score (log-probability)")  # fmt: skip
    parser.add_argument("--beam", type=count, metavar="N", help="beam width (default: K, 4 or 16 at least)")


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from hzlm.data_config import FUZZY_PAIRS
    from hzlm.decode.converter import Converter
    from hzlm.progress import Progress

    converter = Converter.load(options.model, FUZZY_PAIRS if options.fuzzy else ())
    if options.text is not None:
        _convert_lines(converter, [("the text", options.text)], options)
        return
    with Progress(None, "converting", "lines") as progress:
        for batch in read_blocks(LINES_AT_ONCE):
            _convert_lines(converter, batch, options)
            progress.advance(len(batch))


def _convert_lines(converter: "Converter", lines: Sequence[tuple[str, str]], options: argparse.Namespace) -> None:
    """Print the conversion of every line, in order; a blank line stays blank."""
    sources = [converter.read(text, where, context=options.context) for where, text in lines if text.strip()]
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
