import gzip
import hashlib
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arpa import read_arpa
from hzlm.data.dataset import MARK_WORD_START, SPLITS, Dataset
from hzlm.decode.ngram import NgramModel
from hzlm.errors import UserError
from hzlm.pinyin import TONED_SYLLABLES, is_hanzi, parse_pinyin
from hzlm.tools.build_vocabulary import build_vocabulary
from hzlm.tools.collect import DUPLICATE, NO_HANZI, NOT_ALIGNED, TOO_LONG, SentenceSelector, split_of
from hzlm.tools.encode import RecordEncoder
from hzlm.tools.prepare import prepare
from hzlm.tools.report import Report
from hzlm.tools.write import NOT_IN_VOCABULARY
from hzlm.vocabulary import Vocabulary

PLACES = ["北京", "上海", "重庆", "长安", "银行", "学校", "图书馆", "公园", "车站", "医院"]
ACTIONS = ["高兴地唱歌", "认真地读书", "等了很久", "看见了朋友", "买了三本书", "喝茶", "开会", "跑步", "写信", "休息"]
SENTENCES = [f"{who}在{place}{action}。" for who in ("我", "他们", "老师") for place in PLACES for action in ACTIONS]
ODD = ["Hello world!", "３１５", "我用 Python and C 写程序。", "中\U0003134a国。", "一" * 40, "漢語，ＡＢＣ！"]


