"""Text in one form: simplified hanzi, half-width letters and digits, Chinese punctuation, no needless blanks."""

import re
import unicodedata

import opencc

from hzlm.pinyin import HANZI_RANGES

_LINE_ENDS = frozenset("\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")
_VARIATION_SELECTOR = re.compile("[\u180b-\u180d\ufe00-\ufe0f\U000e0100-\U000e01ef]")
# Hanzi, and the punctuation that stands among them, need no blanks around them.
_WIDE = f"{HANZI_RANGES}\u3000-\u303f\uff00-\uffef—…·‘’“”"
_NEEDLESS_BLANK = re.compile(f"(?<=[{_WIDE}]) | (?=[{_WIDE}])")
_BLANKS = re.compile(" +")


class Cleaner:
    """Brings text into the form that models are trained on.

    Traditional hanzi become simplified (OpenCC `t2s`), letters and digits take their NFKC form (Ａ -> A, １ -> 1; so do
    compatibility hanzi), Chinese punctuation stays as it is (，。！？：；（）), every kind of line end becomes `\\n`.
    Control and format characters and variation selectors vanish, and so do blanks, but for one between words that are
    no hanzi.
    """

    def __init__(self) -> None:
        self._simplify = opencc.OpenCC("t2s").convert
        self._table = _CharacterTable()

    def clean(self, text: str) -> str:
        """The text in its one form."""
        text = unicodedata.normalize("NFC", text).translate(self._table)
        if " " in text:
            text = _NEEDLESS_BLANK.sub("", _BLANKS.sub(" ", text))
        return self._simplify(text)


class _CharacterTable(dict[int, str]):
    """What `str.translate` puts for each character, found when the character is first met."""

    def __missing__(self, code: int) -> str:
        self[code] = replacement = _clean_character(chr(code))
        return replacement


def _clean_character(character: str) -> str:
    category = unicodedata.category(character)
    if character in _LINE_ENDS:
        return "\n"
    if character == "\t" or category == "Zs":
        return " "
    if category in ("Cc", "Cf") or _VARIATION_SELECTOR.match(character):
        return ""
    if category[0] == "L" or category == "Nd":
        return unicodedata.normalize("NFKC", character)
    return character
