// Nodes of the page. What a model or a person wrote goes in as text, never as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An element with properties, `dataset`, listeners (`onclick`), ARIA (`ariaLabel`) or other attributes (`attributes`), and children. */
export function element(tag, { dataset = {}, attributes = {}, ...properties } = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  Object.assign(node.dataset, dataset);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** An element of an SVG picture. */
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** One of the icons that index.html holds as symbols. */
export function icon(name) {
  return svg("svg", { class: "icon", "aria-hidden": "true" }, svg("use", { href: `#icon-${name}` }));
}

/** A button that shows an icon and, unless it is `quiet`, its label. */
export function iconButton(name, label, onclick, { quiet = true, ...properties } = {}) {
  const words = quiet ? [] : [element("span", {}, label)];
  const className = quiet ? "quiet" : "worded";
  return element(
    "button",
    { type: "button", className, title: label, ariaLabel: label, onclick, ...properties },
    icon(name),
    ...words,
  );
}

/** A button that copies what `text()` gives, and shows that it has. */
export function copyButton(label, text, properties = {}) {
  const button = iconButton(
    "copy",
    label,
    async () => {
      await copy(text());
      const use = button.querySelector("use");
      use.setAttribute("href", "#icon-check");
      setTimeout(() => use.setAttribute("href", "#icon-copy"), 1500);
    },
    properties,
  );
  return button;
}

/** Browsers give a page their clipboard over https and on this machine alone; elsewhere an old command does. */
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = element("textarea", { value: text, className: "hidden" });
  (document.querySelector("dialog[open]") ?? document.body).append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}

/** Hands `blob` over as a file. */
export function download(blob, name) {
  const href = URL.createObjectURL(blob);
  element("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
}
