"""Small data and models that many tests share."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

# Idle OpenMP threads that spin take the core from whatever else runs on the machine. Training alone is a fifth
# faster with them, so only the tests turn them off.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["HF_HUB_OFFLINE"] = "1"
# Triton's kernels run in its interpreter; it reads this when they are decorated. Compiling has processes of its own.
os.environ["TRITON_INTERPRET"] = "1"
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
# so that processes which a test starts find the function that they are to run
sys.path.append(str(Path(__file__).parents[1]))

import numpy as np
import pytest
import torch
from hypothesis import settings

from hzlm.config import ModelConfig
from hzlm.data.dataset import SPLITS, VOCABULARY_FILE, Record, SplitWriter
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.vocabulary import Vocabulary

# One slow example on a busy machine is no failure.
settings.register_profile("hzlm", deadline=None)
settings.load_profile("hzlm")

# hanzi and their readings; shi and xing have several hanzi, 行 has two readings
READINGS = {
    "我": "wo3", "爱": "ai4", "北": "bei3", "京": "jing1", "是": "shi4", "事": "shi4", "十": "shi2", "市": "shi4",
    "行": "xing2 hang2", "形": "xing2", "星": "xing1", "银": "yin2", "音": "yin1", "中": "zhong1 zhong4",
    "重": "zhong4",
}  # fmt: skip


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    """Fifteen hanzi and a comma."""
    readings = {hanzi: dict.fromkeys(text.split(), 1) for hanzi, text in READINGS.items()}
    return Vocabulary((*READINGS, "，"), readings)


@pytest.fixture(scope="session")
def model_config() -> ModelConfig:
    """Two blocks on either side, 32 wide, without dropout."""
    return ModelConfig(
        hidden_size=32, heads=4, feed_forward_size=48, encoder_layers=2, decoder_layers=2, max_length=24, dropout=0.0
    )


@pytest.fixture
def model(vocabulary: Vocabulary, model_config: ModelConfig) -> EncoderDecoder:
    """A random model whose weights are large enough for its answers to differ."""
    model = EncoderDecoder(model_config, vocabulary.size, vocabulary.target_start).initialize(seed=3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            generator = torch.Generator().manual_seed(len(name))
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def make_record(text: str, vocabulary: Vocabulary) -> Record:
    """A record with the first reading of each hanzi."""
    hanzi = vocabulary.encode(text)
    readings = [
        vocabulary.id_of(f"syl:{READINGS[character].split()[0]}") if character in READINGS else int(token)
        for character, token in zip(text, hanzi, strict=True)
    ]
    return Record(hanzi, np.array(readings, np.int32), np.zeros(len(text), np.uint8))


@pytest.fixture(scope="session")
def write_dataset(vocabulary: Vocabulary) -> Callable[[Path, Sequence[str]], Path]:
    """A function (folder, sentences) -> folder, now a dataset whose three splits all hold these sentences."""

    def write(folder: Path, sentences: Sequence[str]) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        vocabulary.save(folder / VOCABULARY_FILE)
        for split in SPLITS:
            with SplitWriter(folder, split, vocabulary) as writer:
                for sentence in sentences:
                    writer.add(make_record(sentence, vocabulary))
                writer.end_document()
                writer.finish()
        return folder

    return write


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    """Sixty distinct sentences of 1 to 16 characters."""
    generator = np.random.default_rng(0)
    characters = [*READINGS, "，"]
    found: dict[str, None] = {}
    while len(found) < 60:
        found["".join(generator.choice(characters, size=generator.integers(1, 17)))] = None
    return list(found)
