"""What of a text reaches the dataset: broken text, duplicates, test sets, readings, pieces."""

import json
import random
from pathlib import Path

import pytest

from hzlm.data.dataset import SPLITS, Dataset
from hzlm.data.marks import NO_SECOND, SecondReadings
from hzlm.tools.prepare import prepare
from hzlm.tools.report import Report
from hzlm.tools.stages.annotate import SAMPLES
from hzlm.tools.stages.config import load_prepare_config
from hzlm.tools.stages.sentences import BROKEN, DUPLICATE
from inline import InlineEngine

HANZI = "天地人你我他上中下大小山水火风云日月星辰春夏秋冬东西南北花草树木鸟鱼虫马牛羊高低长远近来去"


def paragraphs(count: int, length: int, seed: int = 0) -> list[str]:
    """Texts of random hanzi, a comma after every eighth."""
    generator = random.Random(seed)
    texts = ("".join(generator.choices(HANZI, k=length)) for _ in range(count))
    return ["，".join(text[i : i + 8] for i in range(0, length, 8)) + "。" for text in texts]


def run(tmp_path: Path, text: str | bytes, *overrides: str) -> tuple[Report, list[str]]:
    """Prepares one file; the report, and the sentences of all splits."""
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    config = load_prepare_config(None, ["vocabulary.gb2312=false", "vocabulary.coverage=1.0", *overrides])
    report = prepare([path], tmp_path / "out", config, InlineEngine())
    kept = []
    for split in SPLITS:
        dataset = Dataset.open(tmp_path / "out", split)
        kept += [dataset.vocabulary.decode(dataset.record(i).hanzi) for i in range(len(dataset))]
    return report, kept


def test_only_the_sentences_with_broken_bytes_are_lost(tmp_path: Path) -> None:
    lines = paragraphs(50, 16)
    content = "\n".join(lines).encode()
    place = content.index("，".encode(), 1000) + 3
    report, kept = run(tmp_path, content[:place] + b"\xff\xfe" + content[place:])
    broken = next(line for line in lines if len("\n".join(lines[: lines.index(line) + 1]).encode()) > place)
    assert sorted(kept) == sorted(set(lines) - {broken})
    assert report.stages["sentences"].dropped[BROKEN].items == 1
    (entry,) = report.troubles.to_json().values()
    assert entry["count"] == 1
    assert entry["places"] == [f"{tmp_path / 'text.txt'}, line {lines.index(broken) + 1}"]
    assert "trouble" in str(report)


def test_null_bytes_and_a_line_without_end_lose_nothing(tmp_path: Path) -> None:
    lines = paragraphs(12_000, 40)
    report, kept = run(tmp_path, "".join(lines[:100]) + "\x00" + "".join(lines[100:]))
    assert set(kept) == set(lines)
    assert len(kept) == len(lines)
    assert sum(report.troubles.counts.values()) >= 2


def test_of_nearly_equal_documents_the_first_stays(tmp_path: Path) -> None:
    first, other = paragraphs(2, 400)
    changed = first.replace(first[:8], "这是另外一个头")
    same_hanzi = first.replace("，", "；")
    report, kept = run(tmp_path, "\n\n".join([first, other, changed, same_hanzi]), "sentences.max_length=500")
    assert sorted(kept) == sorted([first, other])
    dropped = report.stages["sentences"].dropped
    assert (dropped[DUPLICATE["exact"]].items, dropped[DUPLICATE["near"]].items) == (1, 1)


@pytest.mark.parametrize(("override", "count"), [("near", 3), ("exact", 2)])
def test_kinds_of_duplicates_can_be_turned_off(tmp_path: Path, override: str, count: int) -> None:
    """The near keys of equal documents are equal too."""
    first, other = paragraphs(2, 400)
    changed = first.replace(first[:8], "这是另外一个头")
    text = "\n\n".join([first, other, changed])
    _, kept = run(tmp_path, text, f"duplicates.{override}=false", "sentences.max_length=500")
    assert len(kept) == count


def test_what_stands_in_a_test_file_is_left_out_and_counted_by_file(tmp_path: Path) -> None:
    lines = paragraphs(40, 24)
    tests = {"one.tsv": f"wo shi\t{lines[3]}\n", "two.txt": lines[7][2:25] + "\n"}
    for name, content in tests.items():
        (tmp_path / name).write_text(content, "utf-8")
    files = f"decontaminate.files=[{tmp_path / 'one.tsv'}, {tmp_path / 'two.txt'}]"
    report, kept = run(tmp_path, "\n".join(lines), files)
    assert sorted(kept) == sorted(set(lines) - {lines[3], lines[7]})
    dropped = report.stages["sentences"].dropped
    assert [dropped[f"in the test file {name}"].items for name in tests] == [1, 1]


def test_second_readings_are_kept_counted_and_shown(tmp_path: Path) -> None:
    sentences = [
        f"我们{time}高兴地说着第{number}个项目的事。" for time in ("今天", "昨天") for number in "一二三四五六七"
    ]
    report, _ = run(tmp_path, "\n".join(sentences), "split.dev=0.0", "split.test=0.0")
    train = Dataset.open(tmp_path / "out", "train")
    seconds = SecondReadings(train.vocabulary)
    found = []
    for i in range(len(train)):
        record = train.record(i)
        ids = seconds.of_marks(record.hanzi, record.marks)
        found += [(i, place, train.vocabulary.tokens[ids[place]]) for place in (ids != NO_SECOND).nonzero()[0].tolist()]
    assert found
    assert len(found) == report.second_readings
    assert all(token == "syl:di4" for _, _, token in found), "where we read de5"
    shown = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))["second_readings"]
    assert shown["characters"] == len(found)
    assert len(shown["samples"]) == min(SAMPLES, len(found))
    assert {(s["reading"], s["second"], s["sentence"][s["place"]]) for s in shown["samples"]} <= {
        ("de5", "di4", "地"),
        ("de5", "di4", "的"),
    }


def test_a_user_dictionary_changes_words_and_readings(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("地铁站台\tdi4 tie3 zhan4 tai2\n行行\thang2 hang2\n", "utf-8")
    run(
        tmp_path,
        "他行行都会。",
        f"annotation.dictionaries=[{tmp_path / 'words.txt'}]",
        "split.test=0.0",
        "split.dev=0.0",
    )
    train = Dataset.open(tmp_path / "out", "train")
    tokens = [train.vocabulary.tokens[i] for i in train.record(0).reading]
    assert tokens[1:3] == ["syl:hang2", "syl:hang2"]


def test_letters_and_digits_in_pieces(tmp_path: Path) -> None:
    words = ("iPhone", "Windows", "iPad", "Word")
    sentences = [f"我用{word}{number}写了{number}页。" for word in words for number in range(10, 60)]
    report, kept = run(tmp_path, "\n".join(sentences), "vocabulary.pieces=60", "input.document=blank-line")
    assert sorted(kept) == sorted(sentences)
    train = Dataset.open(tmp_path / "out", "train")
    positions = sum(train.lengths.tolist())
    characters = sum(len(train.vocabulary.decode(train.record(i).hanzi)) for i in range(len(train)))
    assert positions < 0.8 * characters
    assert sum(amount.characters for amount in report.kept.values()) == sum(map(len, kept))
    assert report.vocabulary["coverage"] == 1.0
    assert report.vocabulary["size"] == report.vocabulary["characters"] + 60 + 256
