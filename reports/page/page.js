"use strict";
/* What the page does beyond being read; without it everything is there, in order. */
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const made = (tag, properties = {}) => Object.assign(document.createElement(tag), properties);

/* One legend for all figures and tables. */
const chips = all("[data-pick]");
function light() {
  const picked = new Set(chips.filter((c) => c.ariaPressed === "true").map((c) => c.dataset.pick));
  document.body.toggleAttribute("data-lit", picked.size > 0);
  all("[data-cell]").forEach((e) => e.classList.toggle("lit", picked.has(e.dataset.cell)));
  document.getElementById("all").hidden = picked.size === 0;
}
function pick(chip, pressed) {
  chip.ariaPressed = String(pressed);
}
function showAll() {
  chips.forEach((chip) => pick(chip, false));
  light();
}
if (chips.length) {
  chips.forEach((chip) => chip.addEventListener("click", () => {
    pick(chip, chip.ariaPressed !== "true");
    light();
  }));
  document.getElementById("all").addEventListener("click", () => { showAll(); chips[0].focus(); });
}

/* Light or dark: as the system says, or as a reader chose. */
const theme = document.getElementById("theme");
const dark = matchMedia("(prefers-color-scheme: dark)");
const kept = (act) => { try { return act(localStorage); } catch { return null; } };
const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
function name() {
  theme.textContent = isDark() ? "Light" : "Dark";
  theme.title = `Switch to ${theme.textContent.toLowerCase()} colours`;
}
const before = kept((store) => store.getItem("fuselab-theme"));
if (before === "dark" || before === "light") document.documentElement.dataset.theme = before;
theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  kept((store) => store.setItem("fuselab-theme", document.documentElement.dataset.theme));
  name();
});
dark.addEventListener("change", name);
theme.hidden = false;
name();

/* Values of what is drawn: by pointer, and by arrow keys in a figure that has the focus. */
const tip = made("div", { id: "tip", hidden: true, role: "status" });
document.body.append(tip);
const names = Object.fromEntries(chips.map((chip) => [chip.dataset.pick, chip.dataset.name]));
all(".plot title").forEach((title) => {
  title.parentNode.setAttribute("data-value", title.textContent);
  title.remove();
});
function show(mark, x, y) {
  const cell = mark.closest("[data-cell]")?.dataset.cell;
  const text = mark.dataset.value ?? names[cell];
  if (!text) return;
  tip.textContent = text;
  tip.hidden = false;
  tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${y + 22 + tip.offsetHeight > innerHeight ? y - tip.offsetHeight - 10 : y + 16}px`;
}
const hide = () => { tip.hidden = true; };
document.addEventListener("pointermove", (event) => {
  const mark = event.target.closest?.(".plot [data-value], .plot [data-cell]");
  if (mark) show(mark, event.clientX, event.clientY); else hide();
});
document.addEventListener("scroll", hide, { passive: true });
all(".plotbox").forEach((box) => {
  const marks = all("[data-value]", box);
  let at = -1;
  if (!marks.length) box.setAttribute("aria-label", box.getAttribute("aria-label").split(":")[0]);
  box.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || !marks.length) return;
    event.preventDefault();
    at = (at + step + marks.length + (at < 0 && step < 0 ? 1 : 0)) % marks.length;
    const place = marks[at].getBoundingClientRect();
    show(marks[at], place.x + place.width / 2, place.y + place.height / 2);
  });
  box.addEventListener("blur", hide);
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  if (!tip.hidden) hide(); else if (chips.length) showAll();
});

/* A figure as wide as the page. */
all(".figures h3").forEach((heading) => {
  const button = made("button", { type: "button", className: "widen", textContent: "Widen", ariaPressed: "false" });
  button.ariaLabel = `Widen ${heading.textContent}`;
  const row = made("div", { className: "titled" });
  heading.replaceWith(row);
  row.append(heading, button);
  button.addEventListener("click", () => {
    button.ariaPressed = String(row.parentNode.classList.toggle("wide"));
  });
});

/* Tables: sorted by a heading, filtered by words. */
const SIZES = { "": 1, "%": 1, k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15 };
function number(text) {
  const parts = text.replace("−", "-").replaceAll(",", "").match(/^([<>] )?([-+]?[\d.]+(?:e[-+]?\d+)?) ?([kMGTP%]?)/);
  if (!parts) return NaN;
  return Number(parts[2]) * SIZES[parts[3]] + { "< ": -1e-9, "> ": 1e-9 }[parts[1]] || Number(parts[2]) * SIZES[parts[3]];
}
function sort(table, column, words, down) {
  const key = (row) => row.cells[column].textContent.trim();
  const compare = words
    ? (a, b) => a.localeCompare(b, "en", { numeric: true })
    : (a, b) => number(a) - number(b);
  const nothing = (text) => (words ? text === "" || text === "–" : Number.isNaN(number(text)));
  const rows = [...table.tBodies[0].rows].map((row) => [key(row), row]);
  rows.sort(([a], [b]) => nothing(a) - nothing(b) || (nothing(a) ? 0 : (down ? -1 : 1) * compare(a, b)));
  table.tBodies[0].append(...rows.map(([, row]) => row));
}
all("table.sorted").forEach((table) => {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = made("button", { type: "button" });
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.ariaSort === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.ariaSort = down ? "descending" : "ascending";
      sort(table, column, head.classList.contains("words"), down);
    });
  });
});
all("table.filtered").forEach((table) => {
  const rows = [...table.tBodies[0].rows];
  const field = made("input", { type: "search", autocomplete: "off", spellcheck: false });
  const count = made("output", { textContent: `${rows.length} rows` });
  const label = made("label", { textContent: "Filter " });
  label.append(field);
  field.ariaLabel = `Filter rows of ${table.caption.textContent}`;
  const line = made("div", { className: "filter" });
  line.append(label, count);
  table.parentNode.before(line);
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/);
    rows.forEach((row) => {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    });
    const shown = rows.filter((row) => !row.hidden).length;
    count.textContent = shown === rows.length ? `${shown} rows` : `${shown} of ${rows.length} rows`;
  });
});

/* Links to every section; and on paper nothing stays folded. */
const contents = document.querySelector(".contents");
all("main section > h2").forEach((heading, place) => {
  heading.id ||= `part-${place}`;
  contents?.append(made("a", { href: `#${heading.id}`, textContent: heading.textContent }));
});
let folded = [];
addEventListener("beforeprint", () => {
  folded = all("details:not([open])");
  folded.forEach((one) => { one.open = true; });
});
addEventListener("afterprint", () => folded.forEach((one) => { one.open = false; }));
