// The page: puts its parts together.

import * as api from "./api.js";
import * as chat from "./chat.js";
import { showCode } from "./code_dialog.js";
import { Composer } from "./composer.js";
import { element } from "./dom.js";
import { showHistory } from "./history.js";
import { bindForm, change, isDark, settings, showTheme, switchTheme } from "./settings.js";
import * as store from "./store.js";
import { Answer, questionNode } from "./turns.js";
import { number, otherLanguage, setLanguage, words } from "./words.js";

const SAMPLE = "page/sample.png";
const byId = (id) => document.getElementById(id);
const scroller = byId("scroller");

let conversations = [];
let current = chat.newConversation();
let shown = null; // the last answer's Answer
let drawing = 0;
let heldAt = 0; // where the page itself has scrolled to

const composer = new Composer({ ask: askQuestion, stop: () => chat.stop(current) });

// ---- asking

function askQuestion(text, media) {
  chat.addQuestion(current, text, media);
  conversations = [current, ...conversations.filter((one) => one !== current)];
  run();
}

function regenerate() {
  chat.takeBack(current);
  run();
}

function run() {
  const conversation = current;
  const turn = conversation.turns.at(-1);
  composer.notice("");
  const answered = chat.ask(conversation, settings.model, () => conversation === current && schedule());
  openAtEnd(conversation);
  say(words("answering"));
  const names = () => (turn.items?.length ? turn.items.map((item) => item.label || item.text).join(", ") : turn.text);
  answered.then(() => say(turn.error ?? words("finished", { text: names() })));
}

/** Brings the page up to date before it is next painted. */
function schedule() {
  cancelAnimationFrame(drawing);
  drawing = requestAnimationFrame(() => {
    const following =
      scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 80 || heldAt === scroller.scrollTop;
    const running = chat.isRunning(current);
    shown?.show({ running, last: true });
    composer.setRunning(running);
    if (!running) composer.notice(chat.notKept());
    if (following) scrollToEnd();
  });
}

/** The end of the text, but no further than keeps the last question in view above its picture. */
function scrollToEnd() {
  const question = byId("turns").lastElementChild?.previousElementSibling;
  const most = shown?.figures.size ? question.offsetTop - 24 : Infinity;
  scroller.scrollTop = Math.min(scroller.scrollHeight, most);
  heldAt = scroller.scrollTop;
}

/** Tells those who do not see the page. */
const say = (text) => (byId("said").textContent = text);

// ---- conversations

function openConversation(conversation) {
  current = conversation;
  shown = null;
  const last = conversation.turns.length - 1;
  const nodes = conversation.turns.map((turn, i) => {
    if (turn.role === "user") return questionNode(turn);
    const asCode = () => showCode(conversation, i, settings.model);
    const answer = new Answer(turn, chat.picturesBefore(conversation, i).pictures, { again: regenerate, asCode });
    answer.show({ running: chat.isRunning(conversation) && i === last, last: i === last });
    if (i === last) shown = answer;
    return answer.node;
  });
  byId("turns").replaceChildren(...nodes);
  byId("welcome").hidden = nodes.length > 0;
  composer.setRunning(chat.isRunning(conversation));
  showConversations();
  showSidebar(false);
}

function showConversations() {
  showHistory(byId("history"), conversations, current, { open: openAtEnd, remove: removeConversation });
  byId("clear-history").hidden = !conversations.length;
}

function openAtEnd(conversation) {
  openConversation(conversation);
  scrollToEnd();
}

async function removeConversation(conversation) {
  conversations = conversations.filter((one) => one !== conversation);
  await chat.forget(conversation);
  if (conversation === current) startConversation();
  else showConversations();
}

async function removeAll() {
  if (!confirm(words("sureAll"))) return;
  await Promise.all(conversations.map(chat.forget));
  conversations = [];
  startConversation();
}

function startConversation() {
  openConversation(chat.newConversation());
  byId("question").focus();
}

// ---- the server

async function watchServer() {
  const { state, progress } = await api.health().catch(() => ({ state: "unreachable" }));
  const saying = {
    loading: words("loading", { n: number((progress ?? 0) * 100) }),
    ready: "",
    draining: words("draining"),
    failed: words("failed"),
    stuck: words("stuck"),
    unreachable: words("unreachable"),
  };
  byId("server").textContent = saying[state] ?? "";
  if (state === "ready")
    showModels().catch((error) => composer.notice(error.status === 401 ? chat.keyRefused() : error.message));
  else setTimeout(watchServer, 1000);
}

async function showModels() {
  const names = await api.models(settings.api_key);
  composer.notice("");
  if (!names.includes(settings.model)) change({ model: names[0] });
  byId("model").replaceChildren(
    ...names.map((name) => element("option", { value: name, selected: name === settings.model }, name)),
  );
}

// ---- the frame

function showSidebar(open) {
  document.body.classList.toggle("sidebar-open", open);
  byId("shade").hidden = !open;
  byId("menu").ariaExpanded = open;
}

function showWords() {
  setLanguage(settings.language);
  showOtherTheme();
  byId("suggestions").replaceChildren(
    ...words("suggestions").map((text, i) => {
      const sample =
        i === 0
          ? [element("span", { className: "note" }, words("sample")), element("img", { src: SAMPLE, alt: "" })]
          : [];
      return element(
        "li",
        {},
        element("button", { type: "button", onclick: () => suggest(text, i === 0) }, text, ...sample),
      );
    }),
  );
  composer.show();
  openConversation(current);
}

async function suggest(text, withSample) {
  composer.set(text, composer.media);
  byId("question").focus();
  if (!withSample || composer.media.length) return;
  const blob = await (await fetch(SAMPLE)).blob();
  composer.add([new File([blob], "shapes.png", { type: "image/png" })]);
}

function bindFrame() {
  byId("new-chat").onclick = startConversation;
  byId("clear-history").onclick = removeAll;
  byId("menu").onclick = () => showSidebar(!document.body.classList.contains("sidebar-open"));
  byId("shade").onclick = () => showSidebar(false);
  byId("open-settings").onclick = () => byId("settings").showModal();
  byId("switch-theme").onclick = () => {
    switchTheme();
    showOtherTheme();
  };
  byId("switch-language").onclick = () => {
    change({ language: otherLanguage() });
    showWords();
  };
  byId("model").onchange = ({ target }) => change({ model: target.value });
  document.addEventListener("keydown", ({ key }) => key === "Escape" && showSidebar(false));
  for (const dialog of document.querySelectorAll("dialog"))
    dialog.onclick = ({ target }) => {
      if (target === dialog || target.closest("[data-close]")) dialog.close();
    };
  bindForm(byId("settings-form"), (name) => name === "api_key" && watchServer());
}

/** The switch says what it would show. */
const showOtherTheme = () => (byId("other-theme").textContent = words(isDark() ? "light" : "dark"));

showTheme();
bindFrame();
showWords();
watchServer();
conversations = await store.all().catch(() => []);
showConversations();
