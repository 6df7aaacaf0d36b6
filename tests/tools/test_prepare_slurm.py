"""`hzlm prepare --on slurm` on a real Slurm of two nodes, with a job that is killed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hzlm.tools.prepare import prepare
from hzlm.tools.stages.config import load_prepare_config
from hzlm.tools.stages.read import CHUNK_CHARACTERS
from inline import InlineEngine
from slurm import NODES, PARTITION, Slurm, why_not

PLACES = [f"{city}{kind}" for city in ("北京", "上海", "重庆", "长安") for kind in ("车站", "公园", "学校", "银行")]
THINGS = ("门口", "后面", "里面")
DOCUMENTS = [f"我在{place}的{thing}等你。你也在{thing}等他吗？" for place in PLACES for thing in THINGS]
KEEP_ALL = ("duplicates.exact=false", "filter.most_repeated_ngrams=1.0", "filter.most_repeated_lines=1.0")
SETTINGS = ("vocabulary.gb2312=false", "sentences.duplicates=true", "duplicates.near=false", *KEEP_ALL)
REASON = why_not()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Enough for six chunks."""
    text = "\n\n".join(DOCUMENTS)
    path = tmp_path / "corpus.txt"
    path.write_text("\n\n".join([text] * (6 * CHUNK_CHARACTERS // len(text))), "utf-8")
    return path


@pytest.fixture
def slurm() -> Iterator[Slurm]:
    """Two nodes of one CPU."""
    with Slurm(cpus=1) as slurm:
        yield slurm
        slurm.wait_until_free()


def kill_first_job(slurm: Slurm, stage: str, run: "subprocess.Popen[str]") -> str:
    """Kills the processes of the first job of a stage that runs; its number."""
    while run.poll() is None:
        for line in slurm.call("squeue", "--noheader", "--array", "--states=RUNNING", "--format=%i %j").splitlines():
            job, name = line.split()
            if name.startswith(f"hzlm-{stage}-"):
                slurm.call("scancel", "--full", "--signal=KILL", job)
                return job
        time.sleep(0.05)
    raise AssertionError(f"no job of the stage {stage} was seen")


@pytest.mark.slow
@pytest.mark.skipif(REASON is not None, reason=str(REASON))
def test_the_same_dataset_as_on_one_machine_though_a_job_is_killed(slurm: Slurm, corpus: Path, tmp_path: Path) -> None:
    prepare([corpus], tmp_path / "here", load_prepare_config(None, SETTINGS), InlineEngine())
    output = tmp_path / "there"
    jobs = ("slurm.jobs=2", "slurm.cpus=1", "slurm.memory=1G", "slurm.minutes=5", "slurm.poll_seconds=0.2")
    command = [sys.executable, "-m", "hzlm.cli", "prepare", str(corpus), "--output", str(output), "--keep-work"]
    command += ["--on", "slurm", "--set", *SETTINGS, f"slurm.partition={PARTITION}", *jobs]
    log = tmp_path / "log.txt"
    with log.open("w") as file, subprocess.Popen(command, env=os.environ | slurm.environment, stderr=file) as run:
        killed = kill_first_job(slurm, "annotate", run)
    assert run.returncode == 0, log.read_text()
    assert f"annotate: Slurm job {killed} was killed" in log.read_text()
    folders = (tmp_path / "here", output)
    here, there = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert there.keys() == here.keys()
    assert {name for name in here if here[name] != there[name]} == {"report.json", "prepare.yaml"}
    assert json.loads(there["report.json"])["kept"] == json.loads(here["report.json"])["kept"]
    used = slurm.call("squeue", "--states=all", "--noheader", "--format=%N")
    assert set(NODES) <= set(used.split())
