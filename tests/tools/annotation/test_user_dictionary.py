import re
from pathlib import Path

import pytest

from hzlm.errors import UserError
from hzlm.tools.annotation.annotate import Annotator
from hzlm.tools.annotation.readings import READING_INDEX
from hzlm.tools.annotation.user_dictionary import UserWord, read_dictionary


def test_what_lines_say(tmp_path: Path) -> None:
    path = tmp_path / "words.tsv"
    path.write_text("\ufeff行长\tháng zhang3\n\n东西\tdong1 xi\t20\r\n行长\txing2 zhang3\t7\n", "utf-8")
    assert read_dictionary(path) == {
        "行长": UserWord((READING_INDEX["xing2"], READING_INDEX["zhang3"]), 7),
        "东西": UserWord((READING_INDEX["dong1"], READING_INDEX["xi5"]), 20),
    }


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("行长", "parted by tabulators"),
        ("行长 hang2 zhang3", "parted by tabulators"),
        ("行长\thang2 zhang3\t5\tn", "parted by tabulators"),
        ("\thang2", '"" is no word of hanzi'),
        ("卡拉OK\tka3 la1", '"卡拉OK" is no word of hanzi'),
        ("行长\thang2", "has 2 hanzi, but here are 1 readings"),
        ("行长\t", "has 2 hanzi, but here are 0 readings"),
        ("行长\thagn2 zhang3", '"hagn2" is no pinyin syllable; the nearest one is hang'),
        ("行长\t- 7", '"-" is no pinyin syllable; write readings as in: zhong1 guo2'),
        ("行长\thang2 zhang3\t0", 'the weight "0" is no whole number'),
        ("行长\thang2 zhang3\tfünf", 'the weight "fünf" is no whole number'),
        ("行长\thang2 zhang3\t2147483648", "is no whole number from 1 to 2147483647"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "words.tsv"
    path.write_text(f"东西\tdong1 xi5\n\n{line}\n", "utf-8")
    with pytest.raises(UserError, match=re.escape(says)) as error:
        Annotator([path])
    assert str(error.value).startswith(f"{path}, line 3: ")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read this dictionary"):
        read_dictionary(tmp_path / "none.tsv")
    path = tmp_path / "gbk.tsv"
    path.write_bytes("行长\thang2 zhang3\n".encode("gbk"))
    with pytest.raises(UserError, match=r"gbk.tsv: no UTF-8 text"):
        read_dictionary(path)
