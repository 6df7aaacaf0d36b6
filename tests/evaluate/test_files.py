"""Files as they were published: which format is seen in them, what is read, and what is refused."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given

from damage import answer_of, damaged
from hzlm.data.sentence_files import Pair
from hzlm.decode.converter import Converter
from hzlm.errors import UserError
from hzlm.evaluate.files import Format, _read_readings, read_corrections, read_examples, recognize
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.pinyin import is_hanzi
from hzlm.vocabulary import Vocabulary

SHARED = Path(__file__).parents[3] / "shared" / "tests"

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "data.tsv"
        path.write_text(text, "utf-8")
        return path

    return write


@pytest.fixture
def converter(model: EncoderDecoder, vocabulary: Vocabulary) -> Converter:
    return Converter(model, vocabulary)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("wo ai\t我爱", "pinyin"),
        ("wo3 ai4 ，\t我爱，\tnews", "pinyin"),
        ("wo ai\t我爱\t新闻", "pinyin"),  # as long as the hanzi, but the pinyin fits them
        ("lit:G lit:P\tGP\t新闻", "pinyin"),
        ("wo ai", "pinyin"),  # so that its message is told
        ("1\two ai\t我爱\tnews", "pinyin"),
        ("1\two3 ai4\t我爱。", "readings"),
        ("hsk1-0001\tlao3 shi1\t老师，", "readings"),
        ("1\t\t老师", "readings"),
        ("1\t我爱背京\t我爱北京", "correction"),
        ("A2-11-1\t我\t我", "correction"),
        ("1\t我\t你", "correction"),
        ("1\t我爱\t我", "correction"),  # so that the right message is told
        ("我爱\t我", "correction"),
        ("我爱背京\t我爱北京", "correction"),
        ("我爱\two ai", "pinyin"),
    ],
)
def test_the_first_line_tells_the_format(write: Write, line: str, expected: Format) -> None:
    assert recognize(write(f"\ufeff\n \n{line}\r\nnothing of what follows\tis\tlooked\tat\n")) == expected


@pytest.mark.parametrize("line", ["1\two\tnews", "wo\t我爱\tnews"])
def test_a_first_line_that_is_nothing(write: Write, line: str) -> None:
    with pytest.raises(UserError, match=r"data\.tsv:1: neither pinyin.*--format"):
        recognize(write(line))


def test_a_file_without_lines(write: Write, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no sentences in it"):
        recognize(write("\n"))
    with pytest.raises(UserError, match="cannot be read"):
        recognize(tmp_path / "none.tsv")


def test_readings_are_those_of_the_hanzi(write: Write, converter: Converter) -> None:
    path = write("a\two3 ai4 bei3 jing1\t我爱，北京 ！\n")
    (toneless,) = read_examples(path, converter, "readings")
    assert toneless.hanzi == "我爱，北京！", "without the blank"
    tokens = [converter.vocabulary.tokens[i] for i in toneless.source.ids]
    assert tokens == ["syl:wo", "syl:ai", "lit:，", "syl:bei", "syl:jing", "[UNK]"]
    assert toneless.source.characters == (None, None, "，", None, None, "！")
    (toned,) = read_examples(path, converter, "readings", tones=True)
    tokens = [converter.vocabulary.tokens[i] for i in toned.source.ids]
    assert tokens == ["syl:wo3", "syl:ai4", "lit:，", "syl:bei3", "syl:jing1", "[UNK]"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1\t\t我爱", "its source is empty"),
        ("1\two3\t我爱", "its source has 1 positions, its target 2, 2 of them hanzi"),
        ("1\two3 ai4 wo3\t我 爱", "its source has 3 positions, its target 2, 2 of them hanzi"),
        ("1\two3 ai4 wo3\t我爱。", "。 is no hanzi, but wo3 is its reading"),
        ("1\two3 ia4\t我爱", '2, piece 2: "ia4" is no pinyin syllable; the nearest one is ai'),
        ("wo3", "1 column(s); give lines of [id<TAB>]source<TAB>target"),
    ],
)
def test_readings_that_do_not_fit(write: Write, converter: Converter, line: str, message: str) -> None:
    path = write(f"0\two3\t我\n{line}\n")
    with pytest.raises(UserError) as caught:
        list(read_examples(path, converter, "readings"))
    assert str(caught.value).startswith(f"{path}:2")
    assert message in str(caught.value)


def test_corrections(write: Write) -> None:
    path = write("1\t我 背\t我 北\r\n\n我\t你\n")
    assert list(read_corrections(path)) == [Pair("我 背", "我 北", f"{path}:1"), Pair("我", "你", f"{path}:3")]
    for line, message in (
        ("2\t我爱\t我", "2: its source has 2 positions, its target 1 (they begin '我爱' and '我'); leave the line out"),
        ("2", "2: 1 column(s); give lines of [id<TAB>]source<TAB>target"),
        ("2\t\t", "2: its source is empty"),
    ):
        with pytest.raises(UserError) as caught:
            list(read_corrections(write(f"1\t我\t我\n{line}\n")))
        assert message in str(caught.value)


WHOLE = "1\two3 ai4\t我爱，\n2\t我背\t我北\nwo ai\t我爱\tnews\n".encode()


@given(damaged(WHOLE))
def test_any_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.tsv"
    path.write_bytes(content)
    answer_of(lambda: recognize(path), path)
    answer_of(lambda: list(read_corrections(path)), path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public test sets are not here")
@pytest.mark.parametrize("name", ["p2h_hsk", "p2h_thchs30", "p2h_aishell_dev"])
def test_published_readings_fit(name: str) -> None:
    path = SHARED / f"{name}.tsv"
    assert recognize(path) == "readings"
    rows = [line.split("\t") for line in path.read_text("utf-8").splitlines()[:3000]]
    for line, (_, _, sentence) in zip(_read_readings(path, tones=True), rows, strict=False):
        assert line.hanzi == sentence
        tokens = line.pinyin.split()
        literals = [token.removeprefix("lit:") for token in tokens if not token[0].isalpha() or token[:4] == "lit:"]
        assert literals == [character for character in sentence if not is_hanzi(character)]
        assert len(tokens) == len(sentence)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public test sets are not here")
def test_published_pairs_are_read(converter: Converter) -> None:
    paths = sorted(SHARED.glob("csc_*.tsv"))
    assert len(paths) >= 15
    for path in paths:
        assert recognize(path) == "correction"
        assert all(len(pair.source) == len(pair.target) for pair in islice(read_corrections(path), 1000))
    with pytest.raises(UserError, match=r"odw_train\.tsv:1119: its source has 22 positions"):
        list(read_corrections(SHARED / "csc_ecspell_odw_train.tsv"))
    without = SHARED / "p2h_wiki_dev.tsv"
    assert recognize(without) == "readings"
    with pytest.raises(UserError, match=r"p2h_wiki_dev\.tsv:1: its source is empty"):
        list(read_examples(without, converter, "readings"))
