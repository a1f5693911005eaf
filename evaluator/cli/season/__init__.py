"""A season: its teams, their submissions, the queue of runs, boards, choices, prizes and pages.

The library is imported when a command is called, as it needs packages that other commands do without.
"""

import typer

from evaluator.cli.season import boards, changing, queue, rescore, rules, submissions, teams

__all__ = ["app", "rescore"]  # whose command is one of the group of rules

app = typer.Typer()
for group in (rules.app, teams.app, submissions.app, queue.app, boards.app, changing.app):
    app.add_typer(group)
