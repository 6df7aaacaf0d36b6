"""The shapes that kernels are measured at are those of the configs."""

import pytest
import torch

from hzlm.errors import UserError
from hzlm.tools.bench.kernels.case import Case
from hzlm.tools.bench.kernels.configurations import (
    OPERATIONS,
    TARGETS,
    TOKENS,
    check_operations,
    read_cases,
    read_configurations,
)


def test_every_size_is_there_and_what_tensor_parallelism_makes_of_it() -> None:
    sizes = ["tiny", "small", "base", "large", "xl"]
    assert [one.name for one in read_configurations("layer_norm")] == sizes
    cuts = {one.name: one for one in read_configurations("bias_relu_dropout")}
    assert list(cuts) == [*sizes, *(f"{size}/{count}" for size in ("large", "xl") for count in (2, 4, 8))]
    assert cuts["xl/8"].model.feed_forward_size == 1024
    assert cuts["xl/8"].model.hidden_size == 2048
    heads = {one.name: one.model for one in read_configurations("attention")}
    assert (heads["large/4"].heads, heads["large/4"].hidden_size) == (4, 256)
    classes = {one.name: one.targets for one in read_configurations("cross_entropy")}
    assert (classes["xl"], classes["xl/4"]) == (TARGETS, -(-TARGETS // 4))


def test_the_other_dropout_is_the_one_that_the_config_has_not() -> None:
    base = read_configurations("layer_norm")[2]
    other = base.with_other_dropout().model
    assert (base.model.dropout, base.model.attention_dropout) == (0.1, 0.0)
    assert (other.dropout, other.attention_dropout) == (0.0, 0.1)
    rates = {name: rate for name, rate in base.model if name.endswith("dropout")}
    assert other.model_copy(update=rates) == base.model


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_cases_of_an_operation(operation: str) -> None:
    small = read_configurations(operation)[1]
    cases = small.cases(operation)
    assert {case.direction for case in cases} <= {"forward", "both"}
    assert len({(case.shape, case.direction) for case in cases}) == len(cases)
    for case in cases:
        assert case.operation == operation
        assert 0 < case.cost.least <= case.cost.moved
        assert case.plain_moved > 0
        assert all(
            value.device.type == "meta" for value in case.inputs(torch.device("meta"))
            if isinstance(value, torch.Tensor) and value.is_floating_point()
        )  # fmt: skip


def test_a_case_that_several_configurations_have_is_there_once() -> None:
    found: dict[str, Case] = dict(read_cases(["bias_relu_dropout"]))
    assert "small large/4 xl/8" in found
    assert found["small large/4 xl/8"].shape.startswith(f"{TOKENS} x 1024")


def test_names_of_operations() -> None:
    assert check_operations([]) == list(OPERATIONS)
    assert check_operations(["lamb"]) == ["lamb"]
    with pytest.raises(UserError, match=r"^atention: unknown operation; did you mean attention"):
        check_operations(["atention"])
