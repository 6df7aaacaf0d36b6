"""Ranks that do something together or not at all."""

import errno
import threading

import pytest
from fake_engine import play_ranks

from hzlm.errors import UserError
from hzlm.parallel.mesh import ALONE, Mesh
from hzlm.train.agreement import on_every_rank, on_first_rank


def test_all_know_what_every_rank_found() -> None:
    assert play_ranks(1, 3, 1, lambda mesh: on_every_rank(lambda: mesh.data.index**2, mesh.world)) == [[0, 1, 4]] * 3
    assert on_every_rank(lambda: 7, ALONE.world) == [7]


def test_the_first_rank_alone_acts() -> None:
    ran = []

    def act() -> str:
        ran.append(threading.current_thread())
        return "done"

    assert play_ranks(2, 1, 2, lambda mesh: on_first_rank(act, mesh.world)) == ["done"] * 4
    assert len(ran) == 1
    assert on_first_rank(lambda: None, ALONE.world) is None


@pytest.mark.parametrize(
    ("error", "elsewhere"),
    [
        (UserError("f: damaged"), UserError("rank 1: f: damaged")),
        (OSError(errno.ENOSPC, "no room", "f"), OSError(errno.ENOSPC, "no room on rank 1", "f")),
        (OSError("odd"), RuntimeError("rank 1 failed: OSError: odd")),
        (KeyError("x"), RuntimeError("rank 1 failed: KeyError: 'x'")),
    ],
)
def test_an_error_is_raised_on_all(error: Exception, elsewhere: Exception) -> None:
    def act(mesh: Mesh) -> None:
        if mesh.world.index > 0:
            raise error if mesh.world.index == 1 else ValueError("a later rank's")

    first, second, third, fourth = play_ranks(2, 2, 1, lambda mesh: on_every_rank(lambda: act(mesh), mesh.world))
    assert second is error
    assert type(third) is type(fourth) is ValueError
    assert type(first) is type(elsewhere)
    assert str(first) == str(elsewhere)
    if isinstance(first, OSError) and isinstance(elsewhere, OSError):
        assert (first.errno, first.filename) == (elsewhere.errno, elsewhere.filename)


def test_a_process_on_its_own_raises_what_it_met() -> None:
    with pytest.raises(KeyError, match="x"):
        on_first_rank(lambda: {}["x"], ALONE.world)
