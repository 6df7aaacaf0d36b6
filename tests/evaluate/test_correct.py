"""Evaluation of a corrector that a table stands in for."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hzlm.data.sentence_files import Pair
from hzlm.decode.calibration import Caution
from hzlm.errors import UserError
from hzlm.evaluate import correct as correct_module
from hzlm.evaluate.breakdown import Tally
from hzlm.evaluate.correct import break_down_corrections, evaluate_correction, worst_miscorrections
from hzlm.evaluate.correction_report import Miscorrection

PAIRS = [
    Pair("我爱背京", "我爱北京", "1"),
    Pair("我爱背景", "我爱北京", "2"),
    Pair("我住在背景的辟静的地方", "我住在北京的僻静的地方", "3"),
    Pair("我爱北京", "我爱北京", "4"),
]
GIVEN = ["我爱北京", "我爱背京", "我住在北京的辟静的地方", "我爱北景"]


@dataclass(frozen=True)
class Correction:
    text: str


class Corrector:
    """Answers as `GIVEN` says."""

    caution = Caution(1.5, 2.0, 30)

    @classmethod
    def load(cls, path: Path) -> "Corrector":
        return cls()

    def correct_many(self, texts: Sequence[str], advance: Callable[[int], None] | None = None) -> list[Correction]:
        answers = dict(zip([pair.source for pair in PAIRS], GIVEN, strict=True))
        if advance is not None:
            advance(len(texts))
        return [Correction(answers[text]) for text in texts]


@pytest.fixture(autouse=True)
def _corrector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correct_module, "Corrector", Corrector)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "csc.tsv"
    path.write_text("".join(f"{n}\t{p.source}\t{p.target}\n" for n, p in enumerate(PAIRS)), "utf-8")
    return path


def test_classes_by_hand() -> None:
    # errors: 1, 2, 3 (背景 and 辟) and none; corrected: 1, 1, 2
    assert break_down_corrections(PAIRS, GIVEN) == {
        "position": {"wrong": Tally(4, 6), "right": Tally(16, 17)},
        "length": {"1-5": Tally(2, 3), "11-20": Tally(2, 3)},
        "errors": {"1": Tally(1, 1), "2": Tally(1, 2), ">2": Tally(2, 3)},
    }


def test_mistakes_by_hand() -> None:
    assert worst_miscorrections(PAIRS, GIVEN) == (
        Miscorrection("京", "京", "景", 1, 1 / 2),
        Miscorrection("背", "北", "背", 1, 1 / 3),
        Miscorrection("辟", "僻", "辟", 1, 1.0),
    )


@given(st.lists(st.tuples(*[st.text("甲乙", min_size=3, max_size=3)] * 3), min_size=1, max_size=6))
def test_errors_by_length_and_by_number_add_up(versions: list[tuple[str, str, str]]) -> None:
    found = break_down_corrections([Pair(w, r, "") for w, r, _ in versions], [g for *_, g in versions])
    wrong = [(g == r) for w, r, g in versions for w, r, g in zip(w, r, g, strict=True) if w != r]
    for division in ("length", "errors"):
        assert sum(tally.total for tally in found[division].values()) == len(wrong)
        assert sum(tally.right for tally in found[division].values()) == sum(wrong)
    assert sum(tally.total for tally in found["position"].values()) == 3 * len(versions)


def test_scores_tables_and_json(data: Path) -> None:
    found = evaluate_correction(Path("model"), data)
    assert found.scores.sentences == 4
    assert found.scores.sentence_correction.hits == 1
    assert found.scores.exact_match == 1 / 4
    stored = json.loads(found.json())
    assert stored["data"] == str(data)
    assert stored["scores"]["false_positive_rate"] == 1.0
    # 6 errors; 5 changes, one of them needless
    assert stored["scores"]["character_correction"] == {
        "hits": 4, "changed": 5, "wrong": 6, "needless": 1, "precision": 4 / 5, "recall": 4 / 6, "f1": 8 / 11,
        "lenient_precision": 4 / 5, "lenient_f1": 8 / 11,
    }  # fmt: skip
    assert stored["breakdown"]["errors"]["2"] == {"right": 1, "total": 2}
    assert stored["miscorrections"][0] == {"written": "京", "right": "京", "given": "景", "count": 1, "share": 0.5}
    assert stored["caution"] == {"bias": 1.5, "threshold": 2.0, "step": 30}
    rows = [line.split() for line in found.table().splitlines()]
    assert rows[4] == ["character", "correction", "80.00%", "66.67%", "72.73%", "4", "5", "6"]
    assert found.table().splitlines()[5] == (
        "4 sentences, 25.00% right afterwards; of those without errors 0.00% untouched, 100.00% changed "
        "(false positive rate); bias 1.5, threshold 2 (calibrated at step 30)"
    )
    page = found.markdown()
    assert found.table().splitlines()[5] in page
    assert "| character | correction | 80.00% | 66.67% | 72.73% | 4 | 5 | 6 |" in page
    assert "| \\>2 | 3 | 2 | 66.67% |" in page
    assert "| 京 | 京 | 景 | 1 | 50.00% |" in page
    assert [chart.name for chart in found.charts()] == ["corrected_by_length", "corrected_by_errors"]


def test_limit_counts_lines(data: Path) -> None:
    assert evaluate_correction(Path("model"), data, limit=1).scores.exact_match == 1.0
    data.write_text("\n", "utf-8")
    with pytest.raises(UserError, match="no sentences in it"):
        evaluate_correction(Path("model"), data)


def test_without_clean_sentences_nothing_is_said_of_them(data: Path) -> None:
    data.write_text("\t".join([PAIRS[0].source, PAIRS[0].target]), "utf-8")
    found = evaluate_correction(Path("model"), data)
    assert "100.00% right afterwards; none without errors; bias 1.5" in found.table()
    stored = json.loads(found.json())["scores"]
    assert stored["untouched"] is stored["false_positive_rate"] is None
