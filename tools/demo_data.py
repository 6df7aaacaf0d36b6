"""The demo's text as a dataset of clauses, for the demo itself and for benchmarks where no other data is named."""

import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from hzlm.tools.demo_text import fetch_demo_text
from hzlm.tools.engines.local import LocalEngine
from hzlm.tools.prepare import prepare
from hzlm.tools.report import Report
from hzlm.tools.stages.config import load_prepare_config
from hzlm.tools.stages.run import MODULES


def prepare_demo(text: Path, output: Path, overrides: Sequence[str] = ()) -> Report:
    """Fetches the demo's text into the folder `text`, and prepares it as configs/demo_data.yaml says."""
    with resources.as_file(resources.files("hzlm.configs") / "demo_data.yaml") as path:
        config = load_prepare_config(path, overrides)
    return prepare(fetch_demo_text(text), output, config, LocalEngine(len(os.sched_getaffinity(0)), MODULES))


def prepare_once(folder: Path) -> Path:
    """The dataset in this folder, without the n-gram model; prepared unless it is there."""
    if not folder.exists():
        print(f"preparing the demo's text in {folder}", flush=True)
        prepare_demo(folder.parent / "text", folder, ["ngram.order=null"])
    return folder
