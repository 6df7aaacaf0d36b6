"""A character n-gram model in memory and on disk.

The words of the model are token ids: targets, [BOS] for <s>, [UNK] for <unk>, and END_ID for </s>. Its n-grams are a
trie in one sorted array, so that one binary search finds an n-gram of any order.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hzlm.decode.bigrams import Bigrams
from hzlm.errors import UserError
from hzlm.stored_files import replacing
from hzlm.vocabulary import Vocabulary

END_ID = Vocabulary.pad_id
"""</s>: what follows the last character of a sentence."""

NGRAM_FILE = "ngram.safetensors"
FORMAT = "hzlm-ngram"
VERSION = "1"
TENSORS = {
    "keys": torch.int64,
    "shorter": torch.int32,
    "log_probability": torch.float32,
    "log_backoff": torch.float32,
}
"""What the file holds: [M] numbers each."""
REMEDY = "make it again: hzlm prepare --set ngram.order=4"
BYTES_PER_NGRAM = sum(dtype.itemsize for dtype in TENSORS.values())
HEADER_BYTES = 768
"""More than what the file holds beside its n-grams."""


@dataclass(frozen=True)
class NgramModel:
    """M n-grams. The node of an n-gram is its index + 1; node 0 is the empty context.

    What counts of a history is one node: its longest suffix that is an n-gram here.
    """

    keys: Tensor
    """int64 [M], ascending: node of the n-gram without its last word * vocabulary_size + last word."""
    shorter: Tensor
    """int32 [M], node of the longest n-gram here that is a proper suffix of this one; 0 for unigrams."""
    log_probability: Tensor
    """float [M], natural logarithm of p(last word | the words before it)."""
    log_backoff: Tensor
    """float [M], natural logarithm of the weight that shorter contexts have where this one does not know a word."""
    vocabulary_size: int
    bounds: tuple[int, ...]
    """[N + 1] for orders 1 to N: the n-grams of order n are those from bounds[n - 1] to bounds[n]."""

    @property
    def order(self) -> int:
        """Length of the longest n-grams."""
        return len(self.bounds) - 1

    def look_up(self, contexts: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """p(word | context), and the context of the word after that.

        Args:
            contexts: int64 nodes, of any shape.
            words: int64 token ids, of a shape that can be broadcast with it.

        Returns:
            Natural logarithms, float, and int64 nodes, both of the common shape.
        """
        contexts, words = torch.broadcast_tensors(contexts, words)
        shape = contexts.shape
        contexts, words = contexts.flatten(), words.flatten()
        scores = self.log_probability.new_zeros(contexts.shape)
        nodes = torch.zeros_like(contexts)
        open_places = torch.arange(len(contexts), device=contexts.device)
        for _ in range(self.order):
            wanted = contexts * self.vocabulary_size + words
            places = torch.searchsorted(self.keys, wanted).clamp_(max=len(self.keys) - 1)
            found = self.keys[places] == wanted
            hits = open_places[found]
            scores[hits] += self.log_probability[places[found]]
            nodes[hits] = places[found] + 1
            missed = ~found
            open_places, contexts, words = open_places[missed], contexts[missed], words[missed]
            if len(open_places) == 0:
                break
            scores[open_places] += self.log_backoff[contexts - 1]
            contexts = self.shorter[contexts - 1].long()
        # nothing follows the longest n-grams, so the next word would only be looked for in vain
        longest = nodes > self.bounds[-2]
        nodes[longest] = self.shorter[nodes[longest] - 1].long()
        return scores.view(shape), nodes.view(shape)

    @cached_property
    def bigrams(self) -> Bigrams:
        """Its unigrams and bigrams."""
        size, first = self.vocabulary_size, self.bounds[1]
        last = self.bounds[2] if self.order > 1 else first
        keys, log_probability = self.keys[:last].cpu().numpy(), self.log_probability[:last].float().cpu().numpy()
        words, keys = keys[:first], keys[first:]
        log_unigram, log_backoff = np.full(size, -np.inf, np.float32), np.zeros(size, np.float32)
        log_unigram[words] = log_probability[:first]
        log_backoff[words] = self.log_backoff[:first].float().cpu().numpy()
        counts = np.bincount(words[keys // size - 1], minlength=size)
        starts = np.concatenate([[0], counts.cumsum()])
        return Bigrams(log_unigram, log_backoff, starts, (keys % size).astype(np.int32), log_probability[first:])

    def to(self, device: torch.device) -> "NgramModel":
        """The same model with its arrays on a device; itself where they are there."""
        if self.keys.device == device:
            return self
        arrays = {name: array.to(device) for name, array in self._arrays().items()}
        return NgramModel(**arrays, vocabulary_size=self.vocabulary_size, bounds=self.bounds)

    def save(self, path: Path, vocabulary: Vocabulary) -> None:
        """Writes one safetensors file, which appears when it is whole."""
        arrays = {name: array.to(TENSORS[name]).contiguous() for name, array in self._arrays().items()}
        metadata = {
            "format": FORMAT,
            "version": VERSION,
            "vocabulary": vocabulary.fingerprint,
            "bounds": " ".join(map(str, self.bounds)),
        }
        metadata["sha256"] = _checksum(arrays, metadata)
        with replacing(path) as temporary:
            save_file(arrays, temporary, metadata)

    @classmethod
    def load(cls, path: Path, vocabulary: Vocabulary) -> "NgramModel":
        """Reads what `save` wrote. Raises `UserError` where it is missing, damaged or of another vocabulary."""
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                names = set(file.keys())
                arrays = {name: file.get_tensor(name) for name in TENSORS.keys() & names}
        except OSError as error:
            raise UserError(f"{path}: cannot read this n-gram model: {error.strerror or error}") from error
        except SafetensorError as error:
            raise UserError(f"{path}: this n-gram model is damaged: {error}; {REMEDY}") from error
        if (metadata.get("format"), metadata.get("version")) != (FORMAT, VERSION) or names != TENSORS.keys():
            raise UserError(f"{path}: no n-gram model of this version of hzlm; {REMEDY}")
        if metadata.get("sha256") != _checksum(arrays, metadata):
            raise UserError(f"{path}: this n-gram model is damaged: its checksum does not fit; {REMEDY}")
        if metadata.get("vocabulary") != vocabulary.fingerprint:
            raise UserError(f"{path}: this n-gram model has another vocabulary; {REMEDY}")
        bounds = tuple(map(int, metadata["bounds"].split()))
        return cls(**arrays, vocabulary_size=vocabulary.size, bounds=bounds)

    def _arrays(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in TENSORS}


def _checksum(arrays: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 of all that the file holds."""
    digest = hashlib.sha256()
    for name in ("vocabulary", "bounds"):
        digest.update(f"{metadata.get(name)}\n".encode())
    for name in TENSORS:
        digest.update(f"{name} {arrays[name].dtype} {list(arrays[name].shape)}\n".encode())
        digest.update(arrays[name].numpy().data)
    return digest.hexdigest()
