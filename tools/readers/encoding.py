"""Which encoding a file of text has."""

import codecs
from collections.abc import Iterator

OTHER_ENCODING = "file that is no UTF-8, read in its own encoding"
UNKNOWN_ENCODING = "file in no known encoding of Chinese, left out; convert it to UTF-8"

HEAD_BYTES = 1 << 20
"""As much of a file is looked at."""

_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# What is found -> the largest encoding of its family.
_CHINESE = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "gb18030": "gb18030",
    "big5": "big5hkscs",
    "big5hkscs": "big5hkscs",
    "cp950": "big5hkscs",
    "utf_16_le": "utf-16-le",
    "utf_16_be": "utf-16-be",
}
# Chinese text of 200 characters has 0.10 to 0.25.
_LEAST_COHERENCE = 0.05
# In text of letters and digits a few broken bytes do not make another encoding.
_FEW_BROKEN = 0.05


def encoding_of(head: bytes) -> str | None:
    """Python's name of the encoding in which Chinese text begins with `head`; None where it is not certain.

    It is UTF-8 where more of the characters that are not ASCII are valid UTF-8 than are not. Else charset-normalizer
    judges.
    """
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return encoding
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(head)
    broken = text.count("\ufffd")
    if not broken or broken <= sum(not c.isascii() for c in text) - broken:
        return "utf-8"
    import charset_normalizer

    best = charset_normalizer.from_bytes(head).best()
    if best is not None and best.encoding in _CHINESE and best.coherence >= _LEAST_COHERENCE:
        return _CHINESE[best.encoding]
    return "utf-8" if broken < _FEW_BROKEN * len(text) else None


def convert_to_utf8(blocks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """The blocks in UTF-8, without a byte order mark; what cannot be decoded becomes �."""
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    for block in blocks:
        yield decoder.decode(block).encode()
    yield decoder.decode(b"", final=True).encode()
