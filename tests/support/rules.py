"""The rules that modules define, for tests that look at all of them."""

from types import ModuleType

from evaluator.core.errors import Rule


def rules_of(*modules: ModuleType) -> dict[str, Rule]:
    """The rules in the namespaces of these modules, by name."""
    return {rule.name: rule for module in modules for rule in vars(module).values() if isinstance(rule, Rule)}
