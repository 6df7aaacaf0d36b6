"""The baseline that a model has to beat: every syllable as the hanzi it most often stands for."""

from hzlm.decode.converter import Source
from hzlm.vocabulary import Vocabulary


def most_frequent_hanzi(vocabulary: Vocabulary, source: Source) -> str:
    """The sentence that looks at each position alone; a literal stays itself, and what no hanzi is read as is □."""
    unknown = vocabulary.unknown_id
    answers = [
        next(iter(vocabulary.candidates(token)), unknown) if token != unknown else unknown
        for token in source.ids[source.context :].tolist()
    ]
    texts = vocabulary.texts(answers)
    return "".join(text if literal is None else literal for text, literal in zip(texts, source.literals, strict=True))
