from pathlib import Path

import pytest

from hzlm.errors import UserError
from hzlm.tools.bench.readings import bench_readings, read_labels, score

ROWS = "1\tyin2 hang2\t银行，\n2\tzhong1\t中国\n3\tde\t我▁的▁书\n4\tx1 guo2\t中国\n5\tzhōng guo2\t中 国\n"


def write(folder: Path, text: str = ROWS) -> Path:
    path = folder / "labels.tsv"
    path.write_text(text, "utf-8")
    return path


def test_labels_and_rows_that_do_not_align(tmp_path: Path) -> None:
    labels = read_labels(write(tmp_path))
    assert labels.sentences == ["银行，", "我的书", "中 国"]
    assert labels.readings == [{0: "yin2", 1: "hang2"}, {1: "de5"}, {0: "zhong1", 2: "guo2"}]
    assert (labels.name, labels.skipped) == ("labels", 2)


def test_a_line_that_is_no_label(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"labels.tsv, line 2: write id<TAB>"):
        read_labels(write(tmp_path, "1\tyin2\t银\n2\tyin2 银\n"))
    with pytest.raises(UserError, match="cannot read these labels"):
        read_labels(tmp_path / "none.tsv")


def test_scores(tmp_path: Path) -> None:
    answers = {"银行，": ["yin2", "xing2", None], "我的书": ["", "de2", ""], "中 国": ["zhong1", "", None]}
    result = score(lambda sentence: answers[sentence], read_labels(write(tmp_path)))
    assert (result.labels, result.toneless, result.toned, result.characters) == (5, 2, 3, 9)


def test_the_table(tmp_path: Path) -> None:
    notes, headings, row = bench_readings([write(tmp_path)], ["pypinyin"]).splitlines()
    assert notes == "labels: 3 rows, 2 skipped"
    assert headings.split()[:5] == ["reader", "labels", "toneless", "labels", "with"]
    assert row.split()[:3] == ["pypinyin", "0.0", "0.0"]
