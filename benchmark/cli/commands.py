"""The commands of the benchmark, in the order of ``mothr --help``."""

from mothr.benchmark.cli.board import gaps, leaderboard, rescore, score_submissions
from mothr.benchmark.cli.command import Command
from mothr.benchmark.cli.data import describe, verify
from mothr.benchmark.cli.methods import check, predict, run, score, submit
from mothr.benchmark.cli.models import export
from mothr.benchmark.cli.start import list_
from mothr.benchmark.cli.studies import agreement, compare

commands = (
    Command("Start", list_, "list"),
    Command("Data", verify),
    Command("Data", describe),
    Command("Methods", run),
    Command("Methods", predict),
    Command("Methods", score),
    Command("Methods", check),
    Command("Methods", submit),
    Command("Studies", compare),
    Command("Studies", agreement),
    Command("Board", leaderboard),
    Command("Board", rescore),
    Command("Board", gaps),
    Command("Board", score_submissions),
    Command("Own models", export),
)
"""What the entry point ``mothr.commands`` adds to ``mothr``."""
