"""What the two guides hold: their blocks, their fields, and a tiny corpus to run them on."""

import json
import re
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GUIDES = ("guide.md", "guide.zh.md")

WHO = ["我们", "老师", "朋友", "妈妈", "医生", "他们", "学生", "王先生"]
WHEN = ["昨天", "今天早上", "上个星期", "去年冬天", "每天晚上", "明天下午"]
WHERE = ["北京", "上海", "图书馆", "学校", "公园", "火车站", "银行", "医院"]
DID = ["看见了朋友", "买了三本书", "喝茶聊天", "认真读书", "开会", "写信", "等了很久", "唱歌跳舞"]
# hanzi -> one of the same sound
ERRORS = {"京": "经", "在": "再", "生": "声", "书": "输", "学": "雪", "公": "工", "他": "她", "年": "粘"}


@dataclass(frozen=True)
class Block:
    """A fenced block of a guide."""

    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The name that its first line gives it, as in `# run.yaml`."""
        found = re.match(r"# ([\w.]+)\n", self.text)
        return found[1] if found else None


def read_blocks(guide: str) -> list[Block]:
    """The fenced blocks of a page of docs/, in order."""
    text = (DOCS / guide).read_text("utf-8")
    return [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]


def read_prose(guide: str) -> str:
    """A page of docs/ without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", (DOCS / guide).read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def make_sentences() -> list[str]:
    """Distinct sentences, in an order of chance."""
    sentences = [f"{who}{when}在{where}{did}。" for who, when, where, did in product(WHO, WHEN, WHERE, DID)]
    return [sentences[place] for place in np.random.default_rng(0).permutation(len(sentences))]


def write_corpus(folder: Path) -> None:
    """The files that the guides ask their readers for: 400 sentences in four formats, and what is measured on."""
    sentences = make_sentences()
    documents = ["".join(sentences[start : start + 4]) for start in range(0, 400, 4)]
    corpus = folder / "corpus"
    corpus.mkdir()
    (corpus / "news.txt").write_text("\n".join(documents[:50]), "utf-8")
    records = (json.dumps({"text": text}, ensure_ascii=False) for text in documents[50:90])
    (corpus / "crawl.jsonl").write_text("\n".join(records), "utf-8")
    paragraphs = "".join(f"<p>{text}</p>" for text in documents[90:95])
    page = f"<html><head><meta charset='utf-8'></head><body><article>{paragraphs}</article></body></html>"
    (corpus / "page.html").write_text(page, "utf-8")
    (corpus / "crawl.warc").write_bytes(_write_warc(page.replace(paragraphs, f"<p>{''.join(documents[95:])}</p>")))
    right = sentences[400:500]
    wrong = ["".join(ERRORS.get(character, character) for character in sentence) for sentence in right]
    pairs = [f"{one}\t{other}" for one, other in zip(wrong, right, strict=True)]
    _write_lines(folder / "errors.tsv", pairs)
    _write_lines(folder / "spelling.tsv", [f"{number}\t{pair}" for number, pair in enumerate(pairs[:6])])
    _write_lines(folder / "speech.tsv", ["1\two3 men5 zai4 bei3 jing1\t我们在北京", "2\tlao3 shi1 kai1 hui4\t老师开会"])
    _write_lines(folder / "pinyin.txt", ["wo men zai xue xiao", "", "ta men du shu。"])
    _write_lines(folder / "text.txt", ["我们再北经。", "", "他们读书。"])


def _write_warc(page: str) -> bytes:
    body = page.encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + body
    head = f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://example.org/\r\nContent-Length: {len(answer)}"
    rest = "Content-Type: application/http; msgtype=response\r\nWARC-Record-ID: <urn:uuid:1>"
    return f"{head}\r\n{rest}\r\n\r\n".encode() + answer + b"\r\n\r\n"


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
