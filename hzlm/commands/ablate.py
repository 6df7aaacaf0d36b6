"""`hzlm ablate`."""

import argparse
from pathlib import Path

SUMMARY = "train a run with one thing changed at a time, and compare; the same command goes on where it was"
EXAMPLES = (
    "hzlm ablate plan.yaml --output runs/ablation",
    "hzlm ablate plan.yaml --output runs/ablation --arm scratch --seed 1",
)

PLAN_EXAMPLE = """\
  base:
    model: {size: small}
    data: {path: runs/data, views: {pinyin: 1}}
    schedule: {scale: 1, warmup_steps: 200}
    train: {steps: 2000, micro_batch_rows: 16}
  arms:
    scratch: [{}]
    pretrained:
      - {data: {views: {masked: 1, pinyin: 1}}, loss: {encoder_weight: 0.5}, train: {steps: 600}}
      - {train: {steps: 1400}}
  reference: scratch
  measures:
    pinyin: {data: runs/data}"""
"""A whole plan in the fewest lines."""

NOTES = f"with this in plan.yaml (every field: tools/ablation/plan.py):\n{PLAN_EXAMPLE}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("plan", type=Path, metavar="PLAN", help="YAML file of the ablation")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="folder of all runs and results")
    parser.add_argument("--arm", nargs="+", action="extend", default=[], metavar="NAME", help="these arms only")
    parser.add_argument("--seed", type=int, metavar="N", help="this seed of the plan only")


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from hzlm.errors import UserError
    from hzlm.stored_files import replacing
    from hzlm.tools.ablation.plan import choose_arms, load_plan
    from hzlm.tools.ablation.run import run_arm
    from hzlm.tools.ablation.table import tabulate
    from hzlm.train.stop import end_at_once

    plan = load_plan(options.plan)
    if options.seed is not None and options.seed not in plan.seeds:
        raise UserError(f"--seed {options.seed}: the seeds of the plan are {', '.join(map(str, plan.seeds))}")
    with end_at_once():
        for arm in choose_arms(plan, options.arm):
            for seed in plan.seeds if options.seed is None else (options.seed,):
                run_arm(plan, arm, seed, options.output)
    table = tabulate(plan, options.output)
    with replacing(options.output / "table.md") as path:
        path.write_text(table + "\n", "utf-8")
    print(table)
