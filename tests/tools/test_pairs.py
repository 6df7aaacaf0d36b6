"""Files of pairs -> datasets: what is stored, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hzlm.data.dataset import SPLITS, Dataset
from hzlm.data.sentence_files import read_pairs
from hzlm.errors import UserError
from hzlm.pieces import Pieces
from hzlm.tools.pairs import find_vocabulary, make_pairs
from hzlm.tools.stages.sentences import split_of
from hzlm.vocabulary import Vocabulary

CHARACTERS = "我爱北京天安门，！ Ab"
VOCABULARY = Vocabulary(tuple(CHARACTERS), {"我": {"wo3": 1}, "爱": {"ai4": 1}})


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that holds vocabulary.json alone."""
    VOCABULARY.save(tmp_path / "vocabulary.json")
    return tmp_path


def write(place: Path, text: str | bytes, name: str = "pairs.tsv") -> Path:
    path = place / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def stored(folder: Path, split: str = "train") -> list[tuple[list[str], str]]:
    """The sources, as typed tokens, and the targets of a split."""
    dataset = Dataset.open(folder, split)
    assert dataset.is_pairs
    assert dataset.documents.tolist() == list(range(len(dataset) + 1))
    records = [dataset.record(i) for i in range(len(dataset))]
    assert not any(record.marks.any() for record in records)
    tokens = dataset.vocabulary.tokens
    return [([tokens[i] for i in record.reading], dataset.vocabulary.decode(record.hanzi)) for record in records]


def refuse(place: Path, text: str | bytes, message: str, dev: float = 0.0, skip_unknown: bool = False) -> None:
    """That file is refused with that one line, in which FILE is its path, and nothing is left behind."""
    path = write(place, text)
    before = sorted(place.iterdir())
    with pytest.raises(UserError) as caught:
        make_pairs([path], place, place / "out", dev, 0.0, skip_unknown)
    assert str(caught.value) == message.replace("FILE", str(path))
    assert sorted(place.iterdir()) == before


LINES = "give lines of [id<TAB>]source<TAB>target"


def test_sources_of_text(place: Path) -> None:
    path = write(place, "\ufeff我哎北京\t我爱北京\r\n\n7\t我,Ab\t我，Ab\n安\t安")
    report = make_pairs([path], place, place / "out", dev=0.0)
    assert stored(place / "out") == [
        (["lit:我", "[UNK]", "lit:北", "lit:京"], "我爱北京"),
        (["lit:我", "[UNK]", "lit:A", "lit:b"], "我，Ab"),
        (["lit:安"], "安"),
    ]
    assert report.splitlines() == [
        f"{path}: sources are text",
        "split  lines  % with a difference  positions  longest",
        "train      3                 66.7          9        4",
        "dev        0                  0.0          0        0",
        "test       0                  0.0          0        0",
    ]


def test_sources_of_pinyin(place: Path) -> None:
    lines = [
        "wo3 ai\t我爱",
        "1\two ai4,Běi jīng\t我爱！北京",
        "wo bei jing\t我，北京！",
        "wo ai\t我 爱",
        "lit:A lit:b\tAb",
        "ai4 b wo\t，爱b我！",
        "ai wo\tA我",
        "an'men ,\t安门，",
    ]
    make_pairs([write(place, "\n".join(lines))], place, place / "out", dev=0.0)
    assert stored(place / "out") == [
        (["syl:wo3", "syl:ai"], "我爱"),
        (["syl:wo", "syl:ai4", "[UNK]", "syl:bei3", "syl:jing1"], "我爱！北京"),
        (["syl:wo", "lit:，", "syl:bei", "syl:jing", "lit:！"], "我，北京！"),
        (["syl:wo", "lit: ", "syl:ai"], "我 爱"),
        (["lit:A", "lit:b"], "Ab"),
        (["lit:，", "syl:ai4", "lit:b", "syl:wo", "lit:！"], "，爱b我！"),
        (["syl:ai", "syl:wo"], "A我"),
        (["syl:an", "syl:men", "lit:，"], "安门，"),
    ]


def test_what_sources_are_is_told_by_their_file(place: Path) -> None:
    """A hanzi anywhere makes all sources of its file text: Ab is then no pinyin."""
    text, pinyin = write(place, "Ab\tAb\n我\t我\n", "text.tsv"), write(place, "wo\t我\n", "pinyin.tsv")
    report = make_pairs([text, pinyin], place, place / "out", dev=0.0)
    assert report.splitlines()[:2] == [f"{text}: sources are text", f"{pinyin}: sources are pinyin"]
    assert [source for source, _ in stored(place / "out")] == [["lit:A", "lit:b"], ["lit:我"], ["syl:wo"]]


