"""Syllables that may be meant for others: slips, one search with several tables, and how many are searched together."""

from math import inf

import pytest

from hzlm.decode import converter as converter_module
from hzlm.decode.converter import Converter
from hzlm.decode.scorers import ModelScorer
from hzlm.decode.tolerance import Tolerance, tolerant_table
from hzlm.errors import UserError
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.vocabulary import Vocabulary


def found(converter: Converter, text: str) -> set[str]:
    return {candidate.text for candidate in converter.candidates([text], n_best=60)[0]}


def test_what_a_slip_has_made_is_converted(model: EncoderDecoder, vocabulary: Vocabulary) -> None:
    """A key left out, a key beside the right one, two keys swapped; but no key too many."""
    converter = Converter(model, vocabulary, slips=True)
    assert found(converter, "ei") == {"北"}
    assert found(converter, "ei3 ei") == {"北北"}
    assert found(converter, "nei") == {"北"}
    assert found(converter, "xin wo") == {"行我", "形我", "星我"}
    assert found(converter, "zong") == {"中", "重"}
    assert found(converter, "si") == {"爱"} | set("是事十市")
    assert found(converter, "bei") == {"北"}
    with pytest.raises(UserError, match="knows no hanzi that is read xian"):
        converter.read("xian", "here")
    with pytest.raises(UserError, match="knows no hanzi that is read ei4"):
        converter.read("ei4", "here")
    with pytest.raises(UserError, match="knows no hanzi that is read ei"):
        Converter(model, vocabulary).read("ei", "here")


def test_sources_of_several_tables_are_searched_at_once(model: EncoderDecoder, vocabulary: Vocabulary) -> None:
    exact = Converter(model, vocabulary)
    exact._scorer = ModelScorer(model)
    fuzzy, slips = Converter(model, vocabulary, fuzzy=("in-ing",)), Converter(model, vocabulary, slips=True)
    fuzzy._scorer = slips._scorer = exact._scorer
    asked = [
        (exact, "xing yin"), (fuzzy, "jin wo"), (slips, "ei"), (exact, "wo"), (fuzzy, "ying"), (slips, "xin wo"),
        (slips, "shi xing"), (fuzzy, "shi xing"),
    ]  # fmt: skip
    together = exact.search([converter.read(text, "here") for converter, text in asked], 60)
    for (converter, text), row in zip(asked, together, strict=True):
        (alone,) = converter.candidates([text], 60)
        assert [one.text for one in row] == [one.text for one in alone]
        assert [one.log_probability for one in row] == pytest.approx([one.log_probability for one in alone], abs=1e-4)


@pytest.mark.parametrize("most", [1, 60, 200, inf])
def test_batches_have_no_more_choices_than_allowed(
    model: EncoderDecoder, vocabulary: Vocabulary, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    converter = Converter(model, vocabulary)
    converter._scorer = ModelScorer(model)
    sources = [converter.read(text, "here") for text in ("wo shi", "xing", "wo", "shi xing ，", "wo wo", "shi") * 3]
    plain = converter.search(sources, beam=5)
    sizes: list[int] = []
    monkeypatch.setattr(converter_module, "MOST_CHOICES", most)
    limited = converter.search(sources, beam=5, advance=sizes.append)
    assert [row[0].text for row in limited] == [row[0].text for row in plain]
    assert sum(sizes) == 18
    assert len(sizes) == {1: 18, inf: 1}.get(most, len(sizes))
    # shi has four hanzi, xing three
    assert max(sizes) * 5 * 4 <= max(most, 5 * 4) or max(sizes) * 5 <= most


def test_what_several_alternatives_allow_is_counted(vocabulary: Vocabulary) -> None:
    table = tolerant_table(vocabulary, Tolerance(("in-ing",)))
    names = ("syl:xing", "syl:yin", "syl:ying", "syl:ca", "[UNK]", "[PAD]", "lit:我", "[MASK]")
    counts = [table.count(vocabulary.id_of(name)) for name in names]
    assert counts == [3, 2, 2, 0, 1, 1, 1, 16]
