"""Whose fault a failure is, and what exactly was wrong: three kinds of error, made of findings of named rules."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

SHOWN_FAULTS = 20
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
    """Collects the faults of one reading: the first `MAX_FINDINGS`, and the `total` number of all."""

    def __init__(self) -> None:
        self.kept: list[Finding] = []
        self.total = 0

    def add(self, rule: Rule, where: str, found: str) -> None:
        self.total += 1
        if len(self.kept) < MAX_FINDINGS:
            self.kept.append(rule.finding(where, found))

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
    fault = "infra"
    verdict = "INFRA"
    rule = "evaluator-failure"

    def __init__(
        self, reasons: "str | Finding | Findings | Iterable[str | Finding]", total: int | None = None
    ) -> None:
        if isinstance(reasons, Findings):
            total = reasons.total
            reasons = reasons.kept
        elif isinstance(reasons, str | Finding):
            reasons = [reasons]
        self.findings = [
            reason if isinstance(reason, Finding) else Finding(self.rule, "", reason) for reason in reasons
        ]
        self.total = len(self.findings) if total is None else total
        super().__init__(*self.reasons)

    @property
    def reasons(self) -> list[str]:
        """The findings, one line each."""
        return [str(finding) for finding in self.findings]

    def __str__(self) -> str:
        """The first `SHOWN_FAULTS` reasons, one a line, and how many more there are."""
        lines = self.reasons[:SHOWN_FAULTS]
        hidden = self.total - len(lines)
        return "\n".join(lines + ([f"... and {hidden} more"] if hidden else []))

    def to_json(self) -> dict[str, Any]:
        """What stands in scores.json in place of scores: `verdict`, `fault` (team, organizer, infra), `findings` (the
        first `MAX_FINDINGS`) and their number `findings_total`.
        """
        findings = [finding.to_json() for finding in self.findings[:MAX_FINDINGS]]
        return {
            "verdict": self.verdict,
            "fault": self.fault,
            "findings": findings,
            "findings_total": self.total,
        }


class SubmissionError(EvaluatorError):
    """The submission broke the contract, failed, or ran out of time."""

    exit_code = 1
    fault = "team"
    verdict = "BAD_SUBMISSION"
    rule = "submission-failure"


class OutputError(SubmissionError):
    """The submission ran, and what it wrote breaks the contract."""

    verdict = "BAD_OUTPUT"
    rule = "output-failure"


class DataError(EvaluatorError):
    """The organizer's data, or the way the evaluator was called, is wrong. (argparse ends with 2 as well.)"""

    exit_code = 2
    fault = "organizer"
    verdict = "BAD_DATA"
    rule = "data-failure"


def show(value: object) -> str:
    """An untrusted value as a short piece of one line: its repr, which escapes control characters, cut."""
    if isinstance(value, str):
        value = value[: SHOWN_CHARACTERS + 1]  # the repr of 100 MB is not needed for a line
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."
