"""What all pages are made with: templates and style sheets, a policy, and texts that show what they have in them.

A page of `environment` is one file that needs no network. Its Content-Security-Policy allows nothing but `data:` images
and the page's own style and script, by hash, so that even a mistake could neither run what others wrote nor reach the
network. What others wrote is escaped by Jinja.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

TEMPLATES = Path(__file__).with_name("templates")

# What a reader would not see or be misled by: control and format characters (bidirectional overrides, zero-width
# ones, tags) and half surrogates. U+200D stays: emoji are joined by it. Line feed and tab stay.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)

# Why scores are not the leaderboard's, for those who read Russian.
_RUSSIAN_LABELS = {
    "encoders: nano": "кодировщики: nano",
    "without RuWordNet": "без RuWordNet",
    "grammar: the current one of Python": "грамматика нынешнего Python",
}
_LABEL_END = ", not comparable with the leaderboard"


def templates(*folders: Path, styles: Sequence[str] = (), scripts: Sequence[str] = ()) -> jinja2.Environment:
    """Jinja with the templates of `folders`, the first one first, and those of all pages, of which base.html is for
    each to extend. Pages are of `styles` and `scripts` at these addresses; whoever serves them sends the policy.
    """
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"styles": styles, "scripts": scripts}
    made.filters["visible"] = visible
    return made


def environment(style: str, script: str | None = None, folder: Path = TEMPLATES) -> jinja2.Environment:
    """`templates` of pages that are whole in themselves. `style` and `script` are files of `folder`: what a page has
    beyond style.css, and the one script that it runs.
    """
    made = templates(folder)
    styles = style_sheet() + (folder / style).read_text(encoding="utf-8")
    policy = f"default-src 'none'; img-src data:; style-src {_hash(styles)};"
    if script is not None:
        code = (folder / script).read_text(encoding="utf-8")
        made.globals["script"] = Markup(code)
        policy += f" script-src {_hash(code)};"
    policy += " base-uri 'none'; form-action 'none'"
    made.globals |= {"style": Markup(styles), "policy": Markup(policy)}
    return made


def style_sheet() -> str:
    """The style sheet of all pages."""
    return (TEMPLATES / "style.css").read_text(encoding="utf-8")


def light_colours() -> dict[str, str]:
    """The colours of all pages where they are light, by name, as `#rrggbb`: for plots, which are drawn once."""
    light, _ = style_sheet().split("@media (prefers-color-scheme: dark)")
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", light))


def russian_label(label: str) -> str:
    """A label of scores in Russian; one that is not known here as it is."""
    russian = _RUSSIAN_LABELS.get(label.removesuffix(_LABEL_END))
    return f"{russian}, несравнимо с таблицей лидеров" if russian else label


def visible(text: str) -> str:
    """`text` with its control, format and direction characters written out, such as ‹U+202E›."""
    return _INVISIBLE.sub(lambda match: f"‹U+{ord(match[0]):04X}›", text)


def _hash(content: str) -> str:
    """What a Content-Security-Policy calls an inline style or script by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
