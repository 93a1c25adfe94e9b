"""Pages of the site that are not in docs/: a hook of MkDocs, see mkdocs.yml.

The README is the home page, and the other documents at the repository's root are pages too.  Files
that a page links to come along, under ``repository/``; of a linked folder, the files in it.  The
reference has a page for each package: the names that its ``__init__.py`` offers.
"""

from __future__ import annotations

import ast
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
    "code-of-conduct.md": "CODE_OF_CONDUCT.md",
}
"""Where a document of the root stands on the site."""
PACKAGES = ("reasoning", "orchestrator", "pruning", "protocol")
LINK = re.compile(r"(\]\()(?!\w+:|#)([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the documents, the reference, and what pages link to."""
    for uri, name in PAGES.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / name)))
    for package in PACKAGES:
        files.append(
            File.generated(config, f"reference/{package}.md", content=reference_page(package))
        )
    for target in sorted({one for file in files.documentation_pages() for one in outside(file)}):
        if target.is_dir():
            content = folder_page(target)
            files.append(File.generated(config, site_uri(target), content=content))
        elif site_uri(target) not in files.src_uris:
            files.append(File.generated(config, site_uri(target), abs_src_path=str(target)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let links lead to where their targets stand on the site."""
    return LINK.sub(lambda link: link[1] + moved(link[2], page.file), markdown)


def on_post_page(output: str, **_: Any) -> str:
    """Give the dialogue of searching a name, for those who hear the page."""
    return output.replace('role="dialog">', 'role="dialog" aria-label="Search">')


def source(file: File) -> Path:
    """Where a page stands in the repository."""
    return ROOT / PAGES.get(file.src_uri, f"docs/{file.src_uri}")


def outside(file: File) -> Iterator[Path]:
    """The files and folders that a page links to and that are no pages themselves."""
    if file.src_uri.startswith("reference/"):
        return
    for _, link in LINK.findall(file.content_string):
        target = Path(os.path.normpath(source(file).parent / link))
        if target.exists() and site_uri(target).startswith("repository/"):
            yield target
            if target.is_dir():
                yield from (one for one in target.iterdir() if one.is_file())


def site_uri(target: Path) -> str:
    """Where a file or folder of the repository stands on the site."""
    name = target.relative_to(ROOT).as_posix()
    for uri, document in PAGES.items():
        if name == document:
            return uri
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    return f"repository/{name}/index.md" if target.is_dir() else f"repository/{name}"


def moved(link: str, file: File) -> str:
    """A page's link as it is on the site."""
    target = Path(os.path.normpath(source(file).parent / link))
    if file.src_uri.startswith(("reference/", "repository/")) or not target.exists():
        return link  # what leads nowhere is told by MkDocs
    return posixpath.relpath(site_uri(target), posixpath.dirname(file.src_uri) or ".")


def folder_page(folder: Path) -> str:
    """A list of the files in a folder."""
    name = folder.relative_to(ROOT).as_posix()
    names = sorted(one.name for one in folder.iterdir() if one.is_file())
    lines = "\n".join(f"- [{one}]({one})" for one in names)
    return f"# Files in {name}\n\n{lines}\n"


def reference_page(package: str) -> str:
    """The public names of a package, each with its docstring."""
    tree = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8"))
    text = (ast.get_docstring(tree) or "").partition("\n\n")[0]
    parts = [f"# {package}\n\n{text}\n"]
    for name, home in sorted(offered(tree, package), key=lambda pair: pair[0].lower()):
        parts.append(f'::: {home}.{name}\n    options:\n      heading: "{name}"\n')
    return "\n".join(parts)


def offered(tree: ast.Module, package: str) -> list[tuple[str, str]]:
    """Each name of its own that a package offers: ``from home import name as name``."""
    return [
        (alias.name, str(node.module))
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == package
        for alias in node.names
        if alias.asname == alias.name
    ]
