"""Whose fault a failure is, and what exactly was wrong: errors with a verdict, made of findings of named rules."""

import difflib
import os
import traceback
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evaluator.core.verdict import DATA_ERROR, INFRA, Verdict

SHOWN_FAULTS = 20
SHOWN_ALIKE = 3
SHOWN_CHARACTERS = 60
_LIKE = 0.65  # of difflib's ratio: how much a name must be like the one that was meant
_ROOT = Path(__file__).resolve().parents[2]
MAX_FINDINGS = 1000  # kept of one folder; the rest is counted, so that 10^6 faults cost neither memory nor a huge file


@dataclass(frozen=True)
class Finding:
    """One fault: the rule's stable name, the place, what was found there, what is allowed and how to fix it.

    `where`, `allowed` and `fix` are empty where a fault has none. All texts are of one line.

    `bare` is `found` without what it may quote of the data, or of what a submission wrote after it saw them; `where`
    must then quote nothing either. None: nothing can be said but that the rule is broken.
    """

    rule: str
    where: str
    found: str
    allowed: str = ""
    fix: str = ""
    bare: str | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        text = f"{self.where}: {self.found}" if self.where else self.found
        if self.allowed:
            text += f"; allowed: {self.allowed}"
        return f"{text}; fix: {self.fix} [{self.rule}]" if self.fix else text

    def to_json(self) -> dict[str, str]:
        """As it stands in scores.json, under `findings`."""
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
        """The finding that `found` at `where` breaks this rule."""
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

    def add(self, rule: Rule, where: str, found: str, bare: str | None = None) -> None:
        """Count a fault, and keep it where there is room. `bare` is as of `Finding`."""
        self.total += 1
        self.by_rule[rule.name] = self.by_rule.get(rule.name, 0) + 1
        if len(self.kept) >= MAX_FINDINGS:
            if self.by_rule[rule.name] > 1:
                return
            self._make_room()
        self.kept.append(replace(rule.finding(where, found), bare=bare))

    def _make_room(self) -> None:
        kept = Counter(finding.rule for finding in self.kept)
        spare = [i for i, finding in enumerate(self.kept) if kept[finding.rule] > 1]
        del self.kept[spare[-1] if spare else -1]

    def add_broken(self, where: str, broken: RuleBroken) -> None:
        """Count what a check without a place raised, at its place `where`."""
        self.add(broken.rule, where, broken.found)

    def __bool__(self) -> bool:
        return self.total > 0


Reasons = str | Finding | Findings | Iterable[str | Finding]


class EvaluatorError(Exception):
    """A failure: its verdict and its findings. An instance of this very class is an infrastructure failure, unless it
    is given another verdict.

    A reason is a `Finding`, or one line of text where no rule of the contract applies; it then becomes a finding of
    the verdict's own rule. `total` counts reasons beyond those given.

    Such a text is the evaluator's own, of this machine and of what the organizer calls with: it may be seen where the
    data may not. What else the error has to say, and may quote the data or the submission's output, is `quoting`.
    """

    def __init__(
        self, reasons: Reasons, total: int | None = None, verdict: Verdict = INFRA, *, quoting: object = ""
    ) -> None:
        by_rule: dict[str, int] = {}
        if isinstance(reasons, Findings):
            total, by_rule = reasons.total, dict(reasons.by_rule)
            reasons = reasons.kept
        elif isinstance(reasons, str | Finding):
            reasons = [reasons]
        self.verdict = verdict
        said = f": {quoting}" if str(quoting) else ""
        self.findings = [
            reason if isinstance(reason, Finding) else Finding(verdict.rule, "", reason + said, bare=reason)
            for reason in reasons
        ]
        self.total = len(self.findings) if total is None else total
        self._by_rule = by_rule  # how many of each, where more were found than are kept
        self._one_for_all = False  # one finding stands for all of its rule, and says how many

    @property
    def exit_code(self) -> int:
        """What a command that fails so ends with."""
        return self.verdict.exit_code

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
        return self.verdict.to_json() | {"findings": findings, "findings_total": self.total}

    def without_contents(self) -> "EvaluatorError":
        """The same failure for whoever must not see the data: what is `bare` of each finding, and of the others each
        rule once, and how often it was broken. Places and what was found there are left out, as a submission can write
        what it read into both; of what is its own fault, always.
        """
        if not self.verdict.quotes_data:
            return self
        by_rule: dict[str, list[Finding]] = {}
        for finding in self.findings:
            by_rule.setdefault(finding.rule, []).append(finding)
        counts = {rule: self._by_rule.get(rule, len(findings)) for rule, findings in by_rule.items()}
        shown: list[str | Finding] = []
        for rule, findings in by_rule.items():
            bare_ones = [one for one in findings if one.bare is not None and self.verdict.fault != "team"]
            shown += [replace(one, found=one.bare or "") for one in bare_ones]
            if others := counts[rule] - len(bare_ones):
                shown.append(Finding(rule, "", f"{others} of this kind", findings[0].allowed, findings[0].fix))
        bare = EvaluatorError(shown, self.total, self.verdict)
        bare._by_rule, bare._one_for_all = counts, True
        return bare


class SubmissionError(EvaluatorError):
    """The submission broke the contract, failed, or broke a limit; the verdict says which."""

    def __init__(self, verdict: Verdict, reasons: Reasons, total: int | None = None) -> None:
        super().__init__(reasons, total, verdict)


class DataError(EvaluatorError):
    """The organizer's data, or the way the evaluator was called, is wrong."""

    def __init__(self, reasons: Reasons, total: int | None = None) -> None:
        super().__init__(reasons, total, DATA_ERROR)


def outline(error: Exception) -> str:
    """What can be said of any error but its message, which may quote anything: its type, what the system calls an
    `OSError`'s number, and where in the evaluator it happened.
    """
    said = type(error).__name__
    if isinstance(error, OSError) and isinstance(error.errno, int):
        said += f": {os.strerror(error.errno)}"
    frames = [(Path(frame.f_code.co_filename), line) for frame, line in traceback.walk_tb(error.__traceback__)]
    ours = [(path, line) for path, line in frames if path.is_relative_to(_ROOT / "evaluator")]
    return f"{said}, in {ours[-1][0].relative_to(_ROOT)}, line {ours[-1][1]}" if ours else said


def show(value: object) -> str:
    """An untrusted value as a short piece of one line: its repr, which escapes control characters, cut."""
    if isinstance(value, str):
        value = value[: SHOWN_CHARACTERS + 1]  # the repr of 100 MB is not needed for a line
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."


def unknown_key(key: str, known: Iterable[str], allows: str = "allowed are") -> str:
    """What is said of a key of a configuration that is not one of the `known` ones: these, and which may be meant."""
    names = list(known)
    return f"unknown key {show(key)}; {allows} {', '.join(names) or 'none'}{meant(key, names)}"


def meant(name: str, known: Iterable[str]) -> str:
    """The end of a line about a name that is not known: which may be meant; empty where none is near."""
    near = near_name(name, known)
    return f"; is {show(near)} meant?" if near else ""


def near_name(name: str, others: Iterable[str]) -> str | None:
    """The one of `others` that may have been meant by `name`: case, ending or a letter apart."""
    others = sorted(others)
    stem = os.path.splitext(name)[0].lower()
    for other in others:
        if other != name and os.path.splitext(other)[0].lower() == stem:
            return other
    return next(iter(difflib.get_close_matches(name, others, 1, _LIKE)), None)
