// What an answer points at, read while it arrives. The server's own reading (`delta.grounding`) replaces it at the end.

import { readJson } from "./loose_json.js";

const GRID = [1000, 1000]; // of the tags of Qwen-VL and Qwen2-VL
const KINDS = new Map([
  ...["bbox_2d", "bbox", "box_2d", "box"].map((key) => [key, "box"]),
  ...["point_2d", "point", "points"].map((key) => [key, "point"]),
  ...["polygon", "polygon_2d", "quad", "quad_2d"].map((key) => [key, "polygon"]),
]);
const LABELS = ["label", "name", "category", "class"];
const TEXTS = ["text_content", "text"];
const NUMBERS = /-?\d+(?:\.\d+)?/g;
const MENTION = /(?:picture|image|photo|图片?|第)\s*(\d{1,4})(?!\d)/gi;
const MOST = 500; // items that are drawn
const TAGS =
  /<(?:\|object_)?ref(?:_start\|)?>([\s\S]*?)<(?:\/|\|object_)ref(?:_end\|)?>|<\|?(box|quad)(?:_start\|)?>([^<]*)<(?:\/|\|)\2(?:_end\|)?>/g;

/**
 * [{kind, label, text, coords, image}] in the pixels of the pictures as they were given.
 *
 * text: an answer, or the beginning of one.
 * pictures: those of the prompt, {size, grid}: [width, height] as given, and of what coordinates count on.
 * image: index of the picture that is meant where the text before does not name one ("Picture 2").
 */
export function locate(text, pictures, image) {
  if (!pictures[image]) return [];
  const found = [...fromTags(text), ...fromJson(text)].sort((a, b) => a.start - b.start);
  const mentions = pictures.length > 1 ? [...text.matchAll(MENTION)] : [];
  return found.slice(0, MOST).map((one) => {
    const named = Number(mentions.findLast((mention) => mention.index < one.start)?.[1]) - 1;
    const meant = pictures[named] ? named : image;
    return toItem(one, pictures[meant], meant);
  });
}

function toItem({ kind, label, text, coords, ...found }, picture, image) {
  const { size } = picture;
  const grid = found.grid ?? picture.grid;
  const scaled = coords.map((value, i) => {
    const pixels = (value * size[i % 2]) / grid[i % 2];
    return Math.round(Math.min(Math.max(pixels, 0), size[i % 2]) * 100) / 100;
  });
  return { kind, label, text, coords: kind === "box" ? ordered(scaled) : scaled, image };
}

function ordered([left, top, right, bottom]) {
  return [Math.min(left, right), Math.min(top, bottom), Math.max(left, right), Math.max(top, bottom)];
}

function fromTags(text) {
  const found = [];
  let label = "";
  for (const match of text.matchAll(TAGS)) {
    if (match[1] !== undefined) {
      label = match[1].trim();
      continue;
    }
    const numbers = numbersOf(match[3]);
    const step = match[2] === "box" ? 4 : 8;
    const kind = numbers.length === 2 ? "point" : { 4: "box", 8: "polygon" }[step];
    for (let i = 0; i + Math.min(step, numbers.length) <= numbers.length && numbers.length > 1; i += step)
      found.push({ start: match.index, kind, label, text: "", coords: numbers.slice(i, i + step), grid: GRID });
  }
  return found;
}

function fromJson(text) {
  const found = [];
  for (const { value, start } of readJson(text))
    for (const shape of walk(value, "")) found.push({ start, ...shape });
  return found;
}

function* walk(value, name) {
  if (Array.isArray(value)) {
    for (const child of value) yield* walk(child, Array.isArray(child) ? name : "");
    if (value.length === 4 && value.every(Number.isFinite)) yield { kind: "box", label: name, text: "", coords: value };
  } else if (value !== null && typeof value === "object") {
    const label = first(value, LABELS) || name;
    const text = first(value, TEXTS);
    let own = false;
    for (const [key, child] of Object.entries(value))
      for (const shape of KINDS.has(key) ? shapes(child, KINDS.get(key)) : []) {
        own = true;
        yield { label, text, ...shape };
      }
    for (const [key, child] of Object.entries(value))
      if (!KINDS.has(key) && !(own && numbersOf(child).length)) yield* walk(child, key);
  }
}

function first(value, keys) {
  const key = keys.find((name) => ["string", "number"].includes(typeof value[name]));
  return key ? String(value[key]) : "";
}

/** The shapes in the value of a coordinate's key: a flat list, one of corners, one of shapes, or a text of numbers. */
function shapes(value, kind) {
  const numbers = numbersOf(value);
  if (numbers.length) return shape(numbers, kind);
  if (!Array.isArray(value)) return [];
  const rows = value.map(numbersOf);
  if (kind !== "point" && rows.every((row) => row.length === 2)) return shape(rows.flat(), kind);
  return rows.flatMap((row) => shape(row, kind));
}

function shape(numbers, kind) {
  if (kind === "box" && numbers.length === 4) return [{ kind, coords: numbers }];
  if (!numbers.length || numbers.length % 2) return [];
  if (kind === "point" || numbers.length === 2)
    return numbers.flatMap((_, i) => (i % 2 ? [] : [{ kind: "point", coords: numbers.slice(i, i + 2) }]));
  return numbers.length >= 6 ? [{ kind: "polygon", coords: numbers }] : [];
}

function numbersOf(value) {
  if (typeof value === "string") return (value.match(NUMBERS) ?? []).map(Number);
  return Array.isArray(value) && value.every(Number.isFinite) ? value : [];
}
