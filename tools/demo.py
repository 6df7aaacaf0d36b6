"""`hzlm demo`: the whole line on two cores, from real text to a converter, in fifteen to twenty minutes."""

import json
import resource
import time
from importlib import resources
from pathlib import Path

from hzlm.config import load_config
from hzlm.decode.converter import Converter
from hzlm.evaluate.files import read_examples
from hzlm.evaluate.fuse import fuse
from hzlm.evaluate.report import Evaluation
from hzlm.evaluate.run import evaluate
from hzlm.evaluate.samples import pinyin_of, show_conversions
from hzlm.tools.demo_data import prepare_demo
from hzlm.tools.plot import plot_runs
from hzlm.train.run import train
from hzlm.train.stop import end_at_once

# the runs in their order: configs/NAME.yaml, and what the curves call it
PHASES = (
    ("demo_cpu_pretrain", "masked, pinyin"),
    ("demo_cpu_finetune", "pinyin"),
    ("demo_cpu_settle", "lower rate"),
)
SHOWN = 20
SHOWN_CANDIDATES = 3


def run_demo(output: Path) -> None:
    """Fetches text, prepares it, trains in three phases, fuses, evaluates, shows conversions, draws the curves.

    A demo that was stopped goes on where it was; a signal while it trains stops it as it stops `hzlm train`. The last
    line printed is one JSON object: `char_accuracy` (the model), `ngram_accuracy` (a 4-gram model of the same text),
    `fused_accuracy` (both) and `unigram_accuracy` (the most frequent hanzi of each syllable) on the held-out clauses,
    all shares of 1; `seconds` of this call; `peak_memory_mb` of this process.

    Args:
        output: folder of everything the demo writes.
    """
    start = time.monotonic()
    data = output / "data"
    if data.exists():
        _say(f"data: {data} is there already and is kept")
    else:
        _say("data: the People's Daily of January 1998 and shopping reviews, as clauses with words and readings")
        print(prepare_demo(output / "text", data))
    runs = [(title, _train(name, output)) for name, title in PHASES]
    model = runs[-1][1]
    _say("fusion: the weight of the n-gram model beside the trained one, tuned on dev clauses")
    print(fuse(model, data))
    _say("evaluation: clauses that were held out, the syllables given without tones")
    evaluation = evaluate(model, data / "test.tsv")
    print(evaluation.table())
    _show_conversions(Converter.load(model), data / "test.tsv")
    curves = output / "curves.png"
    plot_runs(runs, curves)
    _say(f"curves: {curves}; live: tensorboard --logdir {output / 'runs'}")
    _say(f'try it: hzlm convert {model} "wo ai bei jing"')
    print(_summary(evaluation, time.monotonic() - start))


def _train(name: str, output: Path) -> Path:
    """One phase, its config taken from the package and its paths put under `output`."""
    with resources.as_file(resources.files("hzlm.configs") / f"{name}.yaml") as path:
        given = load_config(path)
        overrides = [f"data.path={output / 'data'}", f"train.output={output / 'runs' / given.train.output.name}"]
        if given.train.initial_weights is not None:
            overrides.append(f"train.initial_weights={output / 'runs' / given.train.initial_weights.name}")
        config = load_config(path, overrides)
    _say(f"training: {name}, {config.train.steps} steps")
    with end_at_once():
        return train(config, on_checkpoint=show_conversions)


def _show_conversions(converter: Converter, data: Path) -> None:
    """A spread of held-out clauses with their candidates; a tick where the first one is right."""
    examples = [example for example in read_examples(data, converter) if 6 <= len(example.hanzi) <= 16]
    chosen = examples[:: max(1, len(examples) // SHOWN)][:SHOWN]
    _say(f"{len(chosen)} of them, with the scores of their candidates")
    found = converter.search([example.source for example in chosen], n_best=SHOWN_CANDIDATES)
    for example, candidates in zip(chosen, found, strict=True):
        right = candidates[0].text == example.hanzi
        typed = pinyin_of(example.source, converter.vocabulary)
        print(f"{'✓' if right else '✗'} {typed}" + ("" if right else f"   ({example.hanzi})"))
        print("    " + "  ".join(f"{item.text} {item.log_probability:.2f}" for item in candidates))


def _summary(evaluation: Evaluation, seconds: float) -> str:
    total = evaluation.total
    assert total.ngram is not None
    assert total.fused is not None
    return json.dumps(
        {
            "char_accuracy": round(total.model.char_accuracy, 4),
            "ngram_accuracy": round(total.ngram.char_accuracy, 4),
            "fused_accuracy": round(total.fused.char_accuracy, 4),
            "unigram_accuracy": round(total.baseline.char_accuracy, 4),
            "seconds": round(seconds, 1),
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
    )


def _say(text: str) -> None:
    print(f"\n== {text}", flush=True)
