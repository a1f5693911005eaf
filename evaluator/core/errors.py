"""Whose fault a failure is, and what exactly was wrong: three kinds of error, made of findings of named rules."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from evaluator.core import verdict as verdicts

SHOWN_FAULTS = 20
SHOWN_ALIKE = 3
SHOWN_CHARACTERS = 60
MAX_FINDINGS = 1000  # kept of one folder; the rest is counted, so that 10^6 faults cost neither memory nor a huge file


@dataclass(frozen=True)
class Finding:
    """One fault: the rule's stable name, the place, what was found there, what is allowed and how to fix it.

    `where`, `allowed` and `fix` are empty where a fault has none. All texts are of one line.
    """

    rule: str
    where: str
    found: str
    allowed: str = ""
    fix: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.found}" if self.where else self.found
        if self.allowed:
            text += f"; allowed: {self.allowed}"
        return f"{text}; fix: {self.fix} [{self.rule}]" if self.fix else text

    def to_json(self) -> dict[str, str]:
        return {
            "rule": self.rule,
            "where": self.where,
            "found": self.found,
            "allowed": self.allowed,
            "fix": self.fix,
        }


@dataclass(frozen=True)
class Rule:
    """A rule of the contract: its name (kebab-case, stable: programs read it), what it allows, how to obey it."""

    name: str
    allowed: str
    fix: str

    def finding(self, where: str, found: str) -> Finding:
        return Finding(self.name, where, found, self.allowed, self.fix)


class RuleBroken(ValueError):
    """What a check raises that does not know the place: the rule and what was found."""

    def __init__(self, rule: Rule, found: str) -> None:
        self.rule, self.found = rule, found
        super().__init__(f"{found}; allowed: {rule.allowed}")


class Findings:
    """Collects the faults of one reading: the first `MAX_FINDINGS`, and the `total` number of all, and of each rule.

    A rule's first fault is kept even when there are that many: it takes the place of the last one that has others.
    """

    def __init__(self) -> None:
        self.kept: list[Finding] = []
        self.total = 0
        self.by_rule: dict[str, int] = {}

    def add(self, rule: Rule, where: str, found: str) -> None:
        self.total += 1
        self.by_rule[rule.name] = self.by_rule.get(rule.name, 0) + 1
        if len(self.kept) < MAX_FINDINGS:
            self.kept.append(rule.finding(where, found))
        elif self.by_rule[rule.name] == 1:
            self._make_room()
            self.kept.append(rule.finding(where, found))

    def _make_room(self) -> None:
        kept = Counter(finding.rule for finding in self.kept)
        spare = [i for i, finding in enumerate(self.kept) if kept[finding.rule] > 1]
        del self.kept[spare[-1] if spare else -1]

    def add_broken(self, where: str, broken: RuleBroken) -> None:
        self.add(broken.rule, where, broken.found)

    def __bool__(self) -> bool:
        return self.total > 0


class EvaluatorError(Exception):
    """A failure with its reasons. An instance of this very class is the evaluator's own fault.

    A reason is a `Finding`, or one line of text where no rule of the contract applies; it then becomes a finding of
    the class's own `rule`. `total` counts reasons beyond those given.
    """

    exit_code = 3
    row = verdicts.INFRA  # of the table of verdicts
    rule = "evaluator-failure"
    quotes_data = True  # its findings may quote what was read or written after the submission saw the data

    def __init__(self, reasons: "str | Finding | Findings | Iterable[str | Finding]", total: int | None = None) -> None:
        by_rule: dict[str, int] = {}
        if isinstance(reasons, Findings):
            total, by_rule = reasons.total, dict(reasons.by_rule)
            reasons = reasons.kept
        elif isinstance(reasons, str | Finding):
            reasons = [reasons]
        self.findings = [
            reason if isinstance(reason, Finding) else Finding(self.rule, "", reason) for reason in reasons
        ]
        self.total = len(self.findings) if total is None else total
        self._by_rule = by_rule  # how many of each, where more were found than are kept
        self._one_for_all = False  # one finding stands for all of its rule, and says how many
        super().__init__(*self.reasons)

    @property
    def verdict(self) -> str:
        """The verdict's name."""
        return self.row.name

    @property
    def fault(self) -> str | None:
        """Whose fault it is: team, organizer or infra."""
        return self.row.fault

    @property
    def fix(self) -> str:
        """One line for whoever has to act; the findings have their own."""
        return self.row.fix

    @property
    def reasons(self) -> list[str]:
        """The findings, one line each."""
        return [str(finding) for finding in self.findings]

    def __str__(self) -> str:
        """The first `SHOWN_FAULTS` reasons, one a line, and how many more there are. Of a rule that was broken in more
        than `SHOWN_ALIKE` places there is one line, with their number and the first of them.
        """
        alike: dict[str, list[Finding]] = {}
        for finding in self.findings:
            alike.setdefault(finding.rule, []).append(finding)
        lines: list[str] = []
        shown = 0
        for rule, findings in alike.items():
            if len(findings) > SHOWN_ALIKE and all(finding.where for finding in findings[:SHOWN_ALIKE]):
                count = self._by_rule.get(rule, len(findings))
                places = ", ".join(finding.where for finding in findings[:SHOWN_ALIKE])
                lines.append(f"{findings[0]} ({count} of this kind: {places}, ...)")
                shown += count
            else:
                some = findings[: SHOWN_FAULTS - len(lines)]
                lines += map(str, some)
                shown += self._by_rule.get(rule, len(some)) if self._one_for_all else len(some)
            if len(lines) == SHOWN_FAULTS:
                break
        hidden = self.total - shown
        return "\n".join(lines + ([f"... and {hidden} more"] if hidden > 0 else []))

    def to_json(self) -> dict[str, Any]:
        """What stands in scores.json in place of scores: `verdict`, `fault` (team, organizer, infra), `counts` (is it
        one of the team's attempts), `fix` (one line), `findings` (the first `MAX_FINDINGS`) and their number
        `findings_total`.
        """
        findings = [finding.to_json() for finding in self.findings[:MAX_FINDINGS]]
        return self.row.to_json() | {
            "fault": self.fault,
            "fix": self.fix,
            "findings": findings,
            "findings_total": self.total,
        }

    def without_contents(self) -> "EvaluatorError":
        """The same failure for a team that must not see the data: each rule once, and how often it was broken. Places
        and what was found there are left out, as a submission can write what it read into both.
        """
        if not self.quotes_data:
            return self
        by_rule: dict[str, list[Finding]] = {}
        for finding in self.findings:
            by_rule.setdefault(finding.rule, []).append(finding)
        counts = {rule: self._by_rule.get(rule, len(findings)) for rule, findings in by_rule.items()}
        bare = type(self)(
            [
                Finding(rule, "", f"{counts[rule]} of this kind", findings[0].allowed, findings[0].fix)
                for rule, findings in by_rule.items()
            ],
            self.total,
        )
        bare._by_rule, bare._one_for_all = counts, True
        return bare


