"""Checks Iceberg tables on local disk, from the bytes and strictly, against the specification (versions 2 and 3).

    iceberg_lint.py [--foreign] [--map PREFIX=PATH]... TABLE...

A TABLE is a table's directory or one of its metadata files. Of a directory the newest metadata file is taken:
`v{N}.metadata.json` with the highest N, else `{N}-{uuid}.metadata.json` with the highest N. Prints a line for each
finding; the exit code is 0 without any, else 1. Needs fastavro and pyarrow, and no Iceberg library.

    from iceberg_lint import lint
    assert lint("/tmp/table") == []

--foreign waives what tables of other writers do against the text of the specification without harm to readers, and
what is only our own rule:
  * a manifest header without schema-id, or with a schema without its schema-id (PyIceberg);
  * the items of equality_ids are long; unknown or renamed fields in Avro schemas (PyIceberg, older Java);
  * manifest lists without a header; `day` partition values typed as plain int, which the specification's text says;
  * no sort order 0; a snapshot-log that names expired snapshots; parents that were expired; a last-sequence-number or
    next-row-id above the snapshots';
  * added files with explicit file sequence numbers;
  * bounds of columns without values, and bounds of numbers that are not tight;
  * summaries without totals.

Not looked into: encryption, the rows of delete files and deletion vectors, data files that are not Parquet, geometry,
variant, and the contents of statistics files. Files that only an expired or earlier snapshot deleted are not read.
"""

import argparse
import pathlib
import re
import sys
import traceback

from iceberg_rules.files import lint_data_file
from iceberg_rules.manifests import Tree
from iceberg_rules.metadata import lint_metadata
from iceberg_rules.report import Report


def lint(path, foreign=False, mapping=None):
    """The findings for a table's directory or metadata file, none for one that is as specified."""
    report = Report(foreign, mapping)
    try:
        lint_table(path, report)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        report.add(path, f"is beyond the linter: {error!r} at {pathlib.Path(last.filename).name}:{last.lineno}")
    return report.findings


def lint_table(path, report):
    metadata = find_metadata(pathlib.Path(path), report)
    if metadata:
        table = lint_metadata(metadata, report)
        if table.usable:
            tree = Tree(table, report)
            tree.lint()
            files = {}
            for live in tree.live.values():
                files.update({key: entry for key, entry in live.items() if entry.content == 0})
            for entry in files.values():
                lint_data_file(table, entry, report)


def find_metadata(path, report):
    """The newest metadata file of a table."""
    if path.is_file():
        return path
    directory = path / "metadata"
    versions = {}
    for file in sorted(directory.glob("*.metadata.json")) if directory.is_dir() else []:
        if found := re.match(r"^(v?)(\d+)[.-].*metadata\.json$", file.name):
            versions[(found[1], int(found[2]))] = file
    if not report.check(versions, path.name, "has no metadata file"):
        return None
    newest = max(versions)
    hint = directory / "version-hint.text"
    if newest[0] == "v":
        numbers = sorted(number for scheme, number in versions if scheme == "v")
        report.check(numbers == list(range(numbers[0], newest[1] + 1)), path.name, f"versions have gaps: {numbers}")
    if hint.exists():
        text = hint.read_text().strip()
        report.check(
            text.isdigit() and int(text) <= newest[1],
            path.name,
            f"version-hint.text is {text!r}, the newest version {newest[1]}",
        )
    return versions[newest]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--foreign", action="store_true", help="waive rules that other writers break")
    parser.add_argument("--map", action="append", default=[], metavar="PREFIX=PATH", help="where locations are on disk")
    parser.add_argument("tables", nargs="+", metavar="TABLE")
    args = parser.parse_args()
    found = 0
    for table in args.tables:
        findings = lint(table, args.foreign, dict(entry.split("=", 1) for entry in args.map))
        for finding in findings:
            print(f"{table}: {finding}")
        print(f"{'FAIL' if findings else 'ok  '}  {table}: {len(findings)} findings", flush=True)
        found += len(findings)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
