"""`hzlm bench`."""

import argparse
import os
from importlib import resources
from pathlib import Path

from hzlm.commands.arguments import count

DATA = Path("runs/bench/data")

SUMMARY = "measure how fast this machine trains, decodes or prepares text, and what layouts and kernels cost"
NOTES = f"The demo's text is prepared in {DATA.parent} at the first call."
EXAMPLES = (
    "hzlm bench train",
    "hzlm bench train --config run.yaml train.micro_batch_rows=8",
    "hzlm bench decode",
    "hzlm bench decode --model runs/first --data runs/data/test.tsv",
    "hzlm bench data corpus/ --workers 2",
    "hzlm bench parallel",
    "hzlm bench readings labels.tsv",
    "hzlm bench kernels",
    "hzlm bench kernels --compile-only",
    "hzlm bench kernels --paper attention layer_norm",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    subjects = parser.add_subparsers(metavar="SUBJECT", required=True)
    train = subjects.add_parser("train", help="positions a second in bf16, and where the time of a step goes")
    train.add_argument("--config", type=Path, metavar="CONFIG",
                       help="YAML file of a run (default: `small` on the demo's text)")  # fmt: skip
    train.add_argument("overrides", nargs="*", metavar="section.key=value", help="replaces a value of the file")
    train.set_defaults(measure=_bench_train)
    decode = subjects.add_parser("decode", help="sentences a second in batches, milliseconds for a single one")
    decode.add_argument("--model", type=Path, metavar="MODEL",
                        help="run folder or checkpoint (default: `small` with random weights)")  # fmt: skip
    decode.add_argument("--data", type=Path, metavar="DATA.tsv",
                        help="lines of pinyin<TAB>hanzi (default: of the demo's text)")  # fmt: skip
    decode.set_defaults(measure=_bench_decode)
    data = subjects.add_parser("data", help="characters a second from text to dataset, memory, Megatron-Core beside it")
    data.add_argument("inputs", nargs="*", type=Path, metavar="INPUT", help="text (default: the demo's)")
    data.add_argument("--workers", type=count, metavar="N", help="processes (default: the cores of this machine)")
    data.set_defaults(measure=_bench_data)
    parallel = subjects.add_parser("parallel", help="bytes sent and held by layouts beside the formulas; two processes")
    parallel.add_argument("--data", type=Path, metavar="DATASET", help="dataset of clauses (default: the demo's text)")
    parallel.set_defaults(measure=_bench_parallel)
    readings = subjects.add_parser("readings", help="wrong syllables beside labels, of hzlm and of other readers")
    readings.add_argument("labels", nargs="+", type=Path, metavar="LABELS.tsv", help="lines of id, readings, sentence")
    readings.add_argument("--readers", nargs="+", metavar="NAME", default=["pypinyin", "pypinyin-words", "ours"],
                          help="of pypinyin, pypinyin-words, pypinyin-packages, g2pm, ours")  # fmt: skip
    readings.set_defaults(measure=_bench_readings)
    kernels = subjects.add_parser("kernels", help="times of the Triton kernels on a GPU; what they take, without one")
    kernels.add_argument("operations", nargs="*", metavar="OPERATION", help="such as attention (default: all)")
    kernels.add_argument("--compile-only", action="store_true",
                         help="compile for A100 and H100 without a GPU; status 1 if one is over budget")  # fmt: skip
    kernels.add_argument("--write-budgets", action="store_true",
                         help="the same, and what is found becomes the budget: after a deliberate change")  # fmt: skip
    kernels.add_argument("--budgets", type=Path, metavar="FILE", help="other budgets than those installed")
    kernels.add_argument("--paper", action="store_true", help="bytes and floors by formula, as a Markdown table")
    kernels.add_argument("--tune", action="store_true",
                         help="choose block sizes: by time on a GPU, without one by a rule of thumb")  # fmt: skip
    kernels.add_argument("--capabilities", nargs="+", type=count, metavar="N", default=[80, 90],
                         help="with --tune, without a GPU: of 80 and 90")  # fmt: skip
    kernels.set_defaults(measure=_bench_kernels)


def run(options: argparse.Namespace) -> int | None:
    """Runs the command; returns the exit status, where it may be another one than 0."""
    status: int | None = options.measure(options)
    return status


def prepare_demo_data() -> Path:
    """The demo's text as a dataset, prepared unless it is there; nothing else here needs what preparing needs."""
    from hzlm.tools.demo_data import prepare_once

    return prepare_once(DATA)


def _bench_train(options: argparse.Namespace) -> None:
    from hzlm.config import load_config
    from hzlm.tools.bench.train import bench_train
    from hzlm.tools.demo_data import prepare_once

    if options.config is not None:
        bench_train(load_config(options.config, options.overrides))
        return
    with resources.as_file(resources.files("hzlm.configs") / "bench_cpu.yaml") as path:
        config = load_config(path, options.overrides)
    for folder in config.data.path:
        prepare_once(folder)
    bench_train(config)


def _bench_decode(options: argparse.Namespace) -> None:
    from hzlm.data.dataset import VOCABULARY_FILE
    from hzlm.model.encoder_decoder import EncoderDecoder
    from hzlm.model.pretrained import load_model
    from hzlm.tools.bench.decode import bench_decode
    from hzlm.vocabulary import Vocabulary

    data = options.data or prepare_demo_data() / "test.tsv"
    if options.model is not None:
        bench_decode(*load_model(options.model), data)
        return
    from hzlm.config import load_config

    vocabulary = Vocabulary.load(prepare_demo_data() / VOCABULARY_FILE)
    with resources.as_file(resources.files("hzlm.configs") / "bench_cpu.yaml") as path:
        config = load_config(path).model
    model = EncoderDecoder(config, vocabulary.size, vocabulary.target_start).initialize(seed=1).eval()
    bench_decode(model.requires_grad_(False), vocabulary, data)


def _bench_data(options: argparse.Namespace) -> None:
    from hzlm.tools.bench.data import bench_data
    from hzlm.tools.demo_text import fetch_demo_text

    inputs = options.inputs or fetch_demo_text(DATA.parent / "text")
    bench_data(inputs, options.workers or len(os.sched_getaffinity(0)), DATA.parent)


def _bench_parallel(options: argparse.Namespace) -> None:
    from hzlm.tools.bench.parallel import bench_parallel

    bench_parallel(options.data or prepare_demo_data())


def _bench_readings(options: argparse.Namespace) -> None:
    from hzlm.tools.bench.readings import bench_readings

    print(bench_readings(options.labels, options.readers))


def _bench_kernels(options: argparse.Namespace) -> int | None:
    from hzlm.tools.bench.kernels import command

    if options.compile_only or options.write_budgets:
        return command.check_binaries(options.operations, options.budgets or command.BUDGETS, options.write_budgets)
    if options.paper:
        command.print_costs(options.operations)
    elif options.tune:
        command.tune_blocks(options.operations, options.capabilities)
    else:
        command.time_kernels(options.operations)
    return None
