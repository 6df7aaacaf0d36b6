import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hzlm.pinyin import is_hanzi
from hzlm.tools.duplicates.hanzi import Windows, are_hanzi, code_points, hash_windows, ngrams, project

TEXT = st.text("中国人々〇ab1，。 \n𠀀𰻝😀㐀豈", max_size=12)


@given(st.text())
def test_hanzi_are_those_of_the_readings(text: str) -> None:
    assert are_hanzi(code_points(text)).tolist() == [is_hanzi(character) for character in text]


@given(st.lists(TEXT), st.integers(0, 3))
def test_texts_are_compared_by_their_hanzi_and_by_everything_where_these_are_few(texts: list[str], fewest: int) -> None:
    hanzi = project(texts, fewest)
    for number, text in enumerate(texts):
        kept = [ord(character) for character in text if is_hanzi(character)]
        expected = kept if len(kept) >= fewest else list(map(ord, text))
        assert hanzi.codes[hanzi.starts[number] : hanzi.starts[number + 1]].tolist() == expected
    assert hanzi.starts[-1] == len(hanzi.codes)


@given(st.lists(TEXT), st.integers(1, 5))
def test_ngrams_are_all_windows_of_each_text(texts: list[str], length: int) -> None:
    hanzi = project(texts)
    windows, first = ngrams(hanzi.starts, length)
    for number, (start, end) in enumerate(zip(hanzi.starts[:-1].tolist(), hanzi.starts[1:].tolist(), strict=True)):
        own = slice(first[number], first[number + 1])
        expected = [(place, place + length) for place in range(start, end - length + 1)] or [(start, end)]
        assert list(zip(windows.starts[own].tolist(), windows.ends[own].tolist(), strict=True)) == expected


@given(st.lists(st.sampled_from([0x4E00, 0x4E01, 0x20000]), min_size=1, max_size=40), st.data())
def test_hashes_are_equal_where_windows_are(codes: list[int], data: st.DataObject) -> None:
    place = st.integers(0, len(codes))
    pairs = [sorted(pair) for pair in data.draw(st.lists(st.tuples(place, place), min_size=1))]
    starts, ends = np.array(pairs, np.int64).T
    hashes = hash_windows(np.array(codes, np.uint32), Windows(starts, ends)).tolist()
    contents = [tuple(codes[start:end]) for start, end in pairs]
    assert len(set(hashes)) == len(set(contents)) == len(set(zip(hashes, contents, strict=True)))
