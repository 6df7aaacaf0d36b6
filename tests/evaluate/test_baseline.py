"""The baseline against counts that a person can add up."""

import numpy as np

from hzlm.decode.converter import Source
from hzlm.evaluate.baseline import most_frequent_hanzi
from hzlm.vocabulary import Vocabulary

# 中 leads in zhong1 (6 to 5), 种 over all tones (5 + 3 to 6 + 1).
VOCABULARY = Vocabulary(("中", "种", "，"), {"中": {"zhong1": 6, "zhong4": 1}, "种": {"zhong1": 5, "zhong3": 3}})


def baseline(*tokens: str) -> str:
    literals = tuple(token[4:] if token.startswith("lit:") else None for token in tokens)
    ids = [VOCABULARY.unknown_id if token == "lit:☃" else VOCABULARY.id_of(token) for token in tokens]
    return most_frequent_hanzi(VOCABULARY, Source(np.array(ids, dtype=np.int64), literals))


def test_counts_are_those_of_the_tone_where_it_is_given() -> None:
    assert baseline("syl:zhong1", "syl:zhong3", "syl:zhong4") == "中种中"


def test_counts_are_summed_over_tones_where_it_is_not() -> None:
    assert baseline("syl:zhong") == "种"


def test_literals_stand_for_themselves() -> None:
    assert baseline("lit:，", "syl:zhong", "lit:☃", "lit:中") == "，种☃中"


def test_a_syllable_of_no_hanzi_is_unknown() -> None:
    """As one may be that is typed for another."""
    assert baseline("syl:zong", "syl:zhong", "[UNK]") == "□种□"


def test_context_is_no_part_of_the_answer() -> None:
    ids = [VOCABULARY.id_of(token) for token in ("lit:种", "lit:，", "syl:zhong1")]
    assert most_frequent_hanzi(VOCABULARY, Source(np.array(ids, dtype=np.int64), (None,), context=2)) == "中"
