"""Sentences of a dataset as examples: what each view asks for, context, and what is refused."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from hzlm import cli
from hzlm.data.dataset import SPLITS, VOCABULARY_FILE, Dataset, Record, SplitWriter
from hzlm.data.marks import MARK_FOLLOWS
from hzlm.data_config import FUZZY_PAIRS, VIEWS, DataConfig
from hzlm.decode import converter as converter_module
from hzlm.decode.converter import Converter
from hzlm.decode.tolerance import Tolerance
from hzlm.errors import UserError
from hzlm.evaluate.files import Example
from hzlm.evaluate.records import check_vocabulary, read_records
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.pieces import Pieces
from hzlm.vocabulary import Vocabulary

Write = Callable[[Path, Sequence[str]], Path]
TEXTS = ["我爱北京，", "银行是十", "音形，市", "重，中"]
DOCUMENTS = [TEXTS[:3], TEXTS[3:]]


@pytest.fixture
def dataset(tmp_path: Path, vocabulary: Vocabulary) -> Dataset:
    """Two documents, whose sentences follow one another."""
    return Dataset.open(write_documents(tmp_path / "data", DOCUMENTS, vocabulary), "dev")


def write_documents(
    folder: Path, documents: Sequence[Sequence[str]], vocabulary: Vocabulary, is_pairs: bool = False
) -> Path:
    """Each sentence with the first reading of each hanzi; all but the first of a document follow the one before."""
    folder.mkdir()
    vocabulary.save(folder / VOCABULARY_FILE)
    for split in SPLITS:
        with SplitWriter(folder, split, vocabulary, is_pairs) as writer:
            for document in documents:
                for number, text in enumerate(document):
                    hanzi = vocabulary.encode(text)
                    reading = hanzi.copy()
                    for place, character in enumerate(vocabulary.cut(text)):
                        if character in vocabulary.readings:
                            reading[place] = vocabulary.id_of(f"syl:{next(iter(vocabulary.readings[character]))}")
                    marks = np.zeros(len(hanzi), np.uint8)
                    marks[0] = MARK_FOLLOWS if number and not is_pairs else 0
                    writer.add(Record(hanzi, reading, marks))
                writer.end_document()
            writer.finish()
    return folder


def shown(example: Example, vocabulary: Vocabulary) -> list[str]:
    """The typed tokens of the text itself."""
    return [vocabulary.tokens[i] for i in example.source.ids[example.source.context :]]


@pytest.mark.parametrize("view", [view for view in VIEWS if view != "wrong"])
def test_what_stands_for_itself_is_no_question(dataset: Dataset, vocabulary: Vocabulary, view: str) -> None:
    examples = list(read_records(dataset, view))
    assert [example.hanzi for example in examples] == TEXTS
    assert {example.origin for example in examples} == {view}
    for example in examples:
        source = example.source
        assert (source.context, source.begun, len(source.ids)) == (0, 0, len(example.hanzi))
        for token, character, literal in zip(shown(example, vocabulary), example.hanzi, source.characters, strict=True):
            assert literal == (character if token == f"lit:{character}" else None)
    asked = [literal is None for example in examples for literal in example.source.characters]
    assert any(asked)
    if view not in ("masked", "mixed"):
        assert asked == [character != "，" for text in TEXTS for character in text]


def test_views_show_what_they_say(dataset: Dataset, vocabulary: Vocabulary) -> None:
    first = {view: shown(next(read_records(dataset, view)), vocabulary) for view in ("pinyin", "toned", "keys")}
    assert first["pinyin"] == ["syl:wo", "syl:ai", "syl:bei", "syl:jing", "lit:，"]
    assert first["toned"] == ["syl:wo3", "syl:ai4", "syl:bei3", "syl:jing1", "lit:，"]
    assert first["keys"] == ["key:w", "key:a", "key:b", "key:j", "lit:，"]


@pytest.mark.parametrize("view", ["mixed", "keys", "fuzzy", "masked"])
def test_every_evaluation_shows_the_same(dataset: Dataset, view: str) -> None:
    once, again = ([example.source.ids.tolist() for example in read_records(dataset, view)] for _ in range(2))
    assert once == again
    (third,) = (e.source.ids.tolist() for e in read_records(dataset, view, limit=3) if e.hanzi == TEXTS[-1])
    assert third == once[-1], "also among fewer sentences"


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ("pinyn", "view pinyn: unknown view; did you mean pinyin?"),
        ("wrong", "view wrong: no conversion changes hanzi; measure a file of corrections"),
    ],
)
def test_views_that_cannot_be_measured(dataset: Dataset, view: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        next(read_records(dataset, view))
    assert str(caught.value) == f"{dataset.folder}: {message}"


def test_context_is_whole_preceding_sentences(dataset: Dataset, vocabulary: Vocabulary) -> None:
    """The lengths are 5, 4, 4 and, in another document, 3."""
    one, two = TEXTS[:2]
    for room, before in ((3, ["", "", "", ""]), (8, ["", one, two, ""]), (9, ["", one, one + two, ""])):
        for example, alone, context in zip(
            read_records(dataset, "pinyin", room), read_records(dataset, "pinyin"), before, strict=True
        ):
            assert example.source.context == len(context)
            assert example.source.ids.tolist() == [*vocabulary.encode(context), *alone.source.ids]
            assert example.source.literals == alone.source.literals
            assert example.source.begun == 0


def test_context_leaves_room_for_the_sentence(dataset: Dataset) -> None:
    contexts = [example.source.context for example in read_records(dataset, "pinyin", 9, longest=12)]
    assert contexts == [0, 5, 4, 0]
    with pytest.raises(UserError, match="sentence 0 has 5 positions, but this model takes 4 at most"):
        next(read_records(dataset, "pinyin", 9, longest=4))


def test_a_limit_is_spread_evenly(tmp_path: Path, write_dataset: Write, sentences: list[str]) -> None:
    dataset = Dataset.open(write_dataset(tmp_path / "data", sentences), "dev")
    found = [example.hanzi for example in read_records(dataset, "pinyin", limit=4)]
    assert found == [sentences[i] for i in (0, 19, 39, 59)]
    for limit in (60, 100, None):
        assert [example.hanzi for example in read_records(dataset, "pinyin", limit=limit)] == sentences
    assert [example.hanzi for example in read_records(dataset, "pinyin", limit=1)] == sentences[:1]


def test_sentences_with_blanks_are_left_out(tmp_path: Path) -> None:
    vocabulary = Vocabulary(("我", " ", "\u3000"), {"我": {"wo3": 1}})
    folder = write_documents(tmp_path / "data", [["我", "我 我", "我我", "\u3000我"]], vocabulary)
    found = [example.hanzi for example in read_records(Dataset.open(folder, "dev"), "pinyin")]
    assert found == ["我", "我我"]


def test_pieces_are_characters_of_the_sentence(tmp_path: Path) -> None:
    vocabulary = Vocabulary(("我",), {"我": {"wo3": 1}}, Pieces(("GDP",), (-1,)))
    folder = write_documents(tmp_path / "data", [["我GDPé"]], vocabulary)
    (found,) = read_records(Dataset.open(folder, "dev"), "pinyin")
    assert found.hanzi == "我GDPé"
    assert found.source.literals == (None, "GDP", "", "é")
    assert found.source.characters == (None, "G", "D", "P", "é")


def test_a_syllable_that_no_hanzi_has_is_unknown_and_counts_as_wrong(
    tmp_path: Path, vocabulary: Vocabulary, model: EncoderDecoder
) -> None:
    folder = write_documents(tmp_path / "data", [], vocabulary)
    reading = [vocabulary.id_of(token) for token in ("syl:yin1", "syl:ca1", "syl:yin2")]
    with SplitWriter(folder, "dev", vocabulary) as writer:
        writer.add(Record(vocabulary.encode("音中银"), np.array(reading, np.int32), np.zeros(3, np.uint8)))
        writer.end_document()
        writer.finish()
    (found,) = read_records(Dataset.open(folder, "dev"), "pinyin")
    assert shown(found, vocabulary) == ["syl:yin", "[UNK]", "syl:yin"]
    ((best,),) = Converter(model, vocabulary).search([found.source])
    assert best.text[1] == "□"
    assert found.source.literals == (None, None, None)


RESTORABLE = {"fuzzy": 3.0, "slip": 3.0, "key": 1.0, "toned": 1.0}


@pytest.mark.parametrize("view", ["pinyin", "toned", "keys", "fuzzy", "slips", "mixed"])
def test_the_right_sentence_is_in_reach(
    dataset: Dataset, vocabulary: Vocabulary, model: EncoderDecoder, view: str
) -> None:
    """Of all candidates, under the tolerance that the view needs; elsewhere a syllable is what it says."""
    settings = DataConfig(
        path=dataset.folder, views={view: 1.0}, fuzzy_rate=1.0, slip_rate=1.0, mixed=RESTORABLE | {"wrong": 3.0}
    )
    examples = list(read_records(dataset, view, settings=settings))
    for example, found in zip(
        examples, Converter(model, vocabulary).search([e.source for e in examples], 3000), strict=True
    ):
        assert example.hanzi in {candidate.text for candidate in found}
    plain = list(read_records(dataset, "pinyin"))
    is_altered = any(
        one not in (other, "key:" + other[4:6], "key:" + other[4:5]) and not one[-1].isdigit()
        for example, exact in zip(examples, plain, strict=True)
        for one, other in zip(shown(example, vocabulary), shown(exact, vocabulary), strict=True)
    )
    assert is_altered == (view in ("fuzzy", "slips", "mixed"))
    assert {example.source.tolerance for example in examples} == {
        Tolerance(FUZZY_PAIRS if view in ("fuzzy", "mixed") else (), view in ("slips", "mixed"))
    }


def test_a_view_has_the_settings_that_are_given(dataset: Dataset, vocabulary: Vocabulary) -> None:
    settings = DataConfig(path=dataset.folder, views={"keys": 1.0}, fuzzy=("sh-s",), fuzzy_rate=1.0)
    examples = list(read_records(dataset, "fuzzy", settings=settings))
    tokens = [token for example in examples for token in shown(example, vocabulary)]
    assert tokens.count("syl:si") == 3, "是, 十 and 市"
    assert "syl:yin" in tokens
    assert examples[0].source.tolerance == Tolerance(("sh-s",))


def test_mixed_without_anything_to_convert_is_refused(dataset: Dataset) -> None:
    settings = DataConfig(path=dataset.folder, views={"mixed": 1.0}, mixed={"hanzi": 1.0, "wrong": 1.0})
    with pytest.raises(UserError, match="view mixed: of hanzi alone, right or wrong, nothing is converted"):
        next(read_records(dataset, "mixed", settings=settings))


def test_pairs_are_refused(tmp_path: Path, vocabulary: Vocabulary) -> None:
    folder = write_documents(tmp_path / "pairs", DOCUMENTS, vocabulary, is_pairs=True)
    with pytest.raises(UserError, match=r"pairs: holds pairs, whose sources are given; measure the dev\.tsv in it"):
        next(read_records(Dataset.open(folder, "dev"), "pinyin"))


def test_a_foreign_vocabulary_is_refused(dataset: Dataset, vocabulary: Vocabulary) -> None:
    check_vocabulary(dataset, vocabulary)
    with pytest.raises(UserError) as caught:
        check_vocabulary(dataset, Vocabulary(("我",), {}))
    assert str(caught.value).startswith(f"{dataset.folder}: its vocabulary is not the model's; give one that")


def test_the_command(
    dataset: Dataset,
    vocabulary: Vocabulary,
    model: EncoderDecoder,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(converter_module, "load_model", lambda path: (model, vocabulary))
    arguments = ["evaluate", "model", str(dataset.folder), "--view", "pinyin", "keys", "pinyin", "--context", "8"]
    assert cli.main(arguments) == 0
    *table, stored = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in table[1:-1]] == ["pinyin"] * 2 + ["keys"] * 2 + ["total"] * 2
    found = json.loads(stored)
    assert [found["sources"][view]["model"]["sentences"] for view in ("pinyin", "keys")] == [4, 4]
    assert found["total"]["model"]["sentences"] == 8
    asked = sum(character != "，" for text in TEXTS for character in text)
    assert found["sources"]["keys"]["model"]["characters"] == asked
    assert found["total"]["model"]["characters"] == 2 * asked
    assert cli.main([*arguments[:3], "--limit", "2"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(found["sources"]) == ["pinyin"]
    assert found["total"]["model"]["sentences"] == 2
    alone = found["sources"]["pinyin"]
    assert cli.main([*arguments[:3], "--limit", "2", "--view", "fuzzy", "slips", "--view", "pinyin"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(found["sources"]) == ["fuzzy", "slips", "pinyin"]
    assert found["sources"]["pinyin"] == alone, "other views leave it alone"
    other = Vocabulary(vocabulary.characters[::-1], vocabulary.readings)
    monkeypatch.setattr(converter_module, "load_model", lambda path: (model, other))
    assert cli.main(arguments) == 2
    assert "its vocabulary is not the model's" in capsys.readouterr().err


def test_options_of_files_and_of_datasets(dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "test.tsv").write_text("wo\t我\n", "utf-8")
    for option in (["--view", "keys"], ["--context", "3"]):
        assert cli.main(["evaluate", "model", str(tmp_path / "test.tsv"), *option]) == 2
        assert f"test.tsv: {option[0]} is for datasets, and this is a file; leave it out" in capsys.readouterr().err
    for option in (["--format", "pinyin"], ["--fuzzy"]):
        assert cli.main(["evaluate", "model", str(dataset.folder), *option]) == 2
        assert f"{dataset.folder}: {option[0]} is for files, and this is a dataset" in capsys.readouterr().err