def test_pieces_are_positions(tmp_path: Path) -> None:
    vocabulary = Vocabulary(tuple("我爱，"), {}, Pieces(("GDP", "G", "D", "P"), (-1, -9, -9, -9)))
    vocabulary.save(tmp_path / "vocabulary.json")
    lines = ["wo3 lit:GDP ,\t我GDP，", "wo\tGDP我，é"]
    make_pairs([write(tmp_path, "\n".join(lines))], tmp_path, tmp_path / "pinyin", dev=0.0)
    assert stored(tmp_path / "pinyin") == [
        (["syl:wo3", "lit:GDP", "lit:，"], "我GDP，"),
        (["lit:GDP", "syl:wo", "lit:，", "byte:C3", "byte:A9"], "GDP我，é"),
    ]
    make_pairs([write(tmp_path, "卧GDP\t我GDP")], tmp_path, tmp_path / "text", dev=0.0)
    assert stored(tmp_path / "text") == [(["[UNK]", "lit:GDP"], "我GDP")]
    for line in ("我GDP\t我DPG", "wo lit:GDP\t我DPG"):
        with pytest.raises(UserError, match="its source has 2 positions, its target 4 "):
            make_pairs([write(tmp_path, line)], tmp_path, tmp_path / "other", dev=0.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "我\t我\n我爱北\t我爱\n",
            "FILE:2: its source has 3 positions, its target 2 (they begin '我爱北' and '我爱'); "
            "a source of text has one for each of its target",
        ),
        (
            "wo ai bei\t我爱，" + "北" * 9,
            "FILE:1: its source has 3 positions, its target 12, 11 of them hanzi (they begin 'wo ai bei' and "
            "'我爱，北北北北北北北'); give a syllable or sign for each, or syllables for the hanzi alone",
        ),
        (
            "我中\t我爱\n我\t我中",
            "FILE:2: its source has 1 positions, its target 2 (they begin '我' and '我中'); "
            "a source of text has one for each of its target",
        ),
        (
            "我中\t我爱\n我我我\t我龘中",
            "FILE:2: the vocabulary lacks '龘' of the target; prepare a vocabulary that has it, or leave such lines "
            "out with --skip-unknown",
        ),
        ("wp\t我", 'FILE:1, piece 1: "wp" is no pinyin syllable; the nearest one is wu (letters that stand for '
         "themselves are written lit:wp)"),
        ("我\t我\n我爱\n", f"FILE:2: 1 column(s); {LINES}"),
        ("\n \t\n", f"FILE: no sentences in it; {LINES}"),
    ],
)  # fmt: skip
def test_what_is_refused(place: Path, text: str | bytes, message: str) -> None:
    refuse(place, text, message)


def test_a_train_split_without_a_line_is_refused(place: Path) -> None:
    text = "".join(f"{character}\t{character}\n" for character in "我爱北京")
    remedy = "give more, or make --dev and --test smaller"
    refuse(place, text, f"FILE: no line is left to train on; {remedy} (0 were left out)", dev=0.9999)
    refuse(place, "我\t龘", f"FILE: no line is left to train on; {remedy} (1 were left out)", skip_unknown=True)
    with pytest.raises(UserError, match=r"--dev 0\.5 and --test 0\.5 leave nothing to train on"):
        make_pairs([place / "pairs.tsv"], place, place / "out", 0.5, 0.5)


def test_files_and_folders_that_are_none_are_refused(place: Path) -> None:
    path = write(place, "我\t我")
    with pytest.raises(UserError, match=r"none\.tsv: cannot be read \(No such file or directory\)"):
        make_pairs([path, place / "none.tsv"], place, place / "out")
    with pytest.raises(UserError, match=f"{place}: no regular file"):
        make_pairs([place], place, place / "out")
    with pytest.raises(UserError, match=f"{path}: this exists already"):
        make_pairs([path], place, path)


def test_lines_with_unknown_targets_can_be_left_out(place: Path) -> None:
    path = write(place, "我我\t我龘\n爱\t爱\n我我我\t龘龘中\n")
    report = make_pairs([path], place, place / "out", dev=0.0, skip_unknown=True)
    assert [target for _, target in stored(place / "out")] == ["爱"]
    assert report.splitlines()[-1] == (
        "left out   2 lines whose targets the vocabulary lacks a character of: 龘 (2), 中 (1)"
    )


def test_splits_go_by_the_target(place: Path) -> None:
    generator = np.random.default_rng(0)
    targets = ["".join(generator.choice(list(CHARACTERS[:9]), 8)) for _ in range(200)]
    files = [
        write(place, "".join(f"{'我' * 8}\t{one}\n" for one in targets[start::2]), f"{start}.tsv") for start in (0, 1)
    ]
    make_pairs(files, place, place / "out", dev=0.2, test=0.1)
    ordered = targets[::2] + targets[1::2]
    for split in SPLITS:
        expected = [one for one in ordered if split_of(one, 0.2, 0.1) == split]
        assert expected
        assert [target for _, target in stored(place / "out", split)] == expected
        if split != "train":
            pairs = list(read_pairs(place / "out" / f"{split}.tsv"))
            assert [(pair.source, pair.target) for pair in pairs] == [("我" * 8, one) for one in expected]
    make_pairs(files, place, place / "again", dev=0.2, test=0.1)
    for file in (place / "out").iterdir():
        assert (place / "again" / file.name).read_bytes() == file.read_bytes()


