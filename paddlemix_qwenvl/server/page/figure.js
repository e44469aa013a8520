// A picture with what an answer points at: shapes over it, and their names or a page's text beside it.

import { copyButton, download, element, svg } from "./dom.js";
import { colours, drawn, extent, inkOn, outline } from "./drawing.js";
import { showMarkdown } from "./markdown.js";
import { address } from "./media.js";
import { number, words } from "./words.js";

const MOST_TAGS = 14; // more would hide the picture; the others show when they are lit

/**
 * title: of the picture, "" where it needs none.
 * entries: {kind, label, text, coords, image} of things, or {type, markdown, coords} of a page's blocks. Things have rows
 * to choose them by, blocks are read. What is under the pointer, has the focus or is chosen is lit on both sides.
 */
export class Figure {
  constructor(medium, title) {
    this.medium = medium;
    this.entries = [];
    this.keys = [];
    this.chosen = new Set();
    this.picture = element("img", { src: address(medium.blob), alt: medium.name, onload: () => this.fit() });
    this.shapes = svg("svg", { preserveAspectRatio: "none", "aria-hidden": "true" });
    this.tags = element("div", { className: "tags", ariaHidden: "true" });
    this.stage = element("div", { className: "stage" }, this.picture, this.shapes, this.tags);
    this.count = element("span", { className: "count" });
    this.copy = copyButton(words("copyMarkdown"), () => this.markdown());
    const buttons = [this.copy, saveButton("JSON", () => this.saveJson()), saveButton("PNG", () => this.savePng())];
    this.list = element("ol", { className: "rows" });
    const head = element(
      "div",
      { className: "head" },
      this.count,
      element("span", { className: "buttons" }, ...buttons),
    );
    this.title = title;
    this.node = element("figure", { className: "figure" }, this.stage, element("figcaption", {}, head, this.list));
    for (const [on, off] of [
      ["pointerover", "pointerout"],
      ["focusin", "focusout"],
    ]) {
      this.node.addEventListener(on, (event) => this.light(indicesAt(event.target)));
      this.node.addEventListener(off, () => this.light([]));
    }
  }

  /** The size that coordinates count on: the answer's, or the picture's own. */
  fit() {
    const [width, height] = this.size ?? [this.picture.naturalWidth, this.picture.naturalHeight];
    if (!width || !height) return;
    this.shapes.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.stage.style.setProperty("--ratio", width / height);
    this.entries.forEach((entry, i) => this.placeTag(entry, i, width, height));
  }

  /** Shows `entries`; those that have not changed keep their nodes. `size` is the original's [width, height], where it is known. */
  show(entries, size) {
    const tints = colours(entries);
    this.size = size ?? this.size;
    this.entries = entries;
    this.tints = tints;
    entries.forEach((entry, i) => {
      const key = JSON.stringify([entry, tints[i]]);
      if (this.keys[i] !== key) this.put(entry, i, tints[i]);
      this.keys[i] = key;
    });
    this.keys.length = entries.length;
    for (const parent of [this.shapes, this.tags, this.list])
      for (const node of [...parent.children]) if (Number(node.dataset.entry) >= entries.length) node.remove();
    // The smaller one lies on top, or it could not be pointed at.
    const area = (node) => {
      const [left, top, right, bottom] = extent(this.entries[node.dataset.entry]);
      return (right - left) * (bottom - top);
    };
    const ordered = [...this.shapes.children].sort((a, b) => area(b) - area(a));
    if (ordered.some((node, i) => node !== this.shapes.children[i])) this.shapes.append(...ordered);
    this.node.classList.toggle("crowded", entries.length > MOST_TAGS || this.isPage());
    this.node.classList.toggle("page", this.isPage());
    this.fit();
    this.showHead();
  }

  isPage() {
    return "markdown" in (this.entries[0] ?? {});
  }

  put(entry, i, tint) {
    const replace = (parent, node) => {
      node.dataset.entry = i;
      node.style.setProperty("--tint", tint);
      node.style.setProperty("--on-tint", inkOn(tint));
      const old = parent.querySelector(`:scope > [data-entry="${i}"]`);
      if (old && old !== node) old.replaceWith(node);
      else if (!old) parent.append(node);
    };
    if (entry.coords) {
      const path = (name) => svg("path", { class: name, d: outline(entry) });
      replace(this.shapes, svg("g", { class: entry.kind }, path("halo"), path("line")));
      replace(this.tags, element("span", { className: `tag ${entry.kind}`, hidden: !nameOf(entry) }, nameOf(entry)));
    }
    if (entry.markdown === undefined) replace(this.list, this.row(entry, i));
    else replace(this.list, this.block(entry, this.list.children[i]));
  }

