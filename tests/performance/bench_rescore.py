"""Scores every committed record again and compares it with what is stored, to the last digit. Run on demand; takes a minute."""

import argparse
import json
import sys
import time
from pathlib import Path

from mothr.benchmark.board.rescore import rescore


def main() -> None:
    """Prints how many records differ and the time; leaves with 1 where one does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--results", type=Path, default=Path(__file__).parents[2] / "results", help="the folder of results"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON value")
    arguments = parser.parse_args()
    start = time.process_time()
    records = list(rescore(arguments.results, write=False))
    wrong = [str(one) for one in records if one.differs or one.fault or not one.scored]
    found = {"records": len(records), "differing": wrong, "processor_seconds": time.process_time() - start}
    if arguments.json:
        print(json.dumps(found))
    else:
        print(
            "\n".join(
                [
                    *wrong,
                    f"{len(records)} records, {len(wrong)} differ; {found['processor_seconds']:.0f} s of one processor",
                ]
            )
        )
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
