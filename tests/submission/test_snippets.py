"""The Python of the documentation runs as it stands there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("docs", "docker", "evaluator", "sample_input", "submission")
# Not those below a file's name, which are whole files: tests/test_new_competition.py writes them.
_SNIPPET = re.compile(r"(?<!`\*\*\n\n)^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: Shown whole in the pages for participants, and run by tests/test_docs.py where a submission runs.
PROGRAM = (ROOT / "docs" / "examples" / "smallest" / "run.py").read_text(encoding="utf-8")


def snippets() -> dict[str, list[str]]:
    """Those of each page that has any, by its path, without whole programs."""
    pages = [*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))]
    found = {str(page.relative_to(ROOT)): _SNIPPET.findall(page.read_text(encoding="utf-8")) for page in sorted(pages)}
    found = {page: [each for each in snippets if each != PROGRAM] for page, snippets in found.items()}
    return {page: each for page, each in found.items() if each}


@pytest.mark.parametrize("page", snippets())
def test_the_snippets_of_a_page_run_one_after_the_other(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    names = {}
    for number, snippet in enumerate(snippets()[page], 1):
        exec(compile(snippet, f"{page}, snippet {number}", "exec"), names)
    assert "rudolph" in names or "model" in names


def test_the_pages_that_show_python_are_found():
    assert {"README.md", "README.ru.md", "docs/model.md", "docs/nano/README.md"} == snippets().keys()
