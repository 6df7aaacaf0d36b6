"""Pinyin: the syllables, the tones, the keys that abbreviate them, and how people write them."""

import difflib
import re
import unicodedata
from collections.abc import Iterable

from hzlm.errors import UserError

_TABLE = """
    a ai an ang ao
    ba bai ban bang bao bei ben beng bi bian biang biao bie bin bing bo bong bu
    ca cai can cang cao ce cei cen ceng cha chai chan chang chao che chen cheng chi chong chou chu chua chuai
    chuan chuang chui chun chuo ci cong cou cu cuan cui cun cuo
    da dai dan dang dao de dei den deng di dia dian diao die din ding diu dong dou du duan dui dun duo
    e ei en eng er
    fa fan fang fei fen feng fiao fo fou fu
    ga gai gan gang gao ge gei gen geng gong gou gu gua guai guan guang gui gun guo
    ha hai han hang hao he hei hen heng hm hng hong hou hu hua huai huan huang hui hun huo
    ji jia jian jiang jiao jie jin jing jiong jiu ju juan jue jun
    ka kai kan kang kao ke kei ken keng kong kou ku kua kuai kuan kuang kui kun kuo
    la lai lan lang lao le lei len leng li lia lian liang liao lie lin ling liu lo long lou lu luan lun luo lv
    lve
    m ma mai man mang mao me mei men meng mi mian miao mie min ming miu mo mou mu
    n na nai nan nang nao ne nei nen neng ng ni nia nian niang niao nie nin ning niu nong nou nu nuan nun nuo nv
    nve
    o ou
    pa pai pan pang pao pei pen peng pi pian piao pie pin ping po pou pu
    qi qia qian qiang qiao qie qin qing qiong qiu qu quan que qun
    ran rang rao re ren reng ri rong rou ru rua ruan rui run ruo
    sa sai san sang sao se sen seng sha shai shan shang shao she shei shen sheng shi shou shu shua shuai shuan
    shuang shui shun shuo si song sou su suan sui sun suo
    ta tai tan tang tao te tei teng ti tian tiao tie ting tong tou tu tuan tui tun tuo
    wa wai wan wang wei wen weng wo wong wu
    xi xia xian xiang xiao xie xin xing xiong xiu xu xuan xue xun
    ya yan yang yao ye yi yin ying yo yong you yu yuan yue yun
    za zai zan zang zao ze zei zen zeng zha zhai zhan zhang zhao zhe zhei zhen zheng zhi zhong zhou zhu zhua
    zhuai zhuan zhuang zhui zhun zhuo zi zong zou zu zuan zui zun zuo
"""

SYLLABLES: tuple[str, ...] = tuple(_TABLE.split())
"""Every toneless syllable, sorted, `v` for ü: those of the single-character table of pypinyin 0.55, which are the
standard ones and what dictionaries know besides (biang, cei, fiao, rua, tei; the interjections hm, hng, m, n, ng).
Its one odd form, ê (诶), is the syllable e here, since nobody can type it."""

TONES: tuple[int, ...] = (1, 2, 3, 4, 5)
"""The four tones, and 5 for the neutral one."""

TONED_SYLLABLES: tuple[str, ...] = tuple(f"{syllable}{tone}" for syllable in SYLLABLES for tone in TONES)
"""Every syllable with every tone: a1 a2 a3 a4 a5 ai1 ..."""

_KEY_TABLE = "b p m f d t n l g k h j q x zh ch sh r z c s y w a o e"

KEYS: tuple[str, ...] = tuple(_KEY_TABLE.split())
"""What may be typed for a syllable that begins with it: `z` stands for zi and zhong, `zh` for zhong alone."""

HANZI_RANGES = "〇\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""The hanzi, as ranges to be put into a regular expression's `[]`."""

LITERAL = "lit:"
"""Before a character that stands for itself."""
SYLLABLE = "syl:"
"""Before a syllable, as in `syl:wo` and `syl:wo3`."""

_HANZI = re.compile(f"[{HANZI_RANGES}]")
_KNOWN = frozenset(SYLLABLES)
_TONE_MARKS = {"\u0304": 1, "\u0301": 2, "\u030c": 3, "\u0300": 4}
_LETTERS_TONE = re.compile(r"([^0-9]+)([0-5])?")
_LATIN = "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0300-\u036f\u1e00-\u1eff\uff21-\uff3a\uff41-\uff5a"
_TYPED = re.compile(rf"(?:[{_LATIN}]|(?<=[nlNL][uU]):(?=[eE](?![{_LATIN}])|[0-5](?!\d)))+(?:[0-5](?!\d))?")
_APOSTROPHES = "'’"
_SURROGATE = re.compile("[\ud800-\udfff]")
_LONGEST_SHOWN = 64
_NOT_BARE = re.compile(rf"[{_LATIN}{HANZI_RANGES}{_APOSTROPHES}]")


class UnknownSyllable(ValueError):  # noqa: N818 (it says what is wrong)
    """A text that is no pinyin syllable; its only argument is that text."""


def is_hanzi(character: str) -> bool:
    """Whether the one character is a Chinese one."""
    return _HANZI.fullmatch(character) is not None


