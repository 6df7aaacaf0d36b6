"""How jobs on a Slurm cluster are asked for."""

from typing import Annotated

from pydantic import Field, field_validator

from hzlm.settings import Count, Positive, Section, Size

OWN_OPTIONS = ("array", "error", "job-name", "output", "requeue")
"""Options of sbatch that the engine itself needs."""


class SlurmConfig(Section):
    """What jobs on a Slurm cluster look like."""

    partition: str | None = None
    """Partition of the jobs; null: the cluster's default."""
    account: str | None = None
    """Account that the jobs are charged to; null: the user's default."""
    jobs: Annotated[int, Field(gt=0, le=1000)] = 8
    """Jobs at once."""
    cpus: Size = 8
    """CPUs of a job; each does one task at a time."""
    memory: Annotated[str, Field(pattern=r"^[1-9]\d*[MGT]$")] = "32G"
    """Memory of a job, as in 500M or 32G."""
    minutes: Count = 1440
    """Time limit of a job; what it does not reach is done by another."""
    options: dict[str, str | int] = Field(default_factory=dict)
    """Further options of sbatch by their long names, as in `qos: low`; an empty text for those without a value."""
    setup: tuple[str, ...] = ()
    """Shell lines that a job begins with, as in `module load gcc`."""
    poll_seconds: Positive = 5.0
    """Seconds between two looks at the queue."""

    @field_validator("options")
    @classmethod
    def _not_our_own(cls, options: dict[str, str | int]) -> dict[str, str | int]:
        for name in options:
            if name.replace("_", "-").removeprefix("no-") in OWN_OPTIONS:
                raise ValueError(f"{name} is set by hzlm itself; leave it out")
        return options
