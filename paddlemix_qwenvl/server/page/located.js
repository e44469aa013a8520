// What an answer points at, read while it arrives. The server's own reading (`delta.grounding`) replaces it at the end.

import { isCut, readJson } from "./loose_json.js";
import { mentions, namedPicture, pictureKey } from "./pictures.js";

const GRID = [1000, 1000]; // of the tags of Qwen-VL and Qwen2-VL
const KINDS = new Map([
  ...["bbox_2d", "bbox", "box_2d", "box"].map((key) => [key, "box"]),
  ...["point_2d", "point", "points"].map((key) => [key, "point"]),
  ...["polygon", "polygon_2d", "quad", "quad_2d"].map((key) => [key, "polygon"]),
]);
const LABELS = ["label", "name", "category", "class"];
const TEXTS = ["text_content", "text"];
const BETWEEN_BOXES = /^[\s,;:()，；：（）、]*$/;
const NUMBERS = /-?\d+(?:\.\d+)?/g;
const MOST = 500; // items that are drawn
const TAGS =
  /<(?:\|object_)?ref(?:_start\|)?>([\s\S]*?)<(?:\/|\|object_)ref(?:_end\|)?>|<\|?(box|quad)(?:_start\|)?>([^<]*)<(?:\/|\|)\2(?:_end\|)?>/g;

/**
 * [{kind, label, text, coords, image}] in the pixels of the pictures as they were given.
 *
 * text: an answer, or the beginning of one.
 * pictures: those of the prompt, {size, grid}: [width, height] as given, and of what coordinates count on.
 * image: index of the picture that is meant where neither JSON (`"image": 2`) nor the text before ("Picture 2") names one.
 */
export function locate(text, pictures, image) {
  if (!pictures[image]) return [];
  const tags = [...text.matchAll(TAGS)].map((match) => ({ match, start: match.index, end: match.index + match[0].length }));
  const values = readJson(text);
  const found = [...fromTags(text, tags), ...fromJson(values)].sort((a, b) => a.start - b.start);
  const several = pictures.length > 1;
  const meant = several ? pictureOf(text, [...tags, ...values], found, pictures.length, image) : () => image;
  const placed = found.filter((one) => pictures[meant(one)] && !(several && one.unsettled));
  return placed.slice(0, MOST).map((one) => toItem(one, pictures[meant(one)], meant(one)));
}

/** Tells the index of the picture that a shape is in, by itself or by the prose, which is what is in none of `spans`. Numbers
 * count from 1, or from 0 in an answer that uses 0. */
function pictureOf(text, spans, found, count, image) {
  const named = mentions(text).filter(({ start: at }) => !spans.some(({ start, end }) => start <= at && at < end));
  const base = [...named.map(({ number }) => number), ...found.map(({ picture }) => picture)].includes(0) ? 0 : 1;
  const known = named.filter(({ number }) => number >= base && number - base < count);
  return ({ start, picture }) =>
    (picture ?? known.findLast((mention) => mention.start < start)?.number ?? image + base) - base;
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

function fromTags(text, tags) {
  const found = [];
  let label = "";
  let before = 0;
  for (const { match, start, end } of tags) {
    if (!BETWEEN_BOXES.test(text.slice(before, start))) label = "";
    before = end;
    if (match[1] !== undefined) {
      label = match[1].trim();
      continue;
    }
    const numbers = numbersOf(match[3]);
    const step = match[2] === "box" ? 4 : 8;
    const kind = numbers.length === 2 ? "point" : { 4: "box", 8: "polygon" }[step];
    for (let i = 0; i + Math.min(step, numbers.length) <= numbers.length && numbers.length > 1; i += step)
      found.push({ start, kind, label, text: "", coords: numbers.slice(i, i + step), grid: GRID });
  }
  return found;
}

function fromJson(values) {
  return values.flatMap(({ value, start }) => [...walk(value, "")].map((shape) => ({ start, ...shape })));
}

/** The shapes in a value under the key `name`. Those of an object that may still name their picture are not settled. */
function* walk(value, name, picture) {
  if (Array.isArray(value)) {
    for (const child of value) yield* walk(child, Array.isArray(child) ? name : "", picture);
    if (value.length === 4 && value.every(Number.isFinite))
      yield { kind: "box", label: name, text: "", coords: value, picture };
  } else if (value !== null && typeof value === "object") {
    const label = first(value, LABELS) || name;
    const text = first(value, TEXTS);
    const here = pictureKey(value) ?? picture;
    const unsettled = isCut(value) && here === undefined;
    let own = false;
    for (const [key, child] of Object.entries(value))
      for (const shape of KINDS.has(key) ? shapes(child, KINDS.get(key)) : []) {
        own = true;
        yield { label, text, picture: here, unsettled, ...shape };
      }
    for (const [key, child] of Object.entries(value))
      if (!KINDS.has(key) && !(own && numbersOf(child).length)) {
        const named = namedPicture(key);
        yield* walk(child, named === undefined ? key : "", named ?? here);
      }
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
