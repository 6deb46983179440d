"""Every link of a built book leads to a file of it, and to a place in that file: check_links.py FOLDER."""

import html.parser
import pathlib
import sys
import urllib.parse

FOLDER = pathlib.Path(sys.argv[1]).resolve()


class Page(html.parser.HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.links, self.names = [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.names.update(attributes[key] for key in ("id", "name") if attributes.get(key))
        # What mdBook's own pages load and link is checked as well.
        self.links += [attributes[key] for key in ("href", "src") if attributes.get(key)]


pages = {path: Page(path) for path in FOLDER.rglob("*.html")}
checked, dead = 0, []
for path, page in pages.items():
    for link in page.links:
        parts = urllib.parse.urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        # 404.html is served anywhere: its links start at the root.
        target = (path.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else path
        if parts.path.startswith("/"):
            target = FOLDER / parts.path.lstrip("/")
        target = target / "index.html" if target.is_dir() else target
        checked += 1
        fragment = urllib.parse.unquote(parts.fragment)
        if not target.is_file() or (fragment and target in pages and fragment not in pages[target].names):
            dead.append(f"{path.relative_to(FOLDER)}: {link}")
print(f"{len(pages)} pages, {checked} links, {len(dead)} dead")
if dead or checked < 100:
    sys.exit("\n".join(dead) or "hardly any links were found")
