"""A real browser that looks at a page as people do: from a file, without a network, on a desk and on a phone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")

WIDTHS = {"desk": 1100, "phone": 390}
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-default-apps", "--disable-extensions",
    "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--virtual-time-budget=8000", "--dump-dom",
)  # fmt: skip

BROWSER = "not an origin"
"""Who asks, in the network log, where it is the browser for itself and not a page."""
WATCH = """
window.troubles = [];
addEventListener("error", (event) => troubles.push(String(event.message)));
addEventListener("unhandledrejection", (event) => troubles.push(String(event.reason)));
addEventListener("securitypolicyviolation", (event) => troubles.push("refused " + event.blockedURI));
window.alert = () => troubles.push("alert");
"""
LOOK = """
addEventListener("load", () => setTimeout(() => {
  const values = (table, column) => [...table.tBodies[0].rows].map((row) => row.cells[column].dataset.value);
  const sorted = [...document.querySelectorAll("table.sortable")].map((table) => {
    const buttons = [...table.tHead.querySelectorAll("button")];
    return buttons.map((button, column) => {
      const head = button.closest("th");
      button.click();
      const rising = [head.getAttribute("aria-sort"), values(table, column)];
      button.click();
      return { kind: head.dataset.kind, rising, falling: [head.getAttribute("aria-sort"), values(table, column)] };
    });
  });
  const plots = [...document.querySelectorAll(".plot")];
  const drawn = plots.map((plot) => ({
    traces: plot.querySelectorAll(".scatterlayer .trace, .barlayer .trace").length,
    asked: plot.data.length,
    ink: plot.layout.font.color,
    said: plot.getAttribute("aria-label"),
    titles: [...plot.querySelectorAll(".xtitle, .ytitle")].map((title) => title.textContent),
    overflow: plot.getBoundingClientRect().right > document.documentElement.clientWidth + 1,
  }));
  const entry = document.querySelector(".legend button");
  const plot = entry && entry.closest("figure").querySelector(".plot");
  const before = plot && plot.querySelectorAll(".scatterlayer .trace, .barlayer .trace").length;
  if (entry) entry.click();
  const hidden = entry && [entry.getAttribute("aria-pressed"), plot.data[0].visible, before];
  parent.postMessage({
    name: window.name, sorted, drawn, hidden, troubles, title: document.title, text: document.body.innerText,
    width: document.documentElement.clientWidth, needed: document.documentElement.scrollWidth,
    resources: performance.getEntriesByType("resource").map((entry) => entry.name),
  }, "*");
}, 500));
"""


@dataclass(frozen=True)
class Seen:
    """What the browser saw of one page."""

    by_width: dict[str, dict[str, Any]]
    """Of each width, what `LOOK` gathers."""
    console: list[str]
    """What the page wrote to the console."""
    requests: list[str]
    """Addresses that were asked for, of any protocol that leaves the machine."""


def look_at(page: Path, folder: Path) -> Seen:
    """Open a page in both widths and try what can be clicked. Watchers are added to a copy, never to the page."""
    html = page.read_text(encoding="utf-8")
    head, tail = html.split("<head>", 1)
    watched = folder / "watched.html"
    watched.write_text(f"{head}<head><script>{WATCH}</script><script>{LOOK}</script>{tail}", encoding="utf-8")
    frames = "".join(
        f'<iframe name="{name}" src="watched.html" width="{width}" height="900"></iframe>'
        for name, width in WIDTHS.items()
    )
    keep = (
        "const seen = {}; addEventListener('message', (event) => { seen[event.data.name] = event.data;"
        "document.getElementById('seen').textContent = JSON.stringify(seen); });"
    )
    outer = folder / "outer.html"
    outer.write_text(f'<meta charset="utf-8"><pre id="seen"></pre><script>{keep}</script>{frames}', encoding="utf-8")
    log = folder / "net.json"
    done = subprocess.run(
        [str(CHROMIUM), *FLAGS, f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}", outer.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None
    text = found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    events = [event.get("params", {}) for event in json.loads(log.read_text(encoding="utf-8"))["events"]]
    asked = [
        event["url"]
        for event in events
        if event.get("initiator", BROWSER) != BROWSER and re.match("(https?|wss?|ftp):", event.get("url", ""))
    ]
    return Seen(json.loads(text or "{}"), console, asked)
