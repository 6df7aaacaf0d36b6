"""Whether the streams of a split fit each other and their vocabulary, as far as some blocks of them tell."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from hzlm.data.indexed import IndexedReader
from hzlm.data.indexed_layout import bin_path, idx_path, place_sequences
from hzlm.errors import UserError
from hzlm.vocabulary import Vocabulary

_BLOCK = 1 << 16
_MOST_BLOCKS = 32
"""Of the index that are looked at: all of them up to 2 million sentences, which takes 30 ms, else these, spread over
the file, so that opening takes no longer the more sentences there are."""
_ID_BLOCK = 1 << 12
_MOST_ID_BLOCKS = 16
"""Of the ids that are looked at, which takes 2 ms."""
_REMEDY = "copy it again, or prepare the dataset again; hzlm data check names all that is wrong"


def id_dtype(vocabulary: Vocabulary) -> np.dtype[np.integer]:
    """What the ids of a vocabulary are stored as."""
    return np.dtype("<u2" if vocabulary.size <= 2**16 else "<i4")


def are_targets(hanzi: npt.NDArray[np.integer], vocabulary: Vocabulary) -> npt.NDArray[np.bool_]:
    """Which ids [N] can be hanzi: targets and [UNK]. Returns bool [N]."""
    return (hanzi >= vocabulary.target_start) & (hanzi < vocabulary.size) | (hanzi == vocabulary.unknown_id)


def are_toned(reading: npt.NDArray[np.integer], vocabulary: Vocabulary) -> npt.NDArray[np.bool_]:
    """Which ids [N] are syllables with tone. Returns bool [N]."""
    return (reading >= vocabulary.toned_start) & (reading < vocabulary.key_start)


def are_given(reading: npt.NDArray[np.integer], vocabulary: Vocabulary) -> npt.NDArray[np.bool_]:
    """Which ids [N] can be the source of a pair: targets, [UNK], and syllables with or without tone. bool [N]."""
    is_syllable = (reading >= vocabulary.syllable_start) & (reading < vocabulary.key_start)
    return is_syllable | are_targets(reading, vocabulary)


def check_types(streams: Mapping[str, IndexedReader], vocabulary: Vocabulary) -> None:
    """Raises `UserError` where a stream, by the names of `hzlm.data.dataset.STREAMS`, is not stored as it should be."""
    for stream, reader in streams.items():
        expected = np.dtype(np.uint8) if stream == "marks" else id_dtype(vocabulary)
        if reader.dtype != expected:
            raise UserError(f"{idx_path(reader.prefix)}: holds {reader.dtype} instead of {expected}; {_REMEDY}")


def check_streams(streams: Mapping[str, IndexedReader], vocabulary: Vocabulary, is_pairs: bool) -> None:
    """Looks at the types, and at a bounded number of lengths, offsets and ids.

    Args:
        streams: by the names of `hzlm.data.dataset.STREAMS`, hanzi first.
        vocabulary: that of the ids.
        is_pairs: the readings are given sources.

    Raises:
        UserError: they cannot be the streams of one split; the text names the file.
    """
    check_types(streams, vocabulary)
    hanzi = streams["hanzi"]
    for reader in streams.values():
        if [len(reader), len(reader.numbers)] != [len(hanzi), len(hanzi.numbers)]:
            raise _not_aligned(reader)
    for place in _spread(len(hanzi), _BLOCK, _MOST_BLOCKS):
        _check_index(streams, place)
    for place in _spread(len(hanzi.numbers), _ID_BLOCK, _MOST_ID_BLOCKS):
        _check_ids(streams, vocabulary, is_pairs, place)
    for reader in streams.values():
        reader.release()


def _check_index(streams: Mapping[str, IndexedReader], block: slice) -> None:
    hanzi = streams["hanzi"]
    lengths = hanzi.lengths[block]
    places, _ = place_sequences(lengths, 0, 1)
    for reader in streams.values():
        if not np.array_equal(reader.lengths[block], lengths):
            raise _not_aligned(reader)
        offsets = reader.offsets[block]
        if not np.array_equal(offsets, places * reader.dtype.itemsize + offsets[0]):
            raise UserError(f"{idx_path(reader.prefix)}: its offsets do not follow from its lengths; {_REMEDY}")
        # Where a block begins tells of what lies between the blocks.
        if reader.place(block.start) != hanzi.place(block.start):
            raise _not_aligned(reader)


def _check_ids(streams: Mapping[str, IndexedReader], vocabulary: Vocabulary, is_pairs: bool, block: slice) -> None:
    hanzi, reading = streams["hanzi"].numbers[block], streams["reading"].numbers[block]
    if not are_targets(hanzi, vocabulary).all():
        path = bin_path(streams["hanzi"].prefix)
        raise UserError(f"{path}: holds ids that are no targets of the vocabulary; {_REMEDY}")
    path = bin_path(streams["reading"].prefix)
    if is_pairs:
        if not are_given(reading, vocabulary).all():
            raise UserError(f"{path}: holds ids that no given source has; {_REMEDY}")
    elif not (are_toned(reading, vocabulary) | (reading == hanzi)).all():
        raise UserError(f"{path}: holds ids that are neither syllables nor the character itself; {_REMEDY}")


def _not_aligned(reader: IndexedReader) -> UserError:
    return UserError(f"{idx_path(reader.prefix)}: its lengths are not those of the hanzi; {_REMEDY}")


def _spread(count: int, size: int, most: int) -> list[slice]:
    """Blocks of `size` of `count` things: all of them, or `most`, evenly spread from the first to the last."""
    blocks = -(-count // size)
    chosen = np.unique(np.linspace(0, blocks - 1, min(blocks, most)).astype(np.int64)).tolist()
    return [slice(block * size, min((block + 1) * size, count)) for block in chosen]
