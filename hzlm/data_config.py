"""The section `data` of a run: which datasets it reads, and what its samples show of them."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from hzlm.settings import Positive, Rate, Section, Share, Size, explain_unknown

VIEWS = ("masked", "pinyin", "toned", "keys", "fuzzy", "slips", "wrong", "mixed")
"""What a source may be made of (`hzlm.data.views`)."""
DRAWN_WITHOUT_CHANCE = frozenset({"pinyin", "toned"})
"""Views that show a sentence the same way each time."""
POSITION_VIEWS = ("hanzi", "mask", "syllable", "toned", "key", "fuzzy", "slip", "wrong")
"""What one position of a `mixed` source may carry."""
FUZZY_PAIRS = ("zh-z", "ch-c", "sh-s", "n-l", "r-l", "f-h", "an-ang", "en-eng", "in-ing", "ian-iang", "uan-uang")
"""Initials and finals that people confuse."""
WRONG_KINDS = ("same_sound", "near_sound", "shape", "random")
"""How a wrong hanzi resembles the right one."""


def _weigh(path: Any, info: ValidationInfo) -> Any:
    """A folder -> the mapping of it to weight 1; a mapping goes on as it is, where it names no folder twice."""
    if isinstance(path, str | Path):
        return {path: 1.0}
    if not isinstance(path, dict):
        raise ValueError(f"data.{info.field_name} = {path!r}: must be a folder, or a mapping of folders to weights")
    spelt: dict[Path, str | Path] = {}
    for name in path:
        first = spelt.setdefault(Path(name), name)
        if first != name:
            field = f"data.{info.field_name}"
            raise ValueError(f"{field}: {first} and {name} are the same folder; name it once, with one weight")
    return path


Folders = Annotated[dict[Path, Positive], BeforeValidator(_weigh)]


class DataConfig(Section):
    """Which data a run reads, and how."""

    path: Folders = Field(default={})
    """Dataset folders written by `hzlm prepare`, each with its weight; a folder alone has weight 1."""
    pairs: Folders = Field(default={})
    """Dataset folders written by `hzlm pairs`, each with its weight: their sources are as they were given."""
    temperature: Annotated[float, Field(ge=1)] = 1.0
    """Of the positions read, each dataset has a share proportional to weight * positions^(1 / temperature)."""
    row_length: Size = 128
    """Positions of a packed row."""
    views: dict[str, Positive] = Field(default={})
    """Relative rate of each view in the samples of `path`, as in {pinyin: 3, masked: 1}."""
    mask_rate: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the positions that the masked view hides."""
    mask_unit: Literal["character", "word", "span"] = "character"
    """What the masked view hides: single characters, whole words, or spans of geometric length."""
    span_length: Annotated[float, Field(ge=1)] = 3.0
    """Mean length of such a span."""
    fuzzy: tuple[str, ...] = FUZZY_PAIRS
    """Sounds that the fuzzy view, and wrong hanzi of near sound, confuse."""
    fuzzy_rate: Share = 0.3
    """Share of the syllables holding such a sound that the fuzzy view confuses."""
    slip_rate: Share = 0.1
    """Share of the syllables that the slips view types wrongly: a key beside the right one, two keys swapped, one
    left out."""
    wrong_rate: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the hanzi that the wrong view replaces."""
    clean_rate: Rate = 0.2
    """Share of the samples that the wrong view leaves as they are, so that a corrector learns to leave text alone."""
    wrong: dict[str, Positive] = Field(default={"same_sound": 0.5, "near_sound": 0.2, "shape": 0.2, "random": 0.1})
    """Relative rate of each kind of wrong hanzi."""
    mixed: dict[str, Positive] = Field(default={"syllable": 0.6, "toned": 0.1, "key": 0.15, "hanzi": 0.1, "mask": 0.05})
    """Relative rate of what a position of the mixed view carries."""
    context: Annotated[int, Field(ge=0, le=1 << 16)] = 0
    """Most positions of preceding sentences that stand before a sample as they are, and count in no loss."""
    context_rate: Share = 0.5
    """Share of the samples that are given as much of it as there is."""
    begun_rate: Rate = 0.0
    """Share of the samples whose own beginning, up to a random place, stands there as it is and counts in no loss, as
    when people choose one word after the other."""

    @model_validator(mode="after")
    def _own_checks(self) -> "DataConfig":
        if not self.path and not self.pairs:
            raise ValueError("data.path and data.pairs are both empty; name a dataset folder")
        twice = self.path.keys() & self.pairs.keys()
        if twice:
            raise ValueError(f"data.path and data.pairs both name {min(twice)}; name it once")
        if self.views and not self.path:
            raise ValueError("data.views is for the datasets of data.path, but there is none; leave it out")
        if self.context > 0 and not self.path:
            raise ValueError("data.context is for the datasets of data.path, but there is none; leave it out")
        if self.path and not self.views:
            raise ValueError("data.views is empty; name what the samples of data.path show, as in {pinyin: 1}")
        known = {"views": ("view", VIEWS), "mixed": ("kind", POSITION_VIEWS), "wrong": ("kind", WRONG_KINDS)}
        for field, (what, names) in known.items():
            for name in getattr(self, field):
                if name not in names:
                    raise ValueError(f"data.{field}.{name}: {explain_unknown(what, name, names)}")
        for pair in self.fuzzy:
            if pair not in FUZZY_PAIRS:
                raise ValueError(f"data.fuzzy: {pair}: {explain_unknown('pair', pair, FUZZY_PAIRS)}")
        for view in ("mixed", "wrong", "fuzzy"):
            if view in self.views and not getattr(self, view):
                raise ValueError(f"data.views has {view}, but data.{view} is empty; say what it is made of")
        if "mixed" in self.views and self.mixed.keys() == {"hanzi"}:
            raise ValueError("data.mixed has hanzi alone, so that nothing is asked for; add another kind")
        if self.context >= self.row_length:
            raise ValueError(
                f"data.context = {self.context} leaves no room in data.row_length = {self.row_length}; make it smaller"
            )
        return self
