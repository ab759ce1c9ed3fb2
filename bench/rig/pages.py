"""What is committed: the files of results/, and their copies in README.md between `<!-- NAME -->` and `<!-- /NAME -->`."""
import re, sys

from .contestants import HERE
from .results import SHOWN

README = HERE / "README.md"


def write(name, text, meta=None, note=None):
    """Writes results/NAME.md; `meta` says on what machine it was measured, `note` what else a reader must know."""
    head = [f"**{note}**\n"] if note else []
    if meta:
        head.append(f"{meta['cpus']} CPUs, {meta['system']}, rustc {meta['rustc']}.\n")
    SHOWN.mkdir(exist_ok=True)
    (SHOWN / f"{name}.md").write_text("\n".join([*head, text.rstrip() + "\n"]))
    print(f"wrote results/{name}.md", file=sys.stderr)
    refresh(name)


def refresh(name):
    """Puts the file where README.md shows it."""
    text = (SHOWN / f"{name}.md").read_text().strip()
    shown = re.sub(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", lambda m: f"{m[1]}\n{text}\n\n{m[2]}", README.read_text(), flags=re.S)
    README.write_text(shown)
