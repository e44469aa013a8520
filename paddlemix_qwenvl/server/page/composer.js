// Where questions are written, and pictures and videos are given.

import { element, iconButton } from "./dom.js";
import { accept, filesOf } from "./media.js";
import { thumbnail } from "./turns.js";
import { words } from "./words.js";

const byId = (id) => document.getElementById(id);
const question = byId("question");
const attached = byId("attached");
const send = byId("send");

export class Composer {
  /** ask(text, media) and stop() are called. */
  constructor({ ask, stop }) {
    this.media = [];
    this.acts = { ask, stop };
    this.running = false;
    byId("composer").addEventListener("submit", (event) => this.submit(event));
    question.addEventListener("keydown", (event) => this.key(event));
    question.addEventListener("input", () => this.grow());
    for (const [button, input] of [
      ["attach", "files"],
      ["photograph", "camera"],
    ]) {
      byId(button).addEventListener("click", () => byId(input).click());
      byId(input).addEventListener("change", ({ target }) => {
        this.add(target.files);
        target.value = "";
      });
    }
    document.addEventListener("paste", (event) => {
      const files = filesOf(event.clipboardData);
      if (!files.length || event.clipboardData.getData("text/plain")) return; // office programs add a picture of their text
      event.preventDefault();
      this.add(files);
    });
    this.takeDrops(byId("drop"));
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.running && !document.querySelector("dialog[open]")) stop();
    });
  }

  takeDrops(veil) {
    const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
    document.addEventListener("dragover", (event) => {
      if (!carriesFiles(event)) return;
      event.preventDefault();
      veil.hidden = false;
    });
    document.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) veil.hidden = true;
    });
    document.addEventListener("drop", (event) => {
      veil.hidden = true;
      if (!carriesFiles(event)) return;
      event.preventDefault();
      this.add(filesOf(event.dataTransfer));
    });
  }

  key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!this.running) this.submit(event);
  }

  submit(event) {
    event.preventDefault();
    if (this.running) return this.acts.stop();
    const text = question.value.trim();
    if (!text && !this.media.length) return;
    const { media } = this;
    this.set("", []);
    this.acts.ask(text, media);
  }

  add(files) {
    const { media, refused } = accept(files);
    this.set(question.value, [...this.media, ...media]);
    this.notice(refused.length ? words("notMedia", { names: refused.join(", ") }) : "");
    question.focus();
  }

  set(text, media) {
    this.media = media;
    question.value = text;
    this.grow();
    this.show();
  }

  /** Says why something did not go. */
  notice(text) {
    byId("notice").textContent = text;
    byId("notice").hidden = !text;
  }

  show() {
    attached.hidden = !this.media.length;
    attached.replaceChildren(
      ...this.media.map((medium) => {
        const remove = () =>
          this.set(
            question.value,
            this.media.filter((one) => one !== medium),
          );
        return element(
          "li",
          {},
          thumbnail(medium, false),
          iconButton("close", words("remove", { name: medium.name }), remove),
        );
      }),
    );
    const label = words(this.running ? "stop" : "send");
    send.ariaLabel = send.title = label;
    send.querySelector("use").setAttribute("href", this.running ? "#icon-stop" : "#icon-send");
  }

  setRunning(running) {
    if (this.running === running) return;
    this.running = running;
    this.show();
  }

  grow() {
    question.style.height = "auto";
    question.style.height = `${question.scrollHeight}px`;
  }
}
