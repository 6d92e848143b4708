"""Runs one process, and says what it took.

Import nothing large here: a child's peak memory is never less than what its parent has at the time of the fork.
"""

import json
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass, field


@dataclass
class Run:
    wall: float
    cpu: float
    rss_mb: float
    size_mb: float = 0.0
    said: dict = field(default_factory=dict)


class Failed(Exception):
    pass


def run(command, env, cpus):
    """Runs a command on these processors; what it prints on its standard output is a JSON document, or nothing."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        start = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command],
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            preexec_fn=lambda: os.sched_setaffinity(0, cpus),
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            stderr.seek(0)
            text = stderr.read().decode(errors="replace").strip()
            raise Failed(f"exit code {process.returncode}: {text[-2_000:]}")
        stdout.seek(0)
        text = stdout.read().decode().strip()
    return Run(
        wall=wall,
        cpu=usage.ru_utime + usage.ru_stime,
        rss_mb=usage.ru_maxrss * 1024 / 1e6,
        said=json.loads(text) if text else {},
    )


def two_cpus():
    """The two processors that everything is measured on."""
    return set(sorted(os.sched_getaffinity(0))[:2])