def test_held_out_pinyin_has_something_for_each_character(place: Path) -> None:
    """As `hzlm evaluate` wants it; what holds a blank cannot be written so."""
    lines = ["wo3 ai\t我，爱！", "wo ai\t我 爱"]
    assert [split_of(line.split("\t")[1], 0.99, 0.0) for line in lines] == ["dev", "dev"]
    kept = next(n * "安" for n in range(1, 1000) if split_of(n * "安", 0.99, 0.0) == "train")
    path = write(place, "\n".join([*lines, f"{'an ' * len(kept)}\t{kept}"]))
    report = make_pairs([path], place, place / "out", dev=0.99)
    assert (place / "out" / "dev.tsv").read_text("utf-8") == "wo3 ， ai ！\t我，爱！\n"
    assert report.splitlines()[-1] == "no .tsv    1 held-out lines with blanks, which pinyin cannot express"
    assert len(stored(place / "out", "dev")) == 2


def test_where_a_vocabulary_may_lie(place: Path) -> None:
    assert find_vocabulary(place / "vocabulary.json") == find_vocabulary(place) == VOCABULARY
    run = place / "run"
    checkpoint = run / "checkpoints" / "step_00000010"
    checkpoint.mkdir(parents=True)
    VOCABULARY.save(checkpoint / "vocabulary.json")
    (run / "checkpoints" / "latest").write_text(checkpoint.name)
    for path in (run, checkpoint, run / "checkpoints" / "latest"):
        assert find_vocabulary(path) == VOCABULARY
    (place / "empty").mkdir()
    with pytest.raises(UserError, match="empty: no vocabulary here; pass a"):
        find_vocabulary(place / "empty")
    with pytest.raises(UserError, match="none: cannot read"):
        find_vocabulary(place / "none")


LETTERS = st.sampled_from(CHARACTERS.replace(" ", ""))
HANZI = st.sampled_from("我爱北京")
SYLLABLES = st.sampled_from(["wo", "ai4", "lü3", "XI'AN"[:2], "shì"])


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.lists(st.tuples(HANZI, st.lists(st.tuples(LETTERS, LETTERS), max_size=6)), min_size=1, max_size=6),
    pinyin=st.lists(st.lists(st.tuples(SYLLABLES, HANZI), min_size=1, max_size=6), min_size=1, max_size=6),
    numbered=st.booleans(),
)
def test_any_pairs_come_back(
    place: Path,
    tmp_path_factory: pytest.TempPathFactory,
    text: list[tuple[str, list[tuple[str, str]]]],
    pinyin: list[list[tuple[str, str]]],
    numbered: bool,
) -> None:
    written = {"wo": "syl:wo", "ai4": "syl:ai4", "lü3": "syl:lv3", "XI": "syl:xi", "shì": "syl:shi4"}
    sides = [(first + "".join(a for a, _ in rest), first + "".join(b for _, b in rest)) for first, rest in text]
    sides += [(" ".join(a for a, _ in line), "".join(b for _, b in line)) for line in pinyin]
    expected = [([f"lit:{character}" for character in source], target) for source, target in sides[: len(text)]]
    expected += [([written[a] for a, _ in line], "".join(b for _, b in line)) for line in pinyin]
    columns = ["9"] if numbered else []
    lines = ["\t".join([*columns, source, target]) + "\n" for source, target in sides]
    files = [
        write(place, "".join(lines[: len(text)]), "text.tsv"),
        write(place, "".join(lines[len(text) :]), "pinyin.tsv"),
    ]
    output = tmp_path_factory.mktemp("pairs") / "out"
    make_pairs(files, place, output, dev=0.0)
    assert stored(output) == expected


def test_lines_that_stand_in_a_test_file(place: Path) -> None:
    sentence = "北京天安门爱我北京天安门爱北京"
    path = write(place, f"{sentence.replace('爱', '哎')}\t{sentence}\n我哎北京\t我爱北京\n{sentence}\t{sentence}")
    tests = write(place, f"7\t{sentence.replace('我', '门')}\t{sentence}！\n", "test.tsv")
    report = make_pairs([path], place, place / "out", dev=0.0, test_files=[tests])
    assert [target for _, target in stored(place / "out")] == ["我爱北京"]
    assert "left out   2 lines whose targets stand in a test file" in report.splitlines()
    assert "left out" not in make_pairs([path], place, place / "all", dev=0.0)
    with pytest.raises(UserError, match=r"missing\.tsv: cannot read this test file"):
        make_pairs([path], place, place / "none", test_files=[place / "missing.tsv"])
    assert not (place / "none").exists()
