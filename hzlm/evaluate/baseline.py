"""The baseline that a model has to beat: every syllable as the hanzi it most often stands for."""

from hzlm.decode.converter import Source
from hzlm.vocabulary import Vocabulary


def most_frequent_hanzi(vocabulary: Vocabulary, source: Source) -> str:
    """The sentence of N characters that looks at each position alone; literals stand for themselves."""
    return "".join(
        literal or vocabulary.decode([vocabulary.candidates(int(token_id))[0]])
        for token_id, literal in zip(source.ids, source.literals, strict=True)
    )
