"""What a preparation is: typed, validated, read from YAML."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from hzlm.settings import Rate, Section, parse_override, read_values, replace_value, validate
from hzlm.tools.build_vocabulary import VocabularyConfig
from hzlm.tools.decontaminate import DecontaminateConfig
from hzlm.tools.duplicates.config import DuplicatesConfig
from hzlm.tools.engines.slurm_config import SlurmConfig
from hzlm.tools.filters import FilterConfig
from hzlm.tools.readers.config import InputConfig
from hzlm.tools.split import Unit


class SentenceConfig(Section):
    """What a sample is."""

    unit: Unit = "sentence"
    """A sentence with its punctuation; an utterance, which is a sentence without it; or a clause that has none."""
    max_length: Annotated[int, Field(gt=0, le=1 << 16)] = 128
    """Longest sample in characters; longer sentences are cut behind inner punctuation."""
    duplicates: bool = False
    """Whether a sentence is kept where the text had it before, with the same or other punctuation."""


class SplitConfig(Section):
    """What is held out of training."""

    by: Literal["sentence", "document"] = "sentence"
    """Single sentences, scattered over the text, or whole documents, so that dev and test have context too."""
    dev: Rate = 0.01
    """Share of the dev split."""
    test: Rate = 0.03
    """Share of the test split."""

    @model_validator(mode="after")
    def _leaves_something(self) -> "SplitConfig":
        if self.dev + self.test >= 1:
            raise ValueError(f"split.dev and split.test are {self.dev} and {self.test}: nothing is left for training")
        return self


class AnnotationConfig(Section):
    """Words and readings."""

    dictionaries: tuple[Path, ...] = ()
    """User dictionaries, a word a line: the word, a tab, its syllables with tone, and maybe a tab and a weight."""


class NgramConfig(Section):
    """The character n-gram model of the training split, for baselines and fusion."""

    order: Annotated[int, Field(ge=1, le=9)] | None = None
    """Length of the longest n-grams; null: no such model."""
    megabytes: Annotated[float, Field(gt=0, lt=1 << 30)] = 16.0
    """Largest size of its file, in MiB; what is worth least is pruned."""
    arpa: Path | None = None
    """A file to which the model is also written in ARPA format."""

    @model_validator(mode="after")
    def _arpa_needs_a_model(self) -> "NgramConfig":
        if self.arpa is not None and self.order is None:
            raise ValueError("ngram.arpa asks for a file of an n-gram model; give ngram.order too, as in 3")
        return self


class PrepareConfig(Section):
    """Everything that one preparation is, but for its inputs and its output."""

    input: InputConfig = InputConfig()
    filter: FilterConfig = FilterConfig()
    duplicates: DuplicatesConfig = DuplicatesConfig()
    decontaminate: DecontaminateConfig = DecontaminateConfig()
    sentences: SentenceConfig = SentenceConfig()
    split: SplitConfig = SplitConfig()
    annotation: AnnotationConfig = AnnotationConfig()
    vocabulary: VocabularyConfig = VocabularyConfig()
    ngram: NgramConfig = NgramConfig()
    slurm: SlurmConfig = SlurmConfig()


def load_prepare_config(path: Path | None, overrides: Sequence[str] = ()) -> PrepareConfig:
    """Reads a preparation from a YAML file; `overrides` ("section.key=value", the value in YAML) replace what it says.

    Raises:
        UserError: the file is missing or no YAML, a key is unknown, a value has the wrong type, or two values do not
            go together.
    """
    values = {} if path is None else read_values(path, PrepareConfig)
    origins: dict[str, str] = {}
    for override in overrides:
        dotted, value = parse_override(override)
        origins[dotted] = f"override {override}"
        replace_value(values, dotted, value, origins[dotted])
    return validate(PrepareConfig, values, str(path or "the settings"), origins)
