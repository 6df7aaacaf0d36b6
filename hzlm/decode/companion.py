"""The n-gram companion of a trained model: what `hzlm fuse` adds to a run folder.

    companion/ngram.safetensors    the n-gram model
    companion/fusion.json          its weight beside the model, and how well that did on dev text

Without fusion.json, which is written last, there is no companion.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hzlm.decode.ngram import NGRAM_FILE, NgramModel
from hzlm.errors import UserError
from hzlm.stored_files import damage_of, describe_file, replacing
from hzlm.stored_json import load_json
from hzlm.vocabulary import Vocabulary

COMPANION = "companion"
FUSION_FILE = "fusion.json"
FORMAT = "hzlm-fusion"
VERSION = 1
REMEDY = "make it again: hzlm fuse"


@dataclass(frozen=True)
class Companion:
    """An n-gram model and the weight of its log-probabilities beside the model's."""

    ngram: NgramModel
    weight: float

    @classmethod
    def load(cls, run: Path, vocabulary: Vocabulary) -> "Companion | None":
        """The companion of a run folder, None where it has none.

        Raises:
            UserError: it is damaged, or its vocabulary is not this one.
        """
        path = run / COMPANION / FUSION_FILE
        if not path.is_file():
            return None
        stored = load_json(path, REMEDY)
        if not isinstance(stored, dict) or (stored.get("format"), stored.get("version")) != (FORMAT, VERSION):
            raise UserError(f"{path}: no fusion of this version of hzlm; {REMEDY}")
        ngram = run / COMPANION / NGRAM_FILE
        if stored.get("checksum") != _checksum(stored) or damage_of(ngram, stored["ngram"]) is not None:
            raise UserError(f"{path}: damaged, or not made for the {NGRAM_FILE} beside it; {REMEDY}")
        return cls(NgramModel.load(ngram, vocabulary), stored["weight"])


@dataclass(frozen=True)
class Fusion:
    """What tuning found on dev text: character accuracies between 0 and 1."""

    weight: float
    step: int
    """Of the checkpoint that it was tuned with."""
    sentences: int
    """Dev sentences looked at."""
    accuracies: dict[str, float]
    """By weight; at 0 that of the model alone."""
    ngram_accuracy: float

    def __str__(self) -> str:
        fused, alone = self.accuracies[str(self.weight)], self.accuracies[str(0.0)]
        return (
            f"weight {self.weight}: character accuracy {fused:.2%} on {self.sentences:,} dev sentences; "
            f"the model alone {alone:.2%}, the n-gram alone {self.ngram_accuracy:.2%}"
        )


def save_companion(run: Path, ngram: NgramModel, fusion: Fusion, vocabulary: Vocabulary) -> None:
    """Writes the companion of a run folder in place of the one that it may have."""
    folder = run / COMPANION
    folder.mkdir(exist_ok=True)
    path = folder / FUSION_FILE
    # From here to the end there is no companion rather than one with the weight of another.
    path.unlink(missing_ok=True)
    ngram.save(folder / NGRAM_FILE, vocabulary)
    stored = {"format": FORMAT, "version": VERSION, **asdict(fusion), "ngram": describe_file(folder / NGRAM_FILE)}
    stored["checksum"] = _checksum(stored)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(stored, indent=2) + "\n", "utf-8")


def _checksum(stored: Mapping[str, Any]) -> str:
    """SHA-256 of all but the checksum itself."""
    rest = {key: value for key, value in stored.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
