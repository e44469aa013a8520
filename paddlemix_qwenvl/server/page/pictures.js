// Which of several pictures an answer means: `grounding/images.py` for an answer that is still arriving.

const ORDINALS = new Map([
  ..."first second third fourth fifth sixth seventh eighth ninth tenth".split(" ").map((word, i) => [word, i + 1]),
  ...[..."一二三四五六七八九十"].map((word, i) => [word, i + 1]),
]);
const WORDS = [...ORDINALS.keys()].filter((word) => /[a-z]/.test(word)).join("|");
const MENTION = [
  String.raw`(?<![A-Za-z])(?:picture|image|photo|pic|img)[ _#]*(?<number>[0-9]{1,4})(?![0-9])`,
  String.raw`(?:图片?|图像)\s*(?<figure>[0-9]{1,4})(?![0-9])`,
  String.raw`第\s*(?<nth>[0-9]{1,4}|[一二三四五六七八九十])\s*[张幅个]?\s*(?:图片|图像|图|照片)`,
  String.raw`(?<![A-Za-z])(?<word>${WORDS})\s+(?:picture|image|photo)`,
].join("|");
const MENTIONS = new RegExp(MENTION, "gi");
const NAME = new RegExp(`^(?:${MENTION})$`, "i");
const KEY = /^(?:image|img|picture|pic|photo|图片?|图像)(?:[ _-]?(?:index|idx|id|no|number))?$/i;

function numberOf({ groups }) {
  const word = Object.values(groups).find((value) => value !== undefined).toLowerCase();
  return ORDINALS.get(word) ?? Number(word);
}

/** [{start, number}] of every picture that a text names ("Picture 2", "the second image", "第二张图"). */
export const mentions = (text) =>
  [...text.matchAll(MENTIONS)].map((match) => ({ start: match.index, number: numberOf(match) }));

/** The number in a text that is nothing but a picture's name, or undefined. */
export function namedPicture(text) {
  const match = NAME.exec(text.trim());
  return match ? numberOf(match) : undefined;
}

/** The number of the picture that a JSON object names in a key such as `image`, `image_index` or `picture`, or undefined. */
export function pictureKey(value) {
  for (const [key, content] of Object.entries(value)) {
    if (!KEY.test(key)) continue;
    if (Number.isInteger(content)) return content;
    if (typeof content === "string") return /^[0-9]{1,4}$/.test(content) ? Number(content) : namedPicture(content);
  }
  return undefined;
}
