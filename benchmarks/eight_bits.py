"""May a voice say ``allows_int8``? From its two evaluations, in float32 and in int8, on held-out pieces.

    specdiff evaluate VOICE --midi FOLDER --dtype float32 -o wide
    specdiff evaluate VOICE --midi FOLDER --dtype int8 -o narrow
    python benchmarks/eight_bits.py wide/report.json narrow/report.json

Prints a table; ends with 1 where a measure differs by as much as its bound or more.
"""

import argparse
import json
import sys
from pathlib import Path

from specdiff_cli.evaluation.eight_bits import BOUNDS, compare_precisions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs=2, type=Path, metavar="REPORT", help="report.json in float32, and in int8")
    wide, narrow = (json.loads(path.read_text(encoding="utf-8")) for path in parser.parse_args().reports)
    try:
        found = compare_precisions(wide, narrow)
    except ValueError as error:
        sys.exit(str(error))
    print("| | measure | float32 | int8 | less than |\n|---|---|---|---|---|")
    for row in found:
        told = "" if row.is_within else " **no**"
        means = f"{row.in_float32:.4f} | {row.in_int8:.4f}"
        print(f"| {row.label} | {row.measure} | {means} | {BOUNDS[row.measure]:g} apart:{told or ' yes'} |")
    bears = all(row.is_within for row in found)
    print("\nallows_int8 = true" if bears else "\nallows_int8 = false")
    sys.exit(0 if bears else 1)


if __name__ == "__main__":
    main()