def parse_syllable(text: str) -> tuple[str, int | None]:
    """One syllable as people write it, as (member of `SYLLABLES`, tone or None where none is given).

    Takes `zhong`, `zhong4`, `zhòng`, any case; for ü `v`, `ü`, `u:`, and `u` where nothing else can be meant (lue,
    nue); `jv` for ju; `ê` for e; tone 0 or 5 for the neutral one. Raises `UnknownSyllable` for anything else.
    """
    match = _LETTERS_TONE.fullmatch(unicodedata.normalize("NFKD", text).lower())
    if match is None:
        raise UnknownSyllable(text)
    letters, digit = match.groups()
    tones = [_TONE_MARKS[mark] for mark in letters if mark in _TONE_MARKS]
    if digit is not None:
        tones.append(int(digit) or 5)
    letters = "".join(letter for letter in letters if letter not in _TONE_MARKS)
    letters = letters.replace("u\u0308", "v").replace("u:", "v").replace("e\u0302", "e")
    letters = re.sub("^([jqxy])v", r"\1u", letters)
    letters = re.sub("^([ln])ue$", r"\1ve", letters)
    if letters not in _KNOWN or len(tones) > 1:
        raise UnknownSyllable(text)
    return letters, tones[0] if tones else None


def nearest_syllable(text: str) -> str | None:
    """The syllable that `text` was meant to be: two neighbours swapped, or else the one with the highest ratio of
    common letters (difflib); None where no letter fits.
    """
    letters = re.sub("[^a-z]", "", unicodedata.normalize("NFKD", text).lower())
    for i in range(len(letters) - 1):
        swapped = letters[:i] + letters[i + 1] + letters[i] + letters[i + 2 :]
        if swapped in _KNOWN:
            return swapped
    close = difflib.get_close_matches(letters, SYLLABLES, n=1, cutoff=0.1)
    return close[0] if close else None


def parse_pinyin(text: str, where: str) -> list[str]:
    """A line of pinyin, as one typed token for each character of the sentence that it stands for.

    Syllables are parted by white space or apostrophes: `wo3 xi'an` -> syl:wo3 syl:xi syl:an. What is no Latin letter
    stands for itself, also beside a syllable: `bei jing,2008` -> syl:bei syl:jing lit:, lit:2 lit:0 lit:0 lit:8. A
    single digit 0-5 right behind a syllable is its tone (`wo3`, but `wo 3` and `wo2008` hold literal digits). Letters
    and apostrophes that stand for themselves follow `lit:`, as in `lit:GDP` -> lit:G lit:D lit:P.

    Args:
        text: the line.
        where: its place, for messages, as in `dev.tsv, line 3`.

    Raises:
        UserError: a piece is no syllable (the nearest one is named) or is a hanzi, or the line is empty or no text.
    """
    if _SURROGATE.search(text):
        raise UserError(f"{where}: no UTF-8 text; convert it to UTF-8 first")
    tokens: list[str] = []
    ordinal = 0
    for chunk in text.split():
        if chunk.startswith(LITERAL) and chunk != LITERAL:
            ordinal += 1
            tokens += [LITERAL + character for character in chunk.removeprefix(LITERAL)]
            continue
        for piece in re.split(f"[{_APOSTROPHES}]+", chunk):
            if piece:
                ordinal += 1
                tokens += _parse_piece(piece, f"{where}, piece {ordinal}")
    if not tokens:
        raise UserError(f"{where}: no pinyin here; write syllables parted by blanks, as in: wo ai bei jing")
    return tokens


def format_pinyin(tokens: Iterable[str]) -> str:
    """The inverse of `parse_pinyin`: tokens parted by blanks. Raises `ValueError` for white space as a literal."""
    return " ".join(map(_format_token, tokens))


def _parse_piece(piece: str, where: str) -> list[str]:
    tokens = []
    position = 0
    while position < len(piece):
        typed = _TYPED.match(piece, position)
        if typed is None:
            if is_hanzi(piece[position]):
                raise UserError(f"{where}: pinyin is expected, not the hanzi {piece[position]}; write its syllable")
            tokens.append(LITERAL + piece[position])
            position += 1
            continue
        try:
            syllable, tone = parse_syllable(typed[0])
        except UnknownSyllable:
            raise UserError(f"{where}: {_explain_unknown(typed[0])}") from None
        tokens.append(f"{SYLLABLE}{syllable}{tone or ''}")
        position = typed.end()
    return tokens


def _explain_unknown(text: str) -> str:
    if len(text) > _LONGEST_SHOWN:
        return f'"{text[:_LONGEST_SHOWN]}..." is {len(text)} letters in a row; part the syllables by blanks'
    parted = _part(text.lower())
    if parted is not None:
        return f'"{text}" is more than one syllable; part them by blanks: {" ".join(parted)}'
    nearest = nearest_syllable(text)
    hint = f"the nearest one is {nearest}" if nearest else "write syllables as in: wo ai bei jing"
    return f'"{text}" is no pinyin syllable; {hint} (letters that stand for themselves are written {LITERAL}{text})'


def _part(letters: str) -> list[str] | None:
    """The letters as the fewest syllables, or None where they are no run of syllables."""
    best: list[list[str] | None] = [[]]
    for end in range(1, len(letters) + 1):
        ways = [
            [*before, letters[start:end]]
            for start, before in enumerate(best)
            if before is not None and letters[start:end] in _KNOWN
        ]
        best.append(min(ways, key=len, default=None))
    return best[-1]


def _format_token(token: str) -> str:
    if token.startswith(SYLLABLE):
        return token.removeprefix(SYLLABLE)
    character = token.removeprefix(LITERAL)
    if character.isspace():
        raise ValueError("a blank cannot be written in pinyin notation")
    return token if _NOT_BARE.match(character) else character
