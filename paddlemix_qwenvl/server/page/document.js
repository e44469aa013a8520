// QwenVL HTML, the answer to a document: its blocks, each with its box and as Markdown, read while it arrives.

const MARKS = /<html\b|<body\b|<[a-z][a-z0-9]*\b[^<>]*\bdata-bbox=/i;
const TAG = /<(\/?)([a-z][a-z0-9]*)((?:\s+[a-z-]+(?:\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'<>]+))?)*)\s*\/?>/gi;
const ATTRIBUTE = /([a-z-]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'<>]+))/gi;
const BLOCKS = /^(?:h[1-6]|p|li|table|pre|img|blockquote|figcaption|dt|dd|div|section)$/;
const DEEPEST = 100; // elements in each other
const EMPTY = new Set(["img", "br", "hr", "meta", "link", "input", "col", "wbr"]);
const FENCES = { code: "", music: "abc", chemical: "smiles" };
const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" };

/** Whether an answer is a page in HTML. */
export const isDocument = (text) => MARKS.test(text);

/** What an answer says before its page begins. */
export const preamble = (text) => text.slice(0, text.search(MARKS)).replace(/```[a-z]*\s*$/, "");

/** [{type, markdown, coords}] of a page in reading order; `coords` in pixels of the picture {size, grid}, null without a box. */
export function readDocument(text, { size, grid }) {
  return [...blocks(tree(text))].map(({ type, markdown, box }) => ({
    type,
    markdown,
    coords: box && scaled(box, size, grid),
  }));
}

function scaled(box, size, grid) {
  const coords = box.map((value, i) => Math.min(Math.max((value * size[i % 2]) / grid[i % 2], 0), size[i % 2]));
  return [
    Math.min(coords[0], coords[2]),
    Math.min(coords[1], coords[3]),
    Math.max(coords[0], coords[2]),
    Math.max(coords[1], coords[3]),
  ];
}

/** Nodes {tag, attributes, children}, children being nodes and texts. A tag that is cut off at the end is left out. */
function tree(text) {
  const start = Math.max(text.search(MARKS), 0);
  const source = text
    .slice(start)
    .replace(/<!--[\s\S]*?(?:-->|$)|<(script|style|head)\b[\s\S]*?(?:<\/\1>|$)|<[^<>]*$|```\s*$/gi, "");
  const root = { tag: "body", attributes: {}, children: [] };
  const open = [root];
  let at = 0;
  for (const match of source.matchAll(TAG)) {
    addText(open.at(-1), source.slice(at, match.index));
    at = match.index + match[0].length;
    const tag = match[2].toLowerCase();
    if (match[1]) {
      const depth = open.findLastIndex((node) => node.tag === tag);
      if (depth > 0) open.length = depth;
    } else if (tag !== "html" && tag !== "body") {
      const attributes = {};
      for (const [, name, ...values] of match[3].matchAll(ATTRIBUTE))
        attributes[name.toLowerCase()] = decode(values.find((one) => one !== undefined));
      const node = { tag, attributes, children: [] };
      open.at(-1).children.push(node);
      if (!EMPTY.has(tag) && open.length < DEEPEST) open.push(node);
    }
  }
  addText(open.at(-1), source.slice(at));
  return root;
}

function addText(node, text) {
  if (text) node.children.push(decode(text));
}

function decode(text) {
  return text.replace(/&(?:#(\d{1,7})|#x([0-9a-f]{1,6})|([a-z]+));/gi, (whole, decimal, hex, name) => {
    const code = decimal ? Number(decimal) : parseInt(hex, 16);
    return name ? (ENTITIES[name.toLowerCase()] ?? whole) : code <= 0x10ffff ? String.fromCodePoint(code) : whole;
  });
}

function* blocks(node, list = null) {
  let number = 0;
  for (const child of node.children) {
    if (typeof child === "string") {
      if (child.trim()) yield { type: "paragraph", markdown: escaped(tidy(child)), box: null };
      continue;
    }
    const type = typeOf(child);
    if (child.tag === "li") number += 1;
    if (type) yield block(child, type, list === "ol" ? `${number}.` : "-");
    else yield* blocks(child, child.tag);
  }
}

function typeOf(node) {
  const name = (node.attributes.class ?? "").toLowerCase().trim();
  for (const type of ["music", "chemical", "formula", "chart", "image"]) if (name.startsWith(type)) return type;
  if (/^h[1-6]$/.test(node.tag)) return "heading";
  if (node.tag === "table" || node.tag === "li") return node.tag;
  if (node.tag === "pre") return "code";
  if (node.tag === "img") return "image";
  const holds = node.children.some(
    (child) =>
      typeof child !== "string" && (BLOCKS.test(child.tag) || "data-bbox" in child.attributes || typeOf(child)),
  );
  if (holds && contains(node, "img") && !textOf(node).trim()) return "image";
  return holds || (!BLOCKS.test(node.tag) && !("data-bbox" in node.attributes)) ? "" : name || "paragraph";
}

function block(node, type, bullet) {
  const box = (node.attributes["data-bbox"] ?? "").match(/-?\d+(?:\.\d+)?/g)?.map(Number);
  return { type, markdown: toMarkdown(node, type, bullet), box: box?.length === 4 ? box : null };
}

function toMarkdown(node, type, bullet) {
  if ((type === "table" || type === "chart") && contains(node, "table")) return table(contains(node, "table"));
  const text = textOf(node);
  if (type in FENCES) return `\`\`\`\`${FENCES[type]}\n${text.trim()}\n\`\`\`\``;
  if (type === "formula")
    return `$$\n${text.trim().replace(/^(?:\$\$?|\\\[|\\\()\s*|\s*(?:\$\$?|\\\]|\\\))$/g, "")}\n$$`;
  if (type === "image") return `![${escaped(tidy(text) || contains(node, "img")?.attributes.alt || "")}]()`;
  const line = escaped(tidy(text));
  if (type === "heading") return `${"#".repeat(Number(node.tag[1] ?? 2))} ${line}`;
  return type === "li" ? `${bullet} ${line}` : line;
}

function table(node) {
  const rows = findAll(node, "tr").map((row) => row.children.filter((cell) => cell.tag === "td" || cell.tag === "th"));
  const lines = rows.map(
    (row) => `| ${row.map((cell) => escaped(tidy(textOf(cell))).replaceAll("|", "\\|")).join(" | ")} |`,
  );
  if (!lines.length) return "";
  return [lines[0], `|${" --- |".repeat(rows[0].length)}`, ...lines.slice(1)].join("\n");
}

const tidy = (text) => text.replace(/\s+/g, " ").trim();
const escaped = (text) => text.replace(/[\\`*_[\]<]/g, "\\$&");
const textOf = (node) =>
  typeof node === "string" ? node : node.tag === "br" ? "\n" : node.children.map(textOf).join("");
const contains = (node, tag) => (node.tag === tag ? node : findAll(node, tag)[0]);

function findAll(node, tag) {
  return node.children.flatMap((child) =>
    typeof child === "string" ? [] : child.tag === tag ? [child] : findAll(child, tag),
  );
}
