"""Settings of views and objectives that do not go together, and what is said about them."""

from pathlib import Path

import pytest

from hzlm.config import load_config
from hzlm.errors import UserError

RUN = """
model: {size: tiny}
data: {path: runs/data, views: {masked: 1, pinyin: 3.5}}
schedule: {scale: 1e-3, warmup_steps: 100}
train: {output: runs/first, steps: 200, micro_batch_rows: 8}
"""


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["loss.contrastive_weight=1", "loss.r_drop_weight=1"], "pair the rows in different ways; make one of them 0"),
        (["loss.contrastive_weight=1", "train.micro_batch_rows=3"], "is odd, but loss.contrastive_weight and "),
        (
            ["loss.r_drop_weight=1", "loss.decoder_weight=0", "loss.encoder_weight=1"],
            "make loss.decoder_weight positive",
        ),
        (["loss.r_drop_weight=1", "model.dropout=0"], "loss.r_drop_weight needs passes that differ"),
        (
            ["loss.contrastive_weight=1", "model.dropout=0", "data.views={pinyin: 1}"],
            "loss.contrastive_weight needs views that differ; name another one in data.views",
        ),
        (
            ["sampling.schedule=linear", "loss.decoder_weight=0", "loss.encoder_weight=1"],
            "sampling.schedule needs the decoder's loss",
        ),
        (["data.context=128"], "data.context = 128 leaves no room in data.row_length = 128; make it smaller"),
        (["data.context=32", "model.max_length=64"], "is less than data.row_length = 128, which "),
        (["data.pairs=runs/data"], "data.path and data.pairs both name runs/data; name it once"),
        (["data.fuzzy=[zh-c]"], "data.fuzzy: zh-c: unknown pair; did you mean zh-z?"),
        (["data.wrong={shapes: 1}"], "data.wrong.shapes: unknown kind; did you mean shape?"),
        (["data.views={mixed: 1}", "data.mixed={}"], "data.views has mixed, but data.mixed is empty"),
        (["loss.temperature=0"], "loss.temperature = 0: must be greater than 0"),
        (["data.temperature=0"], "data.temperature = 0: must be greater than or equal to 1"),
    ],
)
def test_what_is_refused(tmp_path: Path, overrides: list[str], message: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(RUN, "utf-8")
    with pytest.raises(UserError) as caught:
        load_config(file, overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "pairing"),
    [
        ([], "none"),
        (["loss.contrastive_weight=0.1", "model.dropout=0"], "views"),
        (["loss.contrastive_weight=0.1", "data.views={pinyin: 1}"], "views"),
        (["loss.contrastive_weight=0.1", "model.dropout=0", "data.views={keys: 1}"], "views"),
        (["loss.r_drop_weight=0.1"], "dropout"),
    ],
)
def test_what_rows_are_paired_by(tmp_path: Path, overrides: list[str], pairing: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(RUN, "utf-8")
    assert load_config(file, overrides).pairing == pairing
