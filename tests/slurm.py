"""A Slurm of our own: two nodes on this machine, on free ports and in a folder of its own."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil

DAEMONS = ("slurmctld", "slurmd", "munged")
NODES = ("n1", "n2")
PARTITION = "work"


def why_not() -> str | None:
    """Why a test cannot have a Slurm here; None where it can."""
    missing = [name for name in (*DAEMONS, "sbatch", "squeue", "scancel") if shutil.which(name) is None]
    if missing:
        return f"no {missing[0]} here; as root: apt-get install slurm-wlm munge"
    return None if os.geteuid() == 0 else "only root can run slurmd as a test needs it"


def free_ports(number: int) -> list[int]:
    """Different ports that nothing listens on."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Slurm:
    """Starts munged, slurmctld and a slurmd for each of `NODES`; kills them, and all jobs, at the end.

    Args:
        cpus: of a node.
    """

    def __init__(self, cpus: int = 2) -> None:
        self._cpus = cpus
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm"))
        """Configuration, state and logs of the daemons."""
        self.environment = {"SLURM_CONF": str(self.folder / "slurm.conf")}
        """What a process needs in its environment to find this Slurm."""
        try:
            self._start_munge()
            self._ports = free_ports(1 + len(NODES))
            (self.folder / "slurm.conf").write_text(self._configuration())
            self._start("slurmctld", "slurmctld", "-D")
            for node in NODES:
                self.start_node(node)
            self._wait_for_nodes()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def call(self, *command: str) -> str:
        """The output of one of Slurm's commands."""
        environment = os.environ | self.environment
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    def wait_until_free(self) -> None:
        """Returns when no job is left."""
        self._wait_until(lambda: self.call("squeue", "--noheader") == "", "jobs are left")

    def start_node(self, node: str) -> None:
        """Starts the slurmd of a node."""
        self._start(node, "slurmd", "-D", "-N", node)

    def kill_node(self, node: str) -> None:
        """The node is gone at once, as if its power had failed: with everything that runs on it."""
        processes = self._processes_of(node)
        self._daemons[node].kill()
        self._daemons[node].wait()
        for process in processes:
            kill(process)

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(64))
        key.chmod(0o600)
        self.folder.chmod(0o755)  # munged wants a socket that everyone reaches
        options = {"key-file": "munge.key", "socket": "munge", "pid-file": "munge.pid", "seed-file": "munge.seed"}
        self._start("munged", "munged", "--foreground", *(f"--{n}={self.folder / f}" for n, f in options.items()))
        self._wait_until(lambda: (self.folder / "munge").is_socket(), "munged does not start")

    def _start(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.out").open("ab") as log:
            environment = os.environ | self.environment
            self._daemons[name] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def _configuration(self) -> str:
        host = socket.gethostname().partition(".")[0]
        controller, *ports = self._ports
        lines = [
            "ClusterName=test",
            f"SlurmctldHost={host}(127.0.0.1)",
            "SlurmUser=root",
            "SlurmdUser=root",
            "AuthType=auth/munge",
            # credentials that live for the default of 120 s hold back every requeue
            f"AuthInfo=socket={self.folder}/munge,cred_expire=10",
            f"StateSaveLocation={self.folder}/state",
            f"SlurmdSpoolDir={self.folder}/spool_%n",
            f"SlurmctldPidFile={self.folder}/slurmctld.pid",
            f"SlurmdPidFile={self.folder}/%n.pid",
            f"SlurmctldLogFile={self.folder}/slurmctld.log",
            f"SlurmdLogFile={self.folder}/%n.log",
            f"SlurmctldPort={controller}",
            "ProctrackType=proctrack/pgid",
            "TaskPlugin=task/none",
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_Core",
            "SchedulerParameters=sched_min_interval=10000,batch_sched_delay=1,sched_interval=1",
            "ReturnToService=2",
            "MpiDefault=none",
            "SlurmdParameters=config_overrides",
            "SlurmdTimeout=5",
            "KillWait=2",
            "MinJobAge=5",
        ]
        for node, port in zip(NODES, ports, strict=True):
            lines.append(
                f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={self._cpus} RealMemory=8000"
            )
        lines.append(f"PartitionName={PARTITION} Nodes={','.join(NODES)} Default=YES MaxTime=INFINITE State=UP")
        return "\n".join(lines) + "\n"

    def _wait_for_nodes(self) -> None:
        def idle() -> bool:
            command = ["sinfo", "--noheader", "--format=%T %D"]
            answer = subprocess.run(command, env=os.environ | self.environment, capture_output=True, text=True)
            return answer.stdout.split() == ["idle", str(len(NODES))]

        self._wait_until(idle, "the nodes do not come up")

    def _wait_until(self, reached: Callable[[], bool], problem: str, seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while not reached():
            if time.monotonic() > end:
                logs = "\n".join(f"{path.name}: {path.read_text()[-1000:]}" for path in self.folder.glob("*.out"))
                raise AssertionError(f"{problem}\n{logs}")
            time.sleep(0.1)

    def _processes_of(self, node: str) -> list[psutil.Process]:
        """The steps of jobs on a node, known by its log, and what they started, known by the environment."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.name() == "slurmstepd":
                    here = str(self.folder / f"{node}.log") in (file.path for file in process.open_files())
                else:
                    environment = process.environ()
                    here = self.environment.items() | {("SLURMD_NODENAME", node)} <= environment.items()
                if here:
                    found.append(process)
        return found

    def _stop(self) -> None:
        for daemon in self._daemons.values():
            daemon.kill()
            daemon.wait()
        for process in [process for node in NODES for process in self._processes_of(node)]:
            kill(process)
        shutil.rmtree(self.folder, ignore_errors=True)


def kill(process: psutil.Process) -> None:
    """SIGKILL, to a process that may have ended by itself."""
    with suppress(psutil.NoSuchProcess):
        process.kill()
