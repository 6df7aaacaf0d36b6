"""Our files and Megatron-Core's: each program reads what the other wrote."""

import logging
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from merging import merge_indexed

from hzlm.data.indexed import IndexedReader, IndexedWriter

DTYPES = ["uint8", "int8", "int16", "int32", "int64", "float64", "float32", "uint16"]


@pytest.fixture(scope="module")
def megatron() -> ModuleType:
    """`megatron.core.datasets.indexed_dataset`, whose import takes seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(
            "megatron.core.datasets.indexed_dataset", reason="needs megatron-core", exc_type=ImportError
        )


@pytest.fixture(scope="module")
def documents() -> list[list[np.ndarray]]:
    """200 documents of 1 to 5 sequences of 0 to 40 numbers that every dtype holds."""
    generator = np.random.default_rng(5)
    return [
        [generator.integers(0, 128, generator.integers(0, 41)) for _ in range(generator.integers(1, 6))]
        for _ in range(200)
    ]


def write_ours(prefix: Path, dtype: str, documents: list[list[np.ndarray]]) -> None:
    with IndexedWriter(prefix, dtype) as writer:
        for document in documents:
            for sequence in document:
                writer.add(sequence)
            writer.end_document()
        writer.finish()


def write_theirs(
    megatron: ModuleType, prefix: Path, dtype: str, documents: list[list[np.ndarray]], modes: bool
) -> None:
    builder = megatron.IndexedDatasetBuilder(f"{prefix}.bin", dtype=getattr(np, dtype), multimodal=modes)
    for document in documents:
        for mode, sequence in enumerate(document):
            builder.add_item(torch.from_numpy(sequence), mode)
        builder.end_document()
    builder.finalize(f"{prefix}.idx")


@pytest.mark.parametrize("dtype", DTYPES)
def test_megatron_reads_ours(
    megatron: ModuleType, documents: list[list[np.ndarray]], tmp_path: Path, dtype: str
) -> None:
    logging.getLogger(megatron.__name__).setLevel(logging.ERROR)
    write_ours(tmp_path / "x", dtype, documents)
    theirs = megatron.IndexedDataset(str(tmp_path / "x"))
    sequences = [sequence for document in documents for sequence in document]
    assert len(theirs) == len(sequences)
    for i, sequence in enumerate(sequences):
        assert theirs[i].dtype == np.dtype(dtype)
        assert theirs[i].tolist() == sequence.tolist()
    assert np.diff(theirs.document_indices).tolist() == [len(document) for document in documents]


@pytest.mark.parametrize("modes", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_we_read_megatrons(
    megatron: ModuleType, documents: list[list[np.ndarray]], tmp_path: Path, dtype: str, modes: bool
) -> None:
    write_theirs(megatron, tmp_path / "x", dtype, documents, modes)
    ours = IndexedReader(tmp_path / "x")
    ours.verify()
    sequences = [sequence for document in documents for sequence in document]
    assert ours.dtype == np.dtype(dtype)
    assert [ours[i].tolist() for i in range(len(ours))] == [sequence.tolist() for sequence in sequences]
    assert np.diff(ours.documents).tolist() == [len(document) for document in documents]


def test_both_write_the_same_bytes(megatron: ModuleType, documents: list[list[np.ndarray]], tmp_path: Path) -> None:
    write_ours(tmp_path / "ours", "uint16", documents)
    write_theirs(megatron, tmp_path / "theirs", "uint16", documents, modes=False)
    for ending in ("bin", "idx"):
        assert (tmp_path / f"ours.{ending}").read_bytes() == (tmp_path / f"theirs.{ending}").read_bytes()


def test_both_merge_to_the_same_bytes(megatron: ModuleType, documents: list[list[np.ndarray]], tmp_path: Path) -> None:
    write_ours(tmp_path / "a", "uint16", documents[:70])
    write_theirs(megatron, tmp_path / "b", "uint16", documents[70:], modes=False)
    merge_indexed([tmp_path / "a", tmp_path / "b"], tmp_path / "ours")
    builder = megatron.IndexedDatasetBuilder(str(tmp_path / "theirs.bin"), dtype=np.uint16)
    builder.add_index(str(tmp_path / "a"))
    builder.add_index(str(tmp_path / "b"))
    builder.finalize(str(tmp_path / "theirs.idx"))
    for ending in ("bin", "idx"):
        assert (tmp_path / f"ours.{ending}").read_bytes() == (tmp_path / f"theirs.{ending}").read_bytes()
