"""Judges an Autobahn report, in one or several parts, and compares it with the recorded result.

A case passes when its behavior and its close behavior are OK or INFORMATIONAL and both are what
the record says. A case that only the report or only the record has fails too: none may go missing
and none may come in unnoticed.
"""

import argparse
import json
import pathlib
import sys

ACCEPTED = {"OK", "INFORMATIONAL"}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recorded", type=pathlib.Path, help="the recorded result")
    parser.add_argument(
        "indices", type=pathlib.Path, nargs="+", help="the index.json of each part of the report"
    )
    parser.add_argument("--record", action="store_true", help="record a report without failures")
    parser.add_argument("--stranger", required=True, help="what conformance/run calls the suite")
    arguments = parser.parse_args()
    how_to_record = f"conformance/run {arguments.stranger} --record"

    report = read_report(arguments.indices)
    failures = unacceptable(report)
    if arguments.record and not failures:
        write_record(arguments.recorded, report)
    elif arguments.record:
        failures["record"] = "not written, because only a report without failures is"
    elif arguments.recorded.exists():
        record = json.loads(arguments.recorded.read_text())
        # A case that is unacceptable in itself is better described by that.
        failures = differences(report, record, how_to_record) | failures
    else:
        failures["record"] = f"{arguments.recorded.name} is absent; write it: {how_to_record}"

    for name in sorted(failures, key=by_number):
        print(f"FAIL {name}: {failures[name]}")
    passed = len(report.keys() - failures.keys())
    print(f"{arguments.stranger}: {passed} passed, {len(failures)} failed")
    sys.exit(1 if failures else 0)


def read_report(indices):
    """Case -> [behavior, behaviorClose], for the one program the report is about."""
    cases = {}
    for index in indices:
        # A part that broke off has none, and its cases are missed.
        if not index.exists():
            continue
        for results in json.loads(index.read_text()).values():
            for case, result in results.items():
                cases[case] = [result["behavior"], result["behaviorClose"]]
    return cases


def unacceptable(report):
    if not report:
        return {"report": "it has no cases; the suite did not get to run any"}
    return {
        case: f"behavior {result[0]}, close {result[1]}"
        for case, result in report.items()
        if not ACCEPTED.issuperset(result)
    }


def differences(report, record, how_to_record):
    failures = {}
    for case in report.keys() | record.keys():
        if case not in report:
            failures[case] = "recorded, but the suite did not run it"
        elif case not in record:
            failures[case] = f"not recorded; if it is meant to be: {how_to_record}"
        elif report[case] != record[case]:
            failures[case] = (
                f"was {record[case]}, is {report[case]}; if it is meant to be: {how_to_record}"
            )
    return failures


def write_record(recorded, report):
    lines = [
        f"  {json.dumps(case)}: {json.dumps(report[case])}"
        for case in sorted(report, key=by_number)
    ]
    recorded.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"recorded {len(report)} cases in {recorded.name}")


def by_number(case):
    """1.2.10 after 1.2.9; anything that is no case number last."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in case.split(".")]


if __name__ == "__main__":
    main()
