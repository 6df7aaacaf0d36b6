"""How boldly a trained model corrects: what `hzlm calibrate` adds to a run folder, as correction.json."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hzlm.errors import UserError
from hzlm.stored_files import replacing
from hzlm.stored_json import load_json

CORRECTION_FILE = "correction.json"
FORMAT = "hzlm-correction"
VERSION = 1
REMEDY = "make it again: hzlm calibrate"


@dataclass(frozen=True)
class Caution:
    """What holds a correction back, in nats. The defaults are for a run that was not calibrated."""

    bias: float = 1.0
    """Added to the log-probability of the hanzi that is written, so that the whole sentence weighs its corrections."""
    threshold: float = 2.0
    """By so much at least the model finds another hanzi likelier than the one that is written."""
    step: int | None = None
    """Of the checkpoint that it was calibrated with; None where it was not."""

    def __str__(self) -> str:
        origin = "not calibrated" if self.step is None else f"calibrated at step {self.step:,}"
        return f"bias {self.bias:g}, threshold {self.threshold:g} ({origin})"

    @classmethod
    def load(cls, run: Path) -> "Caution":
        """What a run folder was calibrated to, or else the defaults. Raises `UserError` where that is damaged."""
        path = run / CORRECTION_FILE
        if not path.is_file():
            return cls()
        stored = load_json(path, REMEDY)
        if not isinstance(stored, dict) or (stored.get("format"), stored.get("version")) != (FORMAT, VERSION):
            raise UserError(f"{path}: no calibration of this version of hzlm; {REMEDY}")
        if stored.get("checksum") != _checksum(stored):
            raise UserError(f"{path}: damaged; {REMEDY}")
        return cls(stored["bias"], stored["threshold"], stored["step"])


@dataclass(frozen=True)
class Trial:
    """How one pair of settings did on the pairs of sentences."""

    bias: float
    threshold: float
    f1: float
    """Of correction, by sentences: between 0 and 1."""
    untouched: float
    """Share of the right sentences that stay as they are."""


@dataclass(frozen=True)
class Calibration:
    """What calibrating found."""

    bias: float
    threshold: float
    wanted: float
    """Least share of right sentences to be left untouched."""
    step: int
    """Of the checkpoint that it was calibrated with."""
    sentences: int
    """Pairs looked at: as many sources, and as many right sentences."""
    trials: tuple[Trial, ...]

    @property
    def chosen(self) -> Trial:
        """How the settings that were taken did."""
        return next(trial for trial in self.trials if (trial.bias, trial.threshold) == (self.bias, self.threshold))

    def __str__(self) -> str:
        chosen = self.chosen
        text = (
            f"bias {self.bias}, threshold {self.threshold}: correction F1 {chosen.f1:.2%} on "
            f"{self.sentences:,} sentences, {chosen.untouched:.2%} of the right ones untouched"
        )
        return text if chosen.untouched >= self.wanted else f"{text}; no settings leave {self.wanted:.2%} untouched"


def save_calibration(run: Path, calibration: Calibration) -> None:
    """Writes the calibration of a run folder in place of the one that it may have."""
    stored: dict[str, Any] = {"format": FORMAT, "version": VERSION, **asdict(calibration)}
    stored["checksum"] = _checksum(stored)
    with replacing(run / CORRECTION_FILE) as temporary:
        temporary.write_text(json.dumps(stored, indent=2) + "\n", "utf-8")


def _checksum(stored: Mapping[str, Any]) -> str:
    """SHA-256 of all but the checksum itself."""
    rest = {key: value for key, value in stored.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
