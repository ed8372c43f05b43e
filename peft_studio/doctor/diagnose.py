"""The run doctor: what is wrong with a run, why, and what to change; a pure function of what its folder says.

Every rule stands once, with its threshold and the reason for it: those about curves in ``curve_rules.py``, those
about how a run ended and what came of it in ``outcome_rules.py``, those about everything else in ``fact_rules.py``. A
run that is still training is judged by what is there so far.
"""

from peft_studio.doctor.curve_rules import curve_findings
from peft_studio.doctor.evidence import Evidence
from peft_studio.doctor.fact_rules import fact_findings
from peft_studio.doctor.findings import SEVERITIES, Finding
from peft_studio.doctor.outcome_rules import outcome_findings


def diagnose(evidence: Evidence) -> tuple[Finding, ...]:
    """Findings on a run, the gravest first; none for a run that is fine."""
    found = [*curve_findings(evidence), *fact_findings(evidence)]
    found += outcome_findings(evidence, found)
    return tuple(sorted(found, key=lambda finding: (SEVERITIES.index(finding.severity), finding.step or 0)))


__all__ = ["Finding", "diagnose"]
