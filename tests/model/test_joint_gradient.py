"""The gradient of all parts of the loss together, against finite differences on a tiny model."""

import pytest
import torch

from hzlm.config import LossConfig, ModelConfig
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.model.losses import TrainingLoss

IDS, TARGET_START, LENGTH = 13, 5, 6
PARTS = [
    pytest.param({"encoder_weight": 0.5, "contrastive_weight": 0.8, "temperature": 0.3}, id="pretraining"),
    pytest.param({"encoder_weight": 0.3, "r_drop_weight": 0.7, "label_smoothing": 0.1}, id="R-Drop"),
]


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("parts", PARTS)
def test_the_slope_of_the_loss_along_a_direction(parts: dict[str, float], aligned: bool) -> None:
    config = ModelConfig(
        hidden_size=8, heads=2, feed_forward_size=12, encoder_layers=1, decoder_layers=1, max_length=LENGTH,
        dropout=0.0, aligned=aligned,
    )  # fmt: skip
    model = EncoderDecoder(config, IDS, TARGET_START).initialize(1).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    segments = torch.tensor([[1, 1, 1, 2, 2, 0]] * 2 + [[1, 1, 2, 2, 2, 2]] * 2, dtype=torch.int32)
    positions = torch.tensor([[0, 1, 2, 0, 1, 0]] * 2 + [[0, 1, 0, 1, 2, 3]] * 2)
    sentences = torch.tensor([[3, 3, 3, 5, 5, 0]] * 2 + [[0, 7, 9, 9, 9, 9]] * 2)
    tokens = torch.randint(0, IDS, (2, 4, LENGTH), generator=generator)
    targets = torch.randint(TARGET_START, IDS, (2, LENGTH), generator=generator).repeat_interleave(2, 0)
    weights = (torch.rand(2, 2, LENGTH, generator=generator, dtype=torch.float64)).repeat_interleave(2, 1)
    weights *= sentences > 0
    loss = TrainingLoss(LossConfig.model_validate(parts), IDS, TARGET_START)

    def value() -> torch.Tensor:
        hidden = model((tokens, positions, segments))
        return loss(hidden, (targets, weights, segments, sentences))

    value().backward()
    directions = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in model.parameters()]
    slope = sum(float((p.grad * d).sum()) for p, d in zip(model.parameters(), directions, strict=True))
    step = 1e-5

    def moved(by: float) -> float:
        with torch.no_grad():
            for parameter, direction in zip(model.parameters(), directions, strict=True):
                parameter += by * direction
            found = value().item()
            for parameter, direction in zip(model.parameters(), directions, strict=True):
                parameter -= by * direction
        return found

    assert slope == pytest.approx((moved(step) - moved(-step)) / (2 * step), rel=1e-6)
    assert {name: part.loss > 0 for name, part in loss.take().items()} == dict.fromkeys(loss.factors, True)
