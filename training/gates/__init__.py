"""What an adapter must show to pass: read before a run, decided from its evaluation."""

from training.gates.check import check_gates
from training.gates.decision import Decision, GateResult, Verdict, decide
from training.gates.gate import Gate, parse_gate
from training.gates.rules import Outcome

__all__ = [
    "Decision",
    "Gate",
    "GateResult",
    "Outcome",
    "Verdict",
    "check_gates",
    "decide",
    "parse_gate",
]
