"""What was found, and where the files of a table are."""

import pathlib
import re

SCHEME = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]*:/")


class Report:
    """Findings of one table, each once and in the order in which they were found.

    `foreign` waives the rules that other writers are known to break without harm to readers. `mapping` translates
    prefixes of locations to local paths, as {"s3://bucket/": "/tmp/bucket/"}.
    """

    def __init__(self, foreign=False, mapping=None):
        self.foreign = foreign
        self.mapping = {"file:///": "/", "file:/": "/", **(mapping or {})}
        self.findings = []

    def add(self, where, message):
        finding = f"{where}: {message}"[:500]
        if finding not in self.findings:
            self.findings.append(finding)

    def check(self, holds, where, message):
        if not holds:
            self.add(where, message)
        return bool(holds)

    def strict(self, holds, where, message):
        """A rule that is waived for tables of others."""
        return self.foreign or self.check(holds, where, message)

    def local(self, location, where):
        """The existing local file at a location, or None after a finding."""
        if not isinstance(location, str) or not SCHEME.match(location):
            self.add(where, f"location without a scheme: {location!r}")
            path = pathlib.Path(str(location))
            return path if path.is_absolute() and path.is_file() else None
        for prefix in sorted(self.mapping, key=len, reverse=True):
            if location.startswith(prefix):
                path = pathlib.Path(self.mapping[prefix] + location[len(prefix) :])
                return path if self.check(path.is_file(), where, f"does not exist: {location}") else None
        self.add(where, f"no local path is known for {location}")
        return None
