"""The names of the files and folders of checkpoints, for whoever looks at a run without loading a model."""

import re
from pathlib import Path

CHECKPOINTS = "checkpoints"
"""Folder of all checkpoints in a run folder."""
STEP_FOLDER = re.compile(r"step_\d{8,}")
"""Folder of one checkpoint: the number is its step."""
LATEST = "latest"
"""File beside the checkpoints that holds the name of the newest one."""
BEST = "best"
"""File beside the checkpoints that holds the name of the best one on the dev split."""
MANIFEST = "manifest.json"
"""What a checkpoint consists of, in its folder."""


def step_of(checkpoint: Path) -> int:
    """The step that the name of a checkpoint's folder tells."""
    return int(checkpoint.name.removeprefix("step_"))
