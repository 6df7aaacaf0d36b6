"""What an ablation found, as a table in Markdown."""

from pathlib import Path

from hzlm.errors import UserError
from hzlm.evaluate.bootstrap import paired_interval
from hzlm.evaluate.markdown import escape, format_markdown_table
from hzlm.tools.ablation.plan import Plan
from hzlm.tools.ablation.run import pool, read_results


def tabulate(plan: Plan, output: Path) -> str:
    """Right characters of each arm and measure: of each seed, the mean, and the gain over the reference.

    The gain is that of the seeds which both have, in points, with the 95 % interval of a paired bootstrap over the
    sentences, each drawn with all of these seeds. It says nothing of other seeds: what lies between two seeds of one
    arm does.

    Raises:
        UserError: a result is damaged, or of other sentences than that of the reference.
    """
    parts = []
    for measure in plan.measures:
        reference = read_results(plan, plan.reference, measure, output)
        rows = []
        for arm in plan.arms:
            found = read_results(plan, arm, measure, output)
            if not found:
                continue
            accuracies = [f"{100 * found[seed].accuracy:.2f}" if seed in found else "-" for seed in plan.seeds]
            mean = sum(result.accuracy for result in found.values()) / len(found)
            shared = sorted(found.keys() & reference.keys())
            gain = "-"
            if shared and arm != plan.reference:
                compared = [results[seed] for results in (reference, found) for seed in shared]
                if any(result.counted != compared[0].counted for result in compared):
                    what = f"{output}: {arm} and {plan.reference} were measured on other sentences ({measure})"
                    raise UserError(f"{what}; delete the older results, and measure again")
                theirs, ours = pool(compared[: len(shared)]), pool(compared[len(shared) :])
                interval = paired_interval(theirs.right, ours.right, ours.counted)
                low, high = 100 * interval.low, 100 * interval.high
                gain = f"{100 * interval.difference:+.2f} ({low:+.2f} .. {high:+.2f})"
            rows.append([escape(arm), *accuracies, f"{100 * mean:.2f}", gain])
        if rows:
            headings = ("arm", *(f"seed {seed}" for seed in plan.seeds), "mean", f"gain over {escape(plan.reference)}")
            parts.append(f"## {escape(measure)}: right characters, %\n\n{format_markdown_table(headings, rows)}")
    return "\n\n".join(parts)
