import gzip
import hashlib
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from arpa import read_arpa
from hzlm.data.dataset import SPLITS, Dataset
from hzlm.data.marks import MARK_FOLLOWS, MARK_WORD_START
from hzlm.decode.ngram import NgramModel
from hzlm.pinyin import parse_pinyin
from hzlm.tools.filters import FEW_HANZI
from hzlm.tools.prepare import prepare
from hzlm.tools.report import Report
from hzlm.tools.stages.annotate import DUPLICATE, NOT_ALIGNED
from hzlm.tools.stages.config import PrepareConfig, load_prepare_config
from hzlm.tools.stages.encode import NOT_IN_VOCABULARY
from hzlm.tools.stages.sentences import TOO_LONG, split_of
from hzlm.vocabulary import Vocabulary
from inline import InlineEngine

PLACES = ["北京", "上海", "重庆", "长安", "银行", "学校", "图书馆", "公园", "车站", "医院"]
ACTIONS = ["高兴地唱歌", "认真地读书", "等了很久", "看见了朋友", "买了三本书", "喝茶", "开会", "跑步", "写信", "休息"]
SENTENCES = [f"{who}在{place}{action}。" for who in ("我", "他们", "老师") for place in PLACES for action in ACTIONS]
ODD = ["Hello world!", "３１５", "我用 Python and C 写程序。", "中\U0003134a国。", "一" * 40, "漢語，ＡＢＣ！"]
SETTINGS = [
    "input.document=line",
    "duplicates.near=false",
    "vocabulary.coverage=1.0",
    "vocabulary.gb2312=false",
    "sentences.max_length=30",
]


def config(*overrides: str) -> PrepareConfig:
    return load_prepare_config(None, [*SETTINGS, *overrides])


