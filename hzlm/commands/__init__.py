"""The commands of `hzlm`, one a file.

Each has SUMMARY, EXAMPLES, `add_arguments(parser)` and `run(options)`, and may have NOTES for the end of its help.
What a command works with is imported when it runs, so that `--help` is quick and converting needs no extra of the
package.
"""
