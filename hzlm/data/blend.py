"""A blend: one split of one or more datasets, and how much of each a run reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Self

from hzlm.data.dataset import VOCABULARY_FILE, Dataset
from hzlm.data_config import DataConfig
from hzlm.errors import UserError
from hzlm.vocabulary import Vocabulary


@dataclass(frozen=True)
class Blend:
    """Datasets with the same vocabulary. `Blend.open` makes one.

    Their order is that of their fingerprints: it depends on what they hold, not on their names.
    """

    vocabulary: Vocabulary
    datasets: Sequence[Dataset]
    """Those that have sentences in this split."""
    position_shares: Sequence[float]
    """Share of each in the positions of a long run; they sum to 1."""

    @classmethod
    def open(cls, config: DataConfig, split: str) -> Self:
        """Opens one split of all datasets of the config.

        Of the positions, dataset d has a share proportional to weight_d * positions_d^(1 / temperature).

        Raises:
            UserError: a dataset cannot be used, its train split is empty, two have different vocabularies or the same
                content.
        """
        opened = [_open(folder, split, weight, False) for folder, weight in config.path.items()]
        opened += [_open(folder, split, weight, True) for folder, weight in config.pairs.items()]
        filled = [(dataset, weight) for dataset, weight in opened if len(dataset) > 0]
        if split == "train":
            for dataset, _ in opened:
                if len(dataset) == 0:
                    raise UserError(f"{dataset.folder}: its train split is empty: prepare more text")
        filled.sort(key=lambda pair: pair[0].fingerprint)
        datasets = [dataset for dataset, _ in filled]
        _check_together(datasets)
        parts = [weight * dataset.info["positions"] ** (1 / config.temperature) for dataset, weight in filled]
        return cls(opened[0][0].vocabulary, datasets, [part / sum(parts) for part in parts])

    @property
    def fingerprints(self) -> dict[str, str]:
        """The fingerprint of each dataset by its folder."""
        return {str(dataset.folder): dataset.fingerprint for dataset in self.datasets}

    @property
    def sample_shares(self) -> list[float]:
        """Share of each dataset in the samples of a long run: where sentences are long, fewer make up its positions."""
        parts = [
            share * len(dataset) / dataset.info["positions"]
            for share, dataset in zip(self.position_shares, self.datasets, strict=True)
        ]
        return [part / sum(parts) for part in parts]

    def check_lengths(self, longest: int, setting: str) -> None:
        """Raises UserError where a sentence has more than `longest` positions, the value of the setting named."""
        for dataset, found in zip(self.datasets, self._longest, strict=True):
            if found > longest:
                shorter = "prepare the text with a smaller sentences.max_length"
                remedy = "leave that pair out" if dataset.is_pairs else shorter
                raise UserError(
                    f"{setting} is {longest}, but {dataset.folder} holds a sentence of {found} positions: "
                    f"raise it, or {remedy}"
                )

    @cached_property
    def _longest(self) -> list[int]:
        """Positions of the longest sentence of each dataset: one pass over all lengths."""
        return [int(dataset.lengths.max()) for dataset in self.datasets]


def _open(folder: Path, split: str, weight: float, as_pairs: bool) -> tuple[Dataset, float]:
    """Raises UserError where the dataset is not of the kind that the config takes it for."""
    dataset = Dataset.open(folder, split)
    if as_pairs and not dataset.is_pairs:
        raise UserError(f"data.pairs: {folder} is a dataset of hzlm prepare; name it in data.path")
    if dataset.is_pairs and not as_pairs:
        raise UserError(f"data.path: {folder} is of hzlm pairs, without readings for the views; name it in data.pairs")
    return dataset, weight


def _check_together(datasets: Sequence[Dataset]) -> None:
    """Raises UserError where two, sorted by fingerprint, have the same content, or different vocabularies."""
    for one, other in pairwise(datasets):
        if one.fingerprint == other.fingerprint:
            raise UserError(
                f"data: {one.folder} and {other.folder} are the same dataset; name it once, with more weight"
            )
        if one.vocabulary.fingerprint != other.vocabulary.fingerprint:
            raise UserError(
                f"data: {one.folder} and {other.folder} have different vocabularies; "
                f"make one of them again with {_vocabulary_setting(other)}{one.folder / VOCABULARY_FILE}"
            )


def _vocabulary_setting(dataset: Dataset) -> str:
    """How the command that made a dataset is told which vocabulary to take."""
    return "hzlm pairs --vocabulary " if dataset.is_pairs else "hzlm prepare --set vocabulary.path="
