// The turns of a conversation as nodes.

import { isDocument, preamble, readDocument } from "./document.js";
import { copyButton, element, icon, iconButton } from "./dom.js";
import { Figure } from "./figure.js";
import { locate } from "./located.js";
import { showMarkdown } from "./markdown.js";
import { address } from "./media.js";
import { number, words } from "./words.js";

/** A picture or video as it was given. One that the browser cannot show is its name. */
export function thumbnail(medium, controls) {
  const name = () =>
    element("span", { className: "file" }, icon(medium.kind === "video" ? "film" : "attach"), medium.name);
  const properties = { src: address(medium.blob), onerror: () => node.replaceWith(name()) };
  const node =
    medium.kind === "video"
      ? element("video", {
          ...properties,
          controls,
          muted: true,
          preload: "metadata",
          playsInline: true,
          ariaLabel: medium.name,
        })
      : element("img", { ...properties, alt: medium.name });
  return node;
}

/** A question. */
export function questionNode(turn) {
  const media = turn.media.length
    ? [element("div", { className: "media" }, ...turn.media.map((medium) => thumbnail(medium, true)))]
    : [];
  const text = turn.text ? [element("p", { className: "text" }, turn.text)] : [];
  return element("article", { className: "question", ariaLabel: words("you") }, ...media, ...text);
}

/** An answer that may still be arriving: `show` brings the node up to date with its turn. */
export class Answer {
  /** pictures: those of the prompt, in its order. */
  constructor(turn, pictures, { again, asCode }) {
    this.turn = turn;
    this.pictures = pictures;
    this.acts = { again, asCode };
    this.figures = new Map();
    this.figureList = element("div", { className: "figures" });
    this.text = element("div", { className: "prose" });
    this.error = element("p", { className: "error", hidden: true });
    this.foot = element("footer");
    this.node = element(
      "article",
      { className: "answer", ariaLabel: words("answer") },
      this.figureList,
      this.text,
      this.error,
      this.foot,
    );
    for (const [name, lit] of [
      ["pointerover", true],
      ["pointerout", false],
    ])
      this.text.addEventListener(name, ({ target }) => this.lightMention(target, lit));
  }

  lightMention(target, lit) {
    if (target.dataset.mention === undefined) return;
    for (const figure of this.figures.values()) figure.lightLabel(lit ? target.dataset.mention : null);
  }

  show({ running, last }) {
    const { turn } = this;
    const page = turn.pictures[turn.image] && isDocument(turn.text);
    if (page) this.showFigures([[turn.image, this.blocks()]]);
    else this.showFigures(grouped(turn.items ?? locate(turn.text, turn.pictures, turn.image)));
    this.node.classList.toggle("running", running);
    this.node.ariaBusy = running;
    this.node.classList.toggle("located", this.figures.size > 0);
    showMarkdown(this.text, page ? preamble(turn.text) : turn.text);
    if (running) for (const code of this.text.querySelectorAll(".code")) code.scrollTop = code.scrollHeight;
    this.error.textContent = turn.error ?? "";
    this.error.hidden = !turn.error;
    this.showFoot(running, last);
  }

  blocks() {
    const { text, image, pictures } = this.turn;
    return readDocument(text, pictures[image]).map((block) => ({ ...block, kind: "box", label: block.type }));
  }

  showFigures(groups) {
    for (const [image, entries] of groups) {
      if (!this.pictures[image]) continue;
      if (!this.figures.has(image)) {
        const title = this.pictures.length > 1 ? words("pictureNumber", { n: image + 1 }) : "";
        const figure = new Figure(this.pictures[image], title);
        this.figures.set(image, figure);
        this.figureList.append(figure.node);
      }
      this.figures.get(image).show(entries, this.turn.pictures[image]?.size);
    }
    const images = groups.map(([image]) => image);
    for (const [image, figure] of this.figures)
      if (!images.includes(image)) {
        figure.node.remove();
        this.figures.delete(image);
      }
  }

  showFoot(running, last) {
    const { turn } = this;
    if (running) {
      if (!this.foot.querySelector(".working")) this.foot.replaceChildren(element("span", { className: "working" }));
      return;
    }
    const copy = copyButton(words("copyText"), () => turn.text);
    const code = iconButton("code", words("asCode"), this.acts.asCode);
    const again = last ? [iconButton("again", words("regenerate"), this.acts.again)] : [];
    const facts = element("span", { className: "facts" }, this.facts().join(" · "));
    this.foot.replaceChildren(...(turn.text ? [copy] : []), code, ...again, facts);
  }

  facts() {
    const { finish, seconds, usage } = this.turn;
    const found = [];
    if (finish === "length") found.push(words("cutOff"));
    if (finish === "stopped") found.push(words("stopped"));
    if (seconds) found.push(words("seconds", { n: number(seconds, 1) }));
    if (usage) {
      const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
      found.push(
        words("usage", {
          prompt: number(usage.prompt_tokens),
          cached: number(cached),
          completion: number(usage.completion_tokens),
        }),
      );
    }
    return found;
  }
}

/** [[image, items]] in the order of the pictures. */
function grouped(items) {
  const groups = new Map();
  for (const item of items) groups.set(item.image, [...(groups.get(item.image) ?? []), item]);
  return [...groups].sort(([a], [b]) => a - b);
}
