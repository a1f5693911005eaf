"""The grammars that CodeBLEU's tests parse with."""

import pytest

from evaluator.metrics import assets
from evaluator.metrics.syntax_trees import CurrentGrammar, Grammar
from tests.support import grammar


@pytest.fixture(scope="session")
def published() -> Grammar:
    """The published grammar, by way of its assets."""
    try:
        return assets.load_grammar(grammar.folder())
    except grammar.GrammarUnavailable as error:
        pytest.skip(f"the published grammar cannot be had: {error}")


@pytest.fixture(scope="session")
def current() -> Grammar:
    """The grammar that stands in."""
    return CurrentGrammar()


@pytest.fixture(params=["published", "current"])
def any_grammar(request: pytest.FixtureRequest) -> Grammar:
    """Each of the two."""
    found: Grammar = request.getfixturevalue(request.param)
    return found
