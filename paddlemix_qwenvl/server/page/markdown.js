// Markdown as nodes. A link goes to http(s) alone, a picture is its caption, a formula stays LaTeX.

import { element } from "./dom.js";

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([\w+-]*)/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const BULLET = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const DASHES = /^\s*\|?\s*:?-{2,}:?\s*(?:\|\s*:?-{2,}:?\s*)*\|?\s*$/;
const BARE_JSON = /^\s*(?:\[\s*[[{"]|\{\s*")/;
// The order decides: code goes before all else, a bare address last.
const INLINE = new RegExp(
  [
    "(?<code>`+)(?<codeText>[\\s\\S]*?[^`])\\k<code>(?!`)",
    "\\\\(?<escaped>[\\\\`*_{}[\\]()#+.!|<>~$-])",
    "<ref>(?<mention>[\\s\\S]*?)(?:</ref>|$)",
    "<\\|object_ref_start\\|>(?<mention2>[\\s\\S]*?)(?:<\\|object_ref_end\\|>|$)",
    "(?<places><\\|?(?:box|quad)(?:_start\\|)?>[^<]*(?:<(?:/|\\|)(?:box|quad)(?:_end\\|)?>|$))",
    "\\*\\*(?<strong>[^\\s*](?:[\\s\\S]*?[^\\s])?)\\*\\*",
    "\\*(?<em>[^\\s*](?:[^*]*[^\\s*])?)\\*",
    "(?<![A-Za-z0-9_])_(?<em2>[^\\s_](?:[^_]*[^\\s_])?)_(?![A-Za-z0-9_])",
    "~~(?<del>[^~]+)~~",
    "!\\[(?<caption>(?:[^\\]\\\\]|\\\\.)*)\\]\\([^)]*\\)",
    "\\[(?<link>(?:[^\\]\\\\]|\\\\.)+)\\]\\((?<target>[^\\s()]+)\\)",
    "(?<address>https?://[^\\s<>\"'）】]+[^\\s<>\"'.,;:!?）】])",
  ].join("|"),
  "g",
);

/** Shows `text` in `parent`; blocks that have not changed since the last call keep their nodes. */
export function showMarkdown(parent, text) {
  const sources = split(text);
  sources.forEach((source, i) => {
    const old = parent.children[i];
    if (old?.markdownSource === source) return;
    const node = nodeOf(source);
    node.markdownSource = source;
    if (old) old.replaceWith(node);
    else parent.append(node);
  });
  while (parent.children.length > sources.length) parent.lastElementChild.remove();
}

/** The sources of the blocks of a text. */
function split(text) {
  const lines = text.replace(/\r\n?/g, "\n").split("\n");
  const blocks = [];
  for (let i = 0; i < lines.length;) {
    const end = lines[i].trim() ? blockEnd(lines, i) : i + 1;
    if (lines[i].trim()) blocks.push(lines.slice(i, end).join("\n"));
    i = end;
  }
  return blocks;
}

function blockEnd(lines, start) {
  const line = lines[start];
  const from = (test) => {
    const found = lines.slice(start + 1).findIndex(test);
    return found < 0 ? lines.length : start + 1 + found;
  };
  const fence = line.match(FENCE);
  if (fence)
    return (
      from((one) => one.trim().startsWith(fence[1]) && !one.trim().slice(fence[1].length).replaceAll(fence[1][0], "")) +
      1
    );
  if (line.trim() === "$$" || line.trim() === "\\[")
    return from((one) => one.trim() === "$$" || one.trim() === "\\]") + 1;
  if (HEADING.test(line) || RULE.test(line)) return start + 1;
  if (isTable(lines, start)) return from((one) => !one.includes("|"));
  if (BULLET.test(line))
    return from((one, i) =>
      !one.trim()
        ? !/^\s+\S/.test(lines[start + 2 + i] ?? "") && !BULLET.test(lines[start + 2 + i] ?? "")
        : opens(lines, start + 1 + i),
    );
  if (line.startsWith(">")) return from((one) => !one.startsWith(">"));
  return from((one, i) => !one.trim() || opens(lines, start + 1 + i) || BULLET.test(one) || one.startsWith(">"));
}

const isTable = (lines, i) => lines[i].includes("|") && DASHES.test(lines[i + 1] ?? "") && lines[i + 1].includes("-");
const opens = (lines, i) => FENCE.test(lines[i]) || HEADING.test(lines[i]) || RULE.test(lines[i]) || isTable(lines, i);

/** A block that is nested beyond all measure is shown as it was written. */
function nodeOf(source) {
  try {
    return blockNode(source);
  } catch (error) {
    if (error instanceof RangeError) return code(source, "");
    throw error;
  }
}

function blockNode(source) {
  const lines = source.split("\n");
  const [line] = lines;
  const fence = line.match(FENCE);
  if (fence)
    return code(
      lines.slice(1, lines.length > 1 && lines.at(-1).trim().startsWith(fence[1]) ? -1 : undefined).join("\n"),
      fence[2],
    );
  if (BARE_JSON.test(source)) return code(source, "json");
  if (line.trim() === "$$" || line.trim() === "\\[")
    return element(
      "pre",
      { className: "formula" },
      lines
        .slice(1)
        .join("\n")
        .replace(/\n?(?:\$\$|\\\])$/, ""),
    );
  const heading = line.match(HEADING);
  if (heading)
    return element(
      `h${Math.min(6, heading[1].length + 2)}`,
      { className: `level-${heading[1].length}` },
      ...inline(heading[2]),
    );
  if (RULE.test(line)) return element("hr");
  if (isTable(lines, 0)) return table(lines);
  if (BULLET.test(line)) return list(lines);
  if (line.startsWith(">")) {
    const quote = element("blockquote");
    showMarkdown(quote, lines.map((one) => one.replace(/^> ?/, "")).join("\n"));
    return quote;
  }
  return element("p", {}, ...inline(source.trim()));
}

function code(text, language) {
  return element("pre", { className: "code", tabIndex: 0, dataset: { language } }, element("code", {}, text));
}

function table(lines) {
  const cells = (line) =>
    line
      .trim()
      .replace(/^\||\|$/g, "")
      .split(/(?<!\\)\|/)
      .map((cell) => cell.trim());
  const row = (tag, line) => element("tr", {}, ...cells(line).map((cell) => element(tag, {}, ...inline(cell))));
  const body = element("tbody", {}, ...lines.slice(2).map((line) => row("td", line)));
  return element(
    "div",
    { className: "wide", tabIndex: 0 },
    element("table", {}, element("thead", {}, row("th", lines[0])), body),
  );
}

/** A list; lines that stand further in than its first bullet belong to the item above them. */
function list(lines) {
  const [, indent, mark] = lines[0].match(BULLET);
  const items = [];
  for (const line of lines) {
    const bullet = line.match(BULLET);
    if (bullet && bullet[1].length <= indent.length + 1) items.push([bullet[3]]);
    else
      items.at(-1).push(line.slice(Math.min(line.length - line.trimStart().length, indent.length + mark.length + 1)));
  }
  const ordered = /\d/.test(mark);
  const node = element(ordered ? "ol" : "ul", ordered ? { start: parseInt(mark, 10) } : {});
  for (const [head, ...rest] of items) {
    const item = element("li", {}, ...inline(head));
    const inner = element("div");
    showMarkdown(inner, rest.join("\n"));
    item.append(...inner.childNodes);
    node.append(item);
  }
  return node;
}

/** The nodes of a line. */
function inline(text) {
  const nodes = [];
  let at = 0;
  for (const match of text.matchAll(INLINE)) {
    nodes.push(text.slice(at, match.index), inlineNode(match.groups));
    at = match.index + match[0].length;
  }
  return [...nodes, text.slice(at)].filter((node) => node !== "");
}

function inlineNode(found) {
  if (found.code) return element("code", {}, found.codeText.trim());
  if (found.escaped) return found.escaped;
  const mention = found.mention ?? found.mention2;
  if (mention !== undefined)
    return element("span", { className: "mention", dataset: { mention: mention.trim() } }, mention.trim());
  if (found.places) return "";
  if (found.strong) return element("strong", {}, ...inline(found.strong));
  if (found.em ?? found.em2) return element("em", {}, ...inline(found.em ?? found.em2));
  if (found.del) return element("del", {}, ...inline(found.del));
  if (found.caption !== undefined) return element("span", { className: "caption" }, ...inline(found.caption));
  const address = found.address ?? found.target;
  const words = found.address ? [address] : inline(found.link);
  if (!/^https?:\/\//i.test(address)) return element("span", {}, ...words);
  return element("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, ...words);
}
