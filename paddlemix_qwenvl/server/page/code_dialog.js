// The dialog that shows a request as code.

import { asCurl, asPython } from "./code.js";
import { copyButton, element } from "./dom.js";
import { settings } from "./settings.js";
import { words } from "./words.js";

const KINDS = { Python: asPython, curl: asCurl };
const byId = (id) => document.getElementById(id);

/** Shows the request for the answer at `turns[end]` of `conversation`. */
export function showCode(conversation, end, model) {
  const base = new URL(".", location.href).href;
  const tabs = Object.entries(KINDS).map(([name, write]) => {
    const tab = element("button", { type: "button", role: "tab", onclick: () => choose(tab, write) }, name);
    return tab;
  });
  const choose = (tab, write) => {
    for (const one of tabs) {
      one.ariaSelected = one === tab;
      one.tabIndex = one === tab ? 0 : -1;
    }
    byId("code-text").textContent = write(conversation, end, settings, model, base);
  };
  byId("code-tabs").replaceChildren(...tabs);
  byId("code-tabs").onkeydown = ({ key }) => {
    if (key !== "ArrowLeft" && key !== "ArrowRight") return;
    const next = tabs[(tabs.indexOf(document.activeElement) + 1) % tabs.length];
    next.click();
    next.focus();
  };
  byId("copy-code").replaceChildren(copyButton(words("copy"), () => byId("code-text").textContent, { quiet: false }));
  tabs[0].click();
  byId("code").showModal();
}
