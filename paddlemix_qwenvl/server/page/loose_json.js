// JSON that is still arriving: what is there of it, wherever it stands in a text.

const BLANKS = /[\s,]*/y;
const NUMBER = /[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?/y;
const COLON = /\s*:/y;
const WORD = /true|false|null/y;
const ESCAPES = { n: "\n", t: "\t", r: "\r", b: "\b", f: "\f" };
const DEEPEST = 64;
const cut = new WeakSet();

/** Whether the text stopped in an object. */
export const isCut = (value) => cut.has(value);

/** A value, where it ends, and whether it is whole or the text stopped in it. */
class Reader {
  constructor(text) {
    this.text = text;
    this.at = 0;
    this.whole = true;
  }

  match(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found) this.at = pattern.lastIndex;
    return found?.[0];
  }

  /** The value at `at`, or undefined where there is none. */
  value(depth) {
    this.match(BLANKS);
    const sign = this.text[this.at];
    if (depth > DEEPEST) return undefined;
    if (sign === "{") return this.object(depth);
    if (sign === "[") return this.array(depth);
    if (sign === '"') return this.string();
    const word = this.match(WORD);
    if (word) return JSON.parse(word);
    const number = this.match(NUMBER);
    if (this.at === this.text.length) this.whole = false; // more digits may come
    return number !== undefined && this.whole ? Number(number) : undefined;
  }

  string() {
    let value = "";
    for (this.at += 1; this.at < this.text.length; this.at += 1) {
      const sign = this.text[this.at];
      if (sign === '"') {
        this.at += 1;
        return value;
      }
      if (sign !== "\\") value += sign;
      else value += this.escape();
    }
    this.whole = false;
    return value;
  }

  escape() {
    this.at += 1;
    const sign = this.text[this.at] ?? "";
    if (sign !== "u") return ESCAPES[sign] ?? sign;
    const digits = this.text.slice(this.at + 1, this.at + 5);
    this.at += digits.length;
    return /^[0-9a-fA-F]{4}$/.test(digits) ? String.fromCharCode(parseInt(digits, 16)) : "";
  }

  /** A list that is not whole counts for the objects in it: half a box is none. */
  array(depth) {
    const values = [];
    this.at += 1;
    for (let value = this.value(depth + 1); value !== undefined; value = this.whole ? this.value(depth + 1) : undefined)
      values.push(value);
    this.close("]");
    return this.whole || values.some(isObject) ? values : undefined;
  }

  object(depth) {
    const value = {};
    this.at += 1;
    while (this.whole) {
      this.match(BLANKS);
      if (this.text[this.at] !== '"') break;
      const key = this.string();
      if (!this.match(COLON)) break;
      const child = this.value(depth + 1);
      if (child === undefined) break;
      value[key] = child;
    }
    this.close("}");
    if (!this.whole) cut.add(value);
    return value;
  }

  close(sign) {
    if (this.whole && this.text[this.at] === sign) this.at += 1;
    else this.whole = false;
  }
}

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/** [{value, start, end}] of every JSON object and array in `text`, outermost ones, in order. */
export function readJson(text) {
  const found = [];
  const opening = /[{[]/g;
  for (let match; (match = opening.exec(text));) {
    const reader = new Reader(text);
    reader.at = match.index;
    found.push({ value: reader.value(0), start: match.index, end: reader.at });
    opening.lastIndex = Math.max(opening.lastIndex, reader.at);
  }
  return found;
}
