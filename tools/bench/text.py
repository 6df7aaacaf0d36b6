"""The text that benchmarks run on where no other is named."""

from pathlib import Path

from hzlm.tools.demo_text import fetch_demo_text
from hzlm.tools.prepare import prepare


def prepare_once(folder: Path) -> Path:
    """The demo's text as a dataset of clauses in this folder, as the demo trains on, prepared unless it is there."""
    if not folder.exists():
        print(f"preparing the demo's text in {folder}", flush=True)
        prepare(fetch_demo_text(folder.parent / "text"), folder, unit="clause", max_length=32)
    return folder