def expected_split(sentence: str) -> str:
    percentile = int(hashlib.sha256(sentence.encode("utf-8")).hexdigest()[:8], 16) % 100
    return "test" if percentile >= 97 else "dev" if percentile == 96 else "train"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 distinct sentences, ten a line, the first twenty of them twice, and the odd ones; in two files."""
    folder = tmp_path_factory.mktemp("corpus")
    lines = ["".join(SENTENCES[i : i + 10]) for i in range(0, len(SENTENCES), 10)]
    with gzip.open(folder / "plain.txt.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join([*lines[:15], *lines[:2]]))
    records = [json.dumps({"text": text}) for text in [*lines[15:], *ODD]]
    (folder / "records.jsonl").write_text("\n".join(records), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def prepared(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    output = tmp_path_factory.mktemp("out") / "sub" / "dataset"
    return output, prepare([corpus], output, coverage=1.0, max_length=30)


def texts_of(folder: Path, split: str) -> list[str]:
    dataset = Dataset.open(folder, split)
    return [dataset.vocabulary.decode(dataset.record(i).hanzi) for i in range(len(dataset))]


def test_each_sentence_is_in_the_split_of_its_hash(prepared: tuple[Path, Report]) -> None:
    folder, _ = prepared
    kept = [*SENTENCES, "我用Python and C写程序。", "汉语，ABC！"]
    for split in SPLITS:
        assert sorted(texts_of(folder, split)) == sorted(s for s in kept if expected_split(s) == split)
    assert {expected_split(s) for s in kept} == set(SPLITS)  # else the test would show little


def test_split_of_agrees_with_the_rule() -> None:
    for sentence in SENTENCES:
        assert split_of(hashlib.sha256(sentence.encode()).digest()) == expected_split(sentence)


def test_the_report_accounts_for_every_character(corpus: Path, prepared: tuple[Path, Report]) -> None:
    folder, report = prepared
    dropped = {cause: (tally.sentences, tally.characters) for cause, tally in report.dropped.items()}
    repeated = SENTENCES[:20]
    assert dropped == {
        DUPLICATE: (20, sum(map(len, repeated))),
        NO_HANZI: (2, len("Hello world!") + len("315")),
        NOT_ALIGNED: (1, 4),
        TOO_LONG: (1, 40),
    }
    read = sum(map(len, [*SENTENCES, *repeated, *ODD]))
    kept = sum(tally.characters for tally in report.kept.values())
    # Two blanks were removed: 用 Python and C 写.
    assert (report.characters, report.removed) == (read, 2)
    assert read == kept + report.removed + sum(characters for _, characters in dropped.values())
    assert list(report.files) == [str(corpus / "plain.txt.gz"), str(corpus / "records.jsonl")]
    assert (report.coverage, report.unknown) == (1.0, {})
    for split in SPLITS:
        info = Dataset.open(folder, split).info
        assert (info["sequences"], info["positions"]) == (report.kept[split].sentences, report.kept[split].characters)
    stored = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert stored["characters"] == read
    assert stored["dropped"][DUPLICATE] == {"sentences": 20, "characters": sum(map(len, repeated))}
    shown = str(report)
    assert f"{read:,} characters" in shown
    assert all(part in shown for part in (*dropped, *SPLITS, "100.0000 %"))


def test_readings_and_marks(prepared: tuple[Path, Report]) -> None:
    dataset = Dataset.open(prepared[0], "train")
    tokens = dataset.vocabulary.tokens
    sentence = next(s for s in SENTENCES if "重庆高兴地" in s and expected_split(s) == "train")
    record = dataset.record(texts_of(prepared[0], "train").index(sentence))
    readings = [tokens[i] for i in record.reading]
    start = sentence.index("重")
    assert readings[start : start + 5] == ["syl:chong2", "syl:qing4", "syl:gao1", "syl:xing4", "syl:de5"]
    assert readings[-1] == "lit:。"
    marked = (record.marks & MARK_WORD_START).astype(bool).tolist()
    assert marked[start : start + 5] == [True, False, True, False, True]


def test_one_text_is_one_document(prepared: tuple[Path, Report]) -> None:
    dataset = Dataset.open(prepared[0], "train")
    texts = texts_of(prepared[0], "train")
    lines = [{s for s in SENTENCES[i : i + 10] if expected_split(s) == "train"} for i in range(0, 300, 10)]
    documents = [set(texts[a:b]) for a, b in pairwise(dataset.documents)]
    assert documents[:30] == lines


def test_held_out_sentences_as_tsv(prepared: tuple[Path, Report]) -> None:
    folder, report = prepared
    for split in ("dev", "test"):
        dataset = Dataset.open(folder, split)
        rows = [line.split("\t") for line in (folder / f"{split}.tsv").read_text(encoding="utf-8").splitlines()]
        assert [hanzi for _, hanzi, _ in rows] == [text for text in texts_of(folder, split) if " " not in text]
        assert {source for _, _, source in rows} <= {"plain", "records"}
        for i, (pinyin, hanzi, source) in enumerate(rows):
            ids = [dataset.vocabulary.id_of(token) for token in parse_pinyin(pinyin, split)]
            assert ids == dataset.vocabulary.toneless(dataset.record(i).reading).tolist()
            assert source == ("plain" if hanzi in SENTENCES[:150] else "records")
    assert report.not_in_tsv == 0
    assert not (folder / "train.tsv").exists()


def test_an_existing_vocabulary_is_kept_and_never_lacks_the_answer(
    prepared: tuple[Path, Report], tmp_path: Path
) -> None:
    path = prepared[0] / "vocabulary.json"
    known = Vocabulary.load(path)
    narrow = Vocabulary(known.characters, {**known.readings, "茶": {"zha1": 1}})
    narrow.save(tmp_path / "narrow.json")
    text = tmp_path / "new.txt"
    sentences = [*SENTENCES, *(f"它们在{place}唱龘歌。" for place in PLACES)]
    text.write_text("\n".join(sentences), encoding="utf-8")
    report = prepare([text], tmp_path / "new", vocabulary=tmp_path / "narrow.json")
    train = Dataset.open(tmp_path / "new", "train")
    assert train.vocabulary.fingerprint == narrow.fingerprint
    tea = [s for s in sentences if "茶" in s]
    assert report.dropped[NOT_IN_VOCABULARY].sentences == len(tea) > 0
    assert report.coverage < 1
    assert "龘" in report.unknown
    for split in SPLITS:
        dataset = Dataset.open(tmp_path / "new", split)
        for i in range(len(dataset)):
            record = dataset.record(i)
            for hanzi, reading in zip(record.hanzi, record.reading, strict=True):
                assert hanzi == narrow.unknown_id or hanzi in narrow.candidates(int(reading))


def test_clauses(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(f"今天{s[:-1]}，明天{s}" for s in SENTENCES[:60]), encoding="utf-8")
    report = prepare([tmp_path / "a.txt"], tmp_path / "out", unit="clause")
    texts = [text for split in SPLITS for text in texts_of(tmp_path / "out", split)]
    assert sorted(texts) == sorted(f"{day}{s[:-1]}" for s in SENTENCES[:60] for day in ("今天", "明天"))
    assert report.removed == 2 * 60


MIXED_TEXT = st.text(
    st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5)
    | st.sampled_from("，。！？“”（）《》…、：;:'’ABCabc0123ＡＢ１２ \t\n漢語臺灣的地得了银行")
)


@pytest.fixture(scope="module")
def selector() -> SentenceSelector:
    return SentenceSelector("sentence", 50, Report())


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(MIXED_TEXT)
def test_kept_sentences_are_aligned_and_decode_to_themselves(selector: SentenceSelector, text: str) -> None:
    for sentence, annotation, split in selector.select(text):
        assert 0 < len(sentence) <= 50
        assert split == expected_split(sentence)
        readings = [TONED_SYLLABLES[i] if i >= 0 else None for i in annotation.readings]
        vocabulary = build_vocabulary(Counter(zip(sentence, readings, strict=True)), coverage=1.0)
        codes = np.array([ord(character) for character in sentence], np.int32)
        record = RecordEncoder(vocabulary).encode(codes, annotation.readings, annotation.word_starts)
        assert record is not None
        assert len(record.hanzi) == len(record.reading) == len(record.marks) == len(sentence)
        assert vocabulary.decode(record.hanzi) == sentence
        for character, token_id in zip(sentence, record.reading, strict=True):
            token = vocabulary.tokens[token_id]
            assert token.startswith("syl:") if is_hanzi(character) else token == f"lit:{character}"


def test_an_ngram_model_of_the_train_split_alone(corpus: Path, prepared: tuple[Path, Report], tmp_path: Path) -> None:
    arpa = tmp_path / "model.arpa"
    size = 0.008
    out = tmp_path / "out"
    report = prepare([corpus], out, coverage=1.0, max_length=30, ngram_order=3, ngram_size=size, arpa=arpa)
    vocabulary = Vocabulary.load(tmp_path / "out" / "vocabulary.json")
    model = NgramModel.load(tmp_path / "out" / "ngram.safetensors", vocabulary)
    assert model.order == 3
    assert report.ngram is not None
    assert sum(report.ngram.kept) == len(model.keys) < sum(report.ngram.counted)
    assert size * 2**20 - 1000 < report.ngram.bytes <= size * 2**20
    assert report.ngram.dev_perplexity is not None
    assert 1 < report.ngram.dev_perplexity < vocabulary.target_size
    assert "n-grams" in str(report)
    train, seen = texts_of(tmp_path / "out", "train"), read_arpa(arpa.read_text("utf-8").splitlines())
    assert len(seen) == len(model.keys)
    pairs = {pair for text in train for pair in pairwise(["<s>", *text.replace(" ", "\u2581"), "</s>"])}
    assert {ngram for ngram in seen if len(ngram) == 2} <= pairs
    assert not (prepared[0] / "ngram.safetensors").exists(), "none unless it is asked for"


def refuse(output: Path, message: str, **arguments: Any) -> None:
    arguments = {"inputs": [output.parent / "a.txt"], "output": output, **arguments}
    before = sorted(output.parent.iterdir())
    with pytest.raises(UserError, match=message) as caught:
        prepare(**arguments)
    assert "\n" not in str(caught.value)
    # Nothing half done stays behind.
    assert sorted(output.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"coverage": 0.0}, "coverage is 0.0"),
        ({"coverage": 1.01}, "coverage is 1.01"),
        ({"coverage": float("nan")}, "coverage is nan"),
        ({"max_length": 0}, "max_length is 0"),
        ({"unit": "word"}, "unit is 'word'.*sentence, clause"),
        ({"inputs": []}, "no inputs; name"),
        ({"ngram_order": 10}, "order of the n-gram model is 10"),
        ({"ngram_order": 3, "ngram_size": 0.0}, "size of the n-gram model is 0.0"),
        ({"arpa": Path("a.arpa")}, "a.arpa: an ARPA file needs"),
        ({"inputs": [Path("none.txt")]}, "none.txt: no such file"),
        ({"vocabulary": Path("none.json")}, "none.json"),
    ],
)
def test_wrong_values(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    (tmp_path / "a.txt").write_text("我在北京。", encoding="utf-8")
    refuse(tmp_path / "out", message, **arguments)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a\.txt: this file holds no text"),
        ("我在".encode() + b"\xff", r"a\.txt, line 1: byte 6"),
        (b"no hanzi here", r"a\.txt.*no sentence is left for training"),
    ],
)
def test_bad_inputs_leave_nothing_behind(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    refuse(tmp_path / "out", message)


def test_an_existing_output_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("我在北京。", encoding="utf-8")
    (tmp_path / "out").mkdir()
    refuse(tmp_path / "out", "out: this exists already; remove it or choose another")


def test_an_output_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("我在北京。", encoding="utf-8")
    with pytest.raises(UserError, match="cannot write here"):
        prepare([tmp_path / "a.txt"], tmp_path / "a.txt" / "out")


def test_a_truncated_stream_is_found_when_the_dataset_is_opened(prepared: tuple[Path, Report], tmp_path: Path) -> None:
    for path in prepared[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    damaged = tmp_path / "train.reading.bin"
    damaged.write_bytes(damaged.read_bytes()[:-2])
    with pytest.raises(UserError, match=r"train\.reading\.bin: holds"):
        Dataset.open(tmp_path, "train")


def test_the_same_text_gives_the_same_files(corpus: Path, prepared: tuple[Path, Report], tmp_path: Path) -> None:
    prepare([corpus], tmp_path / "again", coverage=1.0, max_length=30)
    names = sorted(path.name for path in prepared[0].iterdir())
    assert names == sorted(path.name for path in (tmp_path / "again").iterdir())
    assert len(names) == 6 * 3 + 3 + 4
    for name in names:
        if name != "report.json":
            assert (tmp_path / "again" / name).read_bytes() == (prepared[0] / name).read_bytes(), name


def test_word_starts_cover_every_sentence(prepared: tuple[Path, Report]) -> None:
    dataset = Dataset.open(prepared[0], "train")
    firsts = np.array([dataset.record(i).marks[0] & MARK_WORD_START for i in range(len(dataset))])
    assert firsts.all()