def expected_split(sentence: str) -> str:
    percentile = int(hashlib.sha256(sentence.encode("utf-8")).hexdigest()[:8], 16) % 100
    return "test" if percentile >= 97 else "dev" if percentile == 96 else "train"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 distinct sentences, ten a line, ten of them twice in new company, and the odd ones; in two files."""
    folder = tmp_path_factory.mktemp("corpus")
    lines = ["".join(SENTENCES[i : i + 10]) for i in range(0, len(SENTENCES), 10)]
    with gzip.open(folder / "plain.txt.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join([*lines[:15], lines[0] + "再见！", lines[1]]))
    records = [json.dumps({"text": text}) for text in [*lines[15:], *ODD]]
    (folder / "records.jsonl").write_text("\n".join(records), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def prepared(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    output = tmp_path_factory.mktemp("out") / "sub" / "dataset"
    return output, prepare([corpus], output, config(), InlineEngine())


def texts_of(folder: Path, split: str) -> list[str]:
    dataset = Dataset.open(folder, split)
    return [dataset.vocabulary.decode(dataset.record(i).hanzi) for i in range(len(dataset))]


def test_each_sentence_is_in_the_split_of_its_hash(prepared: tuple[Path, Report]) -> None:
    folder, _ = prepared
    kept = [*SENTENCES, "再见！", "我用Python and C写程序。", "汉语，ABC！"]
    for split in SPLITS:
        assert sorted(texts_of(folder, split)) == sorted(s for s in kept if expected_split(s) == split)
    assert {expected_split(s) for s in kept} == set(SPLITS)  # else the test would show little


def test_split_of_agrees_with_the_rule_and_with_the_shares_asked_for() -> None:
    for sentence in SENTENCES:
        assert split_of(sentence, 0.01, 0.03) == expected_split(sentence)
    many = [split_of(str(number), 0.2, 0.005) for number in range(20_000)]
    assert many.count("dev") == pytest.approx(4000, rel=0.06)
    assert many.count("test") == pytest.approx(100, rel=0.3)
    assert {split_of(str(number), 0.0, 0.0) for number in range(1000)} == {"train"}


def test_the_report_accounts_for_every_character(corpus: Path, prepared: tuple[Path, Report]) -> None:
    folder, report = prepared
    read = report.stages["read"].read.characters
    lines = [*SENTENCES, *SENTENCES[:20], "再见！", *ODD]
    assert (report.characters, read) == (sum(map(len, lines)), sum(map(len, lines)))
    for name in ("read", "sentences", "annotate", "encode"):
        tally = report.stages[name]
        dropped = sum(amount.characters for amount in tally.dropped.values())
        assert tally.read.characters == tally.kept.characters + dropped + tally.removed, name
    flow = ("read", "sentences", "annotate", "encode")
    for name, behind in pairwise(flow):
        assert report.stages[name].kept.characters == report.stages[behind].read.characters
    dropped = {
        cause: (amount.items, amount.characters)
        for tally in report.stages.values()
        for cause, amount in tally.dropped.items()
    }
    assert dropped == {
        "duplicate document": (1, sum(map(len, SENTENCES[10:20]))),
        DUPLICATE: (10, sum(map(len, SENTENCES[:10]))),
        FEW_HANZI: (2, len("Hello world!") + len("315")),
        NOT_ALIGNED: (1, 4),
        TOO_LONG: (1, 40),
    }
    # Two blanks were removed: 用 Python and C 写.
    assert report.stages["read"].removed == 2
    assert list(report.files) == [str(corpus / "plain.txt.gz"), str(corpus / "records.jsonl")]
    assert (report.vocabulary["coverage"], report.vocabulary["unknown"]) == (1.0, {})
    for split in SPLITS:
        info = Dataset.open(folder, split).info
        assert (info["sequences"], info["positions"]) == (report.kept[split].items, report.kept[split].characters)
    stored = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert stored["characters"] == read
    assert stored["stages"]["annotate"]["dropped"][DUPLICATE]["items"] == 10
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
    assert all(dataset.record(i).marks[0] & MARK_WORD_START for i in range(len(dataset)))


def test_documents_stay_documents_and_know_what_follows_what(prepared: tuple[Path, Report]) -> None:
    dataset = Dataset.open(prepared[0], "train")
    texts = texts_of(prepared[0], "train")
    lines = [SENTENCES[i : i + 10] for i in range(0, 300, 10)]
    expected = [[s for s in line if expected_split(s) == "train"] for line in [*lines[:15], ["再见！"], *lines[15:]]]
    documents = [texts[a:b] for a, b in pairwise(dataset.documents.tolist())]
    assert documents[:31] == [document for document in expected if document]
    place = {text: number for number, text in enumerate(texts)}
    for line in lines:
        for before, after in pairwise(line):
            if after in place:
                follows = bool(dataset.record(place[after]).marks[0] & MARK_FOLLOWS)
                assert follows == (before in place), after
    first = dataset.record(place[lines[0][0]]).marks
    assert not first[0] & MARK_FOLLOWS


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
    known = Vocabulary.load(prepared[0] / "vocabulary.json")
    narrow = Vocabulary(known.characters, {**known.readings, "茶": {"zha1": 1}})
    narrow.save(tmp_path / "narrow.json")
    text = tmp_path / "new.txt"
    sentences = [*SENTENCES, *(f"它们在{place}唱龘歌。" for place in PLACES)]
    text.write_text("\n".join(sentences), encoding="utf-8")
    settings = load_prepare_config(None, ["input.document=line", f"vocabulary.path={tmp_path / 'narrow.json'}"])
    report = prepare([text], tmp_path / "new", settings, InlineEngine())
    train = Dataset.open(tmp_path / "new", "train")
    assert train.vocabulary.fingerprint == narrow.fingerprint
    tea = [s for s in sentences if "茶" in s]
    assert report.stages["encode"].dropped[NOT_IN_VOCABULARY].items == len(tea) > 0
    assert report.vocabulary["coverage"] < 1
    assert "龘" in report.vocabulary["unknown"]
    for split in SPLITS:
        dataset = Dataset.open(tmp_path / "new", split)
        for i in range(len(dataset)):
            record = dataset.record(i)
            for hanzi, reading in zip(record.hanzi, record.reading, strict=True):
                assert hanzi == narrow.unknown_id or hanzi in narrow.candidates(int(reading))


def test_clauses(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(f"今天{s[:-1]}，明天{s}" for s in SENTENCES[:60]), encoding="utf-8")
    report = prepare([tmp_path / "a.txt"], tmp_path / "out", config("sentences.unit=clause"), InlineEngine())
    texts = [text for split in SPLITS for text in texts_of(tmp_path / "out", split)]
    assert sorted(texts) == sorted(f"{day}{s[:-1]}" for s in SENTENCES[:60] for day in ("今天", "明天"))
    assert report.stages["sentences"].removed == 2 * 60


def test_an_ngram_model_of_the_train_split_alone(corpus: Path, prepared: tuple[Path, Report], tmp_path: Path) -> None:
    arpa = tmp_path / "model.arpa"
    size = 0.008
    settings = config("ngram.order=3", f"ngram.megabytes={size}", f"ngram.arpa={arpa}")
    report = prepare([corpus], tmp_path / "out", settings, InlineEngine())
    vocabulary = Vocabulary.load(tmp_path / "out" / "vocabulary.json")
    model = NgramModel.load(tmp_path / "out" / "ngram.safetensors", vocabulary)
    assert model.order == 3
    assert report.ngram is not None
    assert sum(report.ngram["kept"]) == len(model.keys) < sum(report.ngram["counted"])
    assert size * 2**20 - 1000 < report.ngram["bytes"] <= size * 2**20
    assert 1 < report.ngram["dev_perplexity"] < vocabulary.target_size
    assert "n-grams" in str(report)
    train, seen = texts_of(tmp_path / "out", "train"), read_arpa(arpa.read_text("utf-8").splitlines())
    assert len(seen) == len(model.keys)
    pairs = {pair for text in train for pair in pairwise(["<s>", *text.replace(" ", "\u2581"), "</s>"])}
    assert {ngram for ngram in seen if len(ngram) == 2} <= pairs
    assert not (prepared[0] / "ngram.safetensors").exists(), "none unless it is asked for"


def test_whole_documents_are_held_out_if_asked_for(corpus: Path, tmp_path: Path) -> None:
    settings = config("split.by=document", "split.dev=0.1", "split.test=0.2")
    prepare([corpus], tmp_path / "out", settings, InlineEngine())
    texts = {split: set(texts_of(tmp_path / "out", split)) for split in SPLITS}
    assert all(texts.values())
    for start in range(0, 300, 10):
        line = set(SENTENCES[start : start + 10])
        assert [split for split in SPLITS if texts[split] & line] in [["train"], ["dev"], ["test"]]
    dev = Dataset.open(tmp_path / "out", "dev")
    follows = np.array([bool(dev.record(i).marks[0] & MARK_FOLLOWS) for i in range(len(dev))])
    assert follows.sum() == len(dev) - (len(dev.documents) - 1), "each but the first of a document"
