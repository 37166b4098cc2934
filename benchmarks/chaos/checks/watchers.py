"""What watchers saw, against what is stored: every message, once, in order, and the end."""

from collections import Counter

from benchmarks.chaos.checks.histories import is_rolled_back, messages_of
from benchmarks.chaos.evidence import Evidence, Sighting
from benchmarks.chaos.findings import Findings
from shared.run import Run


def check_watchers(evidence: Evidence, findings: Findings) -> None:
    """Each watcher of each run."""
    runs = {run.id: run for run in evidence.runs}
    for sighting in evidence.sightings:
        findings.counts["watchers"] += 1
        findings.counts["watched messages"] += len(sighting.ids)
        run = runs.get(sighting.run_id)
        about = f"{sighting.run_id} ({sighting.how}, {sighting.who})"
        if sighting.error is not None:
            findings.report("watcher", about, expected="the run's end", found=sighting.error)
        if run is None:
            continue
        if is_rolled_back(run):
            _check_told(sighting, about, findings)
        else:
            _check_whole(sighting, run, evidence, about, findings)
        if sighting.how == "events" and sighting.error is None and sighting.final != run.status:
            found = str(sighting.final)
            findings.report("watched end", about, expected=run.status.value, found=found)


def _check_whole(
    sighting: Sighting, run: Run, evidence: Evidence, about: str, findings: Findings
) -> None:
    stored = [message.id for message in messages_of(evidence, run)]
    seen = Counter(sighting.ids)
    missed = [each for each in stored if not seen[each]]
    repeated = [each for each, count in seen.items() if count > 1]
    unknown = sorted(seen.keys() - set(stored))
    findings.counts["watched, missed"] += len(missed)
    findings.counts["watched, repeated"] += len(repeated)
    for what, ids in (("missed", missed), ("repeated", repeated), ("not stored", unknown)):
        if ids:
            expected = f"each of {len(stored)} messages once"
            findings.report("watched", about, expected=expected, found=f"{what}: {ids}")
    if not (missed or repeated or unknown) and list(sighting.ids) != stored:
        findings.report("watched", about, expected="the stored order", found=str(sighting.ids))


def _check_told(sighting: Sighting, about: str, findings: Findings) -> None:
    """Of a run that was rolled back a watcher saw some messages, and is told that they are gone."""
    repeated = [each for each, count in Counter(sighting.ids).items() if count > 1]
    if repeated:
        findings.counts["watched, repeated"] += len(repeated)
        findings.report("watched", about, expected="each once", found=f"repeated: {repeated}")
    if sighting.how == "events" and sighting.error is None and not sighting.is_rolled_back:
        expected = "to be told that the messages were removed"
        findings.report("watched", about, expected=expected, found="no word of it")
