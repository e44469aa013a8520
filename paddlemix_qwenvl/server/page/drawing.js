// Shapes over a picture: their outlines and colours, and the picture with them as PNG.

// Seen on dark and on light pictures, apart from each other, and with black or white on them in a contrast of 4.5 and more.
const COLOURS = ["#da3521", "#0b7f58", "#2a6de0", "#f0ab12", "#9345ee", "#0a7d91", "#d4337f", "#8ec21f"];

/** The colour of the things that share a label, in the order in which labels first come. */
export function colours(entries) {
  const seen = new Map();
  return entries.map(({ label }) => {
    if (!seen.has(label)) seen.set(label, COLOURS[seen.size % COLOURS.length]);
    return seen.get(label);
  });
}

/** Black or white, whichever can be read on a colour (luma of ITU-R BT.601). */
export function inkOn(colour) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return 0.299 * red + 0.587 * green + 0.114 * blue > 150 ? "#111" : "#fff";
}

/** The outline as the data of an SVG path; a point is a line without length, which round ends make a dot. */
export function outline({ kind, coords }) {
  if (kind === "point") return `M${coords[0]} ${coords[1]}h0`;
  if (kind === "box") return `M${coords[0]} ${coords[1]}H${coords[2]}V${coords[3]}H${coords[0]}Z`;
  return `M${coords.reduce((path, value, i) => path + (i % 2 ? " " : i ? "L" : "") + value, "")}Z`;
}

/** (left, top, right, bottom) around a shape. */
export function extent({ coords }) {
  const [xs, ys] = [0, 1].map((side) => coords.filter((_, i) => i % 2 === side));
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}

/** A PNG of `image` (an HTMLImageElement) with the shapes of `entries` and their labels. */
export function drawn(image, entries, tints) {
  const factor = Math.max(1, Math.min(Math.ceil(640 / Math.max(image.naturalWidth, image.naturalHeight)), 4)); // or labels could not be read
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth * factor;
  canvas.height = image.naturalHeight * factor;
  const pen = canvas.getContext("2d");
  pen.drawImage(image, 0, 0, canvas.width, canvas.height);
  const size = Math.max(13, Math.sqrt(canvas.width * canvas.height) / 50);
  const line = Math.max(2, size / 6);
  pen.font = `600 ${size}px ${getComputedStyle(document.body).fontFamily}`;
  pen.textBaseline = "middle";
  pen.lineJoin = pen.lineCap = "round";
  entries.forEach((entry, i) => {
    const scaled = { ...entry, coords: entry.coords.map((value) => value * factor) };
    const path = new Path2D(outline(scaled));
    const dot = entry.kind === "point" ? 4 : 1;
    for (const [width, style] of [
      [line + 2, "rgb(0 0 0 / 45%)"],
      [line, tints[i]],
    ]) {
      pen.lineWidth = width * dot;
      pen.strokeStyle = style;
      pen.stroke(path);
    }
    if (entry.label) drawLabel(pen, entry.label, extent(scaled), size, tints[i]);
  });
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

function drawLabel(pen, label, [left, top], size, tint) {
  const room = pen.canvas.width - size;
  let text = label.replace(/\s+/g, " ");
  while (text.length > 1 && pen.measureText(text).width > room) text = `${text.slice(0, -2)}…`;
  const width = pen.measureText(text).width + size * 0.7;
  const height = size * 1.45;
  const x = Math.max(0, Math.min(left, pen.canvas.width - width));
  const y = top >= height ? top - height : top;
  pen.fillStyle = tint;
  pen.fillRect(x, y, width, height);
  pen.fillStyle = inkOn(tint);
  pen.fillText(text, x + size * 0.35, y + height / 2);
}
