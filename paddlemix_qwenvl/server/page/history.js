// The list of conversations at the side.

import { element, iconButton } from "./dom.js";
import { address } from "./media.js";
import { words } from "./words.js";

/** Shows the conversations in `list`; `open(conversation)` and `remove(conversation)` are called. */
export function showHistory(list, conversations, current, { open, remove }) {
  list.replaceChildren(
    ...conversations.map((conversation) => {
      const picture = conversation.turns.flatMap((turn) => turn.media ?? []).find((medium) => medium.kind === "image");
      const cover = picture
        ? element("img", { src: address(picture.blob), alt: "" })
        : element("span", { className: "blank" });
      const title = element("span", { className: "title" }, conversation.title || words("untitled"));
      const button = element(
        "button",
        { type: "button", className: "open", onclick: () => open(conversation) },
        cover,
        title,
      );
      if (conversation === current) button.ariaCurrent = "true";
      return element(
        "li",
        {},
        button,
        iconButton("delete", words("deleteOne"), () => remove(conversation)),
      );
    }),
  );
}
