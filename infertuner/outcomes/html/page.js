"use strict";
(() => {
  const coarse = matchMedia("(pointer: coarse)").matches;

  // Colours are names of CSS variables, so that a figure follows the page from light to dark and onto paper.
  function inked(value, style) {
    if (typeof value === "string" && value.startsWith("--")) return style.getPropertyValue(value).trim();
    if (Array.isArray(value)) return value.map((one) => inked(one, style));
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, inked(one, style)]));
    return value;
  }

  function draw() {
    const style = getComputedStyle(document.documentElement);
    for (const script of document.querySelectorAll("script.chart")) {
      const { data, layout } = inked(JSON.parse(script.textContent), style);
      if (coarse) layout.dragmode = false;
      Plotly.react(script.previousElementSibling, data, layout, { displayModeBar: false, responsive: true });
    }
  }

  function sort(table, column, button) {
    const head = button.closest("th");
    const rising = head.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.querySelectorAll("th")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const key = (row) => row.cells[column].dataset.value;
    const numeric = head.dataset.kind === "number";
    const rows = [...table.tBodies[0].rows].sort((one, other) => {
      const [a, b] = [key(one), key(other)];
      if (a === "" || b === "") return (a === "") - (b === ""); // what is missing stays at the end
      const order = numeric ? a - b : a.localeCompare(b, undefined, { numeric: true });
      return rising ? order : -order;
    });
    table.tBodies[0].append(...rows);
  }

  function toggle(button) {
    const shown = button.getAttribute("aria-pressed") === "false";
    button.setAttribute("aria-pressed", shown);
    const figure = button.closest("figure");
    const place = [...figure.querySelectorAll(".legend button")].indexOf(button);
    Plotly.restyle(figure.querySelector(".plot"), { visible: shown }, [place]);
  }

  for (const table of document.querySelectorAll("table.sortable"))
    for (const button of table.tHead.querySelectorAll("button"))
      button.addEventListener("click", () => sort(table, button.closest("th").cellIndex, button));
  if (window.Plotly) {
    draw();
    for (const button of document.querySelectorAll(".legend button"))
      button.addEventListener("click", () => toggle(button));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    matchMedia("print").addEventListener("change", draw);
  }
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("footer details")) details.open = true;
  });
})();
