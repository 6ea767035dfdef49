"""Scores every published record again and compares the scores with the stored ones, to the last digit. It takes about a minute.

python tests/performance/bench_rescore.py
"""

import argparse
import json
import sys
import time
from pathlib import Path

from mothr.benchmark.board.rescore import rescore


def main() -> None:
    """Prints the number of records, those that differ, and the time; exits with 1 if a record differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    published = Path(__file__).parents[2] / "results"
    parser.add_argument("--results", type=Path, default=published, help="the results folder")
    parser.add_argument("--json", action="store_true", help="print one JSON value")
    arguments = parser.parse_args()
    start = time.process_time()
    results = list(rescore(arguments.results, write=False))
    seconds = time.process_time() - start
    differing = [str(result) for result in results if result.differs or result.fault or not result.scored]
    if arguments.json:
        print(json.dumps({"records": len(results), "differing": differing, "processor_seconds": seconds}))
    else:
        summary = f"{len(results)} records, {len(differing)} differ; {seconds:.0f} s of one processor"
        print("\n".join([*differing, summary]))
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