class SubmissionError(EvaluatorError):
    """The submission broke the contract, failed, or broke a limit."""

    exit_code = 1
    row = verdicts.EXIT
    rule = "submission-failure"


class ArchiveError(SubmissionError):
    """The ZIP cannot be unpacked safely, or breaks a limit."""

    row = verdicts.BAD_ZIP
    rule = "archive-failure"
    quotes_data = False


class MetadataError(SubmissionError):
    """metadata.json is missing or wrong."""

    row = verdicts.BAD_METADATA
    rule = "metadata-failure"
    quotes_data = False


class ImageError(SubmissionError):
    """The image that metadata.json names is not there, or no container can be made of it."""

    row = verdicts.BAD_IMAGE
    rule = "image-failure"
    quotes_data = False


class MemoryLimitError(SubmissionError):
    """The kernel, or the local runner, ended a process for want of memory."""

    row = verdicts.OOM
    rule = "memory-limit"
    quotes_data = False


class TimeLimitError(SubmissionError):
    """The entrypoint ran longer than it may."""

    row = verdicts.TIMEOUT
    rule = "time-limit"
    quotes_data = False


class ExitError(SubmissionError):
    """The entrypoint ended with another code than 0."""

    row = verdicts.EXIT
    rule = "exit-code"
    quotes_data = False

    @property
    def fix(self) -> str:
        """That of the crash where it is a known one."""
        return next((finding.fix for finding in self.findings if finding.fix), self.row.fix)


class DiskLimitError(SubmissionError):
    """The submission filled the space that it may write to."""

    row = verdicts.DISK
    rule = "disk-limit"
    quotes_data = False


class OutputError(SubmissionError):
    """The submission ran, and what it wrote breaks the contract."""

    row = verdicts.BAD_OUTPUT
    rule = "output-failure"


class MetricError(EvaluatorError):
    """A task cannot be scored, by a fault of ours."""

    row = verdicts.METRIC_ERROR
    rule = "metric-failure"


class DataError(EvaluatorError):
    """The organizer's data, or the way the evaluator was called, is wrong. (argparse ends with 2 as well.)"""

    exit_code = 2
    rule = "data-failure"

    @property
    def fault(self) -> str | None:
        return "organizer"

    @property
    def fix(self) -> str:
        return "nothing for the team to do: the organizers correct the data, or how the evaluator was called"


class MetricDataError(DataError):
    """A task cannot be scored, as its data or its configuration is wrong."""

    row = verdicts.METRIC_ERROR
    rule = "metric-failure"


def show(value: object) -> str:
    """An untrusted value as a short piece of one line: its repr, which escapes control characters, cut."""
    if isinstance(value, str):
        value = value[: SHOWN_CHARACTERS + 1]  # the repr of 100 MB is not needed for a line
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."
