"""Medians and ratios, as Markdown and as JSON."""

import json
from dataclasses import asdict
from statistics import median

FIGURES = ("wall", "cpu", "rss_mb", "size_mb")


def pairs_of(runs, ours, peer):
    """Each pair as it was measured."""
    return [{"ours": asdict(a), "peer": asdict(b)} for a, b in zip(runs[ours], runs[peer])]


def summary(pairs):
    """Medians of both, and of the ratios within the pairs."""
    medians = {side: {f: median(pair[side][f] for pair in pairs) for f in FIGURES} for side in ("ours", "peer")}
    ratios = {
        f: median(pair["ours"][f] / pair["peer"][f] for pair in pairs) for f in FIGURES if medians["peer"][f] > 0
    }
    return {**medians, "ratio": ratios}


def write(results, home):
    """Writes both files; returns the Markdown."""
    for case in results["cases"]:
        for peer in case["peers"]:
            if "pairs" in peer:
                peer["summary"] = summary(peer["pairs"])
    (home / "results.json").write_text(json.dumps(results, indent=1))
    text = markdown(results)
    (home / "results.md").write_text(text)
    return text


def markdown(results):
    kind = "quick run, an eighth of the rows" if results["quick"] else "full run"
    lines = [
        f"{kind}; {results['pairs']} pairs; load before {results['load_before'][0]:.1f}",
        "",
        "Ratios are ours / theirs, medians over pairs run in turn: below 1 ours takes less.",
    ]
    for case in results["cases"]:
        lines += case_table(case)
    lines += size_table(results["cases"])
    lines += memory_table(results.get("memory", []))
    lines += start_table(results.get("starts", {}))
    return "\n".join(lines) + "\n"


def case_table(case):
    lines = [
        "",
        f"## {case['name']}",
        "",
        f"{case['about']}: {case['files']} files, {case['rows']:,} rows, {case['input_mb']:.0f} MB",
        "",
        "| | wall s | CPU s | peak MB | output MB | ratio wall | CPU | peak | output | |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    measured = [peer for peer in case["peers"] if "summary" in peer]
    if measured:
        every = [pair["ours"] for peer in measured for pair in peer["pairs"]]
        ours = {figure: median(run[figure] for run in every) for figure in FIGURES}
        lines.append(f"| **ours** | {figures(ours)} | | | | | {remark(case, 'ours', {})} |")
    for peer in case["peers"]:
        if "failed" in peer:
            lines.append(f"| {peer['name']} | | | | | | | | | failed: {peer['failed'].splitlines()[-1][:120]} |")
            continue
        found = peer["summary"]
        ratios = " | ".join(f"{found['ratio'].get(figure, float('nan')):.2f}" for figure in FIGURES)
        said = peer["pairs"][0]["peer"]["said"]
        note = remark(case, peer["name"], said)
        lines.append(f"| {peer['name']} | {figures(found['peer'])} | {ratios} | {note} |")
    return lines


def figures(found):
    wall, cpu, rss, size = (found[figure] for figure in FIGURES)
    return f"{wall:.2f} | {cpu:.2f} | {rss:.0f} | {size:.1f}"


def remark(case, engine, said):
    notes = []
    checked = case["checks"].get(engine, {})
    if checked:
        notes.append(f"WRONG: {', '.join(checked['wrong'])}" if checked["wrong"] else "checked")
    if said.get("sorts") is False or engine == "copy":
        notes.append("does not sort")
    if said.get("merges") is False:
        notes.append("plan holds a full sort")
    return ", ".join(notes)


def size_table(cases):
    """Whether time and memory grow with the rows as they should: linearly, and not at all."""
    lines = []
    for case in cases:
        measured = [peer for peer in case["peers"] if "summary" in peer]
        if case["name"].startswith("size-") and measured:
            found = measured[0]["summary"]
            per_row = 1e6 / case["rows"]
            lines.append(
                f"| {case['name']} | {case['rows']:,} | {found['ours']['wall'] * per_row:.2f} "
                f"| {found['ours']['cpu'] * per_row:.2f} | {found['ours']['rss_mb']:.0f} "
                f"| {found['peer']['cpu'] * per_row:.2f} | {found['peer']['rss_mb']:.0f} |"
            )
    head = [
        "",
        "## size",
        "",
        "| | rows | wall µs/row | CPU µs/row | peak MB | CPU µs/row, datafusion-merge | its peak MB |",
        "|---|---|---|---|---|---|---|",
    ]
    return head + lines if lines else []


def memory_table(rows):
    if not rows:
        return []
    lines = [
        "",
        "## memory",
        "",
        "Peak memory of our whole process, against the budget and 64 MiB for the program.",
        "",
        "| overlapping inputs | budget MiB | allocator | counted MB | peak MB | limit MB | within | wall s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        within = "yes" if row["rss_mb"] <= row["limit_mb"] else "**no**"
        lines.append(
            f"| {row['streams']} | {row['budget_mib']} | {row['malloc']} | {row['counted_mb']:.0f} "
            f"| {row['rss_mb']:.0f} | {row['limit_mb']:.0f} | {within} | {row['wall']:.2f} |"
        )
    return lines


def start_table(starts):
    if not starts:
        return []
    lines = [
        "",
        "## start",
        "",
        "What a process takes before it does anything; part of all figures above.",
        "",
        "| | wall s | CPU s | peak MB |",
        "|---|---|---|---|",
    ]
    for name, start in starts.items():
        lines.append(f"| {name} | {start['wall']:.2f} | {start['cpu']:.2f} | {start['rss_mb']:.0f} |")
    return lines
