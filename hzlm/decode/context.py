"""What stands before the caret, as a model takes it."""

from hzlm.decode.sentences import split_sentences
from hzlm.vocabulary import Vocabulary


def encode_context(text: str, room: int, vocabulary: Vocabulary, begun_alone: bool) -> tuple[list[int], int]:
    """The ids of the end of a context, and how many of them belong to a sentence that goes on.

    As in training there is no white space between sentences. No character is cut that stands at several positions.

    Args:
        text: the context.
        room: most ids.
        vocabulary: of the model.
        begun_alone: leave the ended sentences out.
    """
    ended, going_on = split_sentences(text)
    ids: list[int] = vocabulary.encode(going_on.lstrip()).tolist()
    parts = vocabulary.cut(going_on.lstrip())
    begun = len(ids)
    while ended and not begun_alone and len(ids) < room:
        sentence = ended.pop().strip()
        ids[:0] = vocabulary.encode(sentence).tolist()
        parts[:0] = vocabulary.cut(sentence)
    start = max(0, len(ids) - room)
    while 0 < start < len(ids) and parts[start - 1] == "":
        start += 1
    return ids[start:], min(len(ids) - start, begun)