  row(entry, i) {
    const places = entry.coords.map((value) => number(value, 1, false)).join("  ");
    const text = entry.label && entry.text ? [element("span", { className: "text" }, entry.text)] : [];
    const label = element("span", { className: "name" }, nameOf(entry) || words("unnamed"));
    const button = element("button", {
      type: "button",
      className: "row",
      ariaPressed: this.chosen.has(i),
      onclick: () => this.choose(i, button),
    });
    button.append(
      element("span", { className: "swatch" }),
      label,
      ...text,
      element("span", { className: "places" }, places),
    );
    return element("li", {}, button);
  }

  block({ markdown }, node = element("li", { className: "block" })) {
    showMarkdown(node, markdown);
    return node;
  }

  choose(i, button) {
    if (!this.chosen.delete(i)) this.chosen.add(i);
    button.ariaPressed = this.chosen.has(i);
    this.light([]);
    this.showHead();
  }

  /** Tags stand over the upper left corner of their shape, or the right one where there is more room to the left. */
  placeTag(entry, i, width, height) {
    const tag = this.tags.querySelector(`[data-entry="${i}"]`);
    if (!tag || !entry.coords) return;
    const [left, top, right] = extent(entry);
    const fromRight = left > 0.6 * width;
    tag.classList.toggle("from-right", fromRight);
    tag.style.left = fromRight ? "" : `${(left / width) * 100}%`;
    tag.style.right = fromRight ? `${(1 - right / width) * 100}%` : "";
    tag.style.top = `max(0px, ${(top / height) * 100}% - var(--tag))`;
  }

  light(indices) {
    const lit = new Set(indices.length ? indices : this.chosen);
    this.node.classList.toggle("lighting", lit.size > 0);
    for (const node of this.node.querySelectorAll("[data-entry]"))
      node.classList.toggle("lit", lit.has(Number(node.dataset.entry)));
  }

  /** Lights what has this label. */
  lightLabel(label) {
    this.light(this.entries.flatMap((entry, i) => (entry.label === label ? [i] : [])));
  }

  showHead() {
    const n = this.entries.length;
    const all = words(this.isPage() ? "blocks" : "items", { n });
    const counted = this.chosen.size ? words("chosen", { n: this.chosen.size, all: n }) : all;
    this.count.textContent = [this.title, counted].filter(Boolean).join(" · ");
    this.copy.hidden = !this.isPage();
  }

  markdown() {
    return `${this.entries.map((entry) => entry.markdown).join("\n\n")}\n`;
  }

  /** What is to be saved: what is chosen, or all. */
  wanted() {
    return this.entries.flatMap((entry, i) =>
      !this.chosen.size || this.chosen.has(i) ? [[entry, this.tints[i]]] : [],
    );
  }

  saveJson() {
    const json = JSON.stringify(
      this.wanted().map(([entry]) => entry),
      null,
      2,
    );
    download(new Blob([`${json}\n`], { type: "application/json" }), `${this.stem()}.json`);
  }

  async savePng() {
    const placed = this.wanted().filter(([entry]) => entry.coords);
    const entries = placed.map(([entry]) => (this.isPage() ? { ...entry, label: "" } : entry));
    download(
      await drawn(
        this.picture,
        entries,
        placed.map(([, tint]) => tint),
      ),
      `${this.stem()}-boxes.png`,
    );
  }

  stem() {
    return this.medium.name.replace(/\.[^.]*$/, "") || "picture";
  }
}

function saveButton(kind, onclick) {
  const label = words("save", { kind });
  return element("button", { type: "button", className: "worded", title: label, ariaLabel: label, onclick }, kind);
}

/** What a thing is called, or what is written there. */
const nameOf = ({ label, text }) => label || text || "";

function indicesAt(node) {
  const entry = node.closest?.("[data-entry]")?.dataset.entry;
  return entry === undefined ? [] : [Number(entry)];
}
