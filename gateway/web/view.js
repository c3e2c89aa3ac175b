/* The view of the page: the conversation's turns as DOM, and the controls around them.
   Above it: chat.js, which says what to show. It knows no network and no storage. Model output only ever becomes
   text nodes: nothing here parses HTML. */

import { contents, figures, remark, spoken, trouble, waitingFor } from "./answer.js";
import { hasEnded } from "./conversation.js";

const find = (selector, root = document) => root.querySelector(selector);

/** Text split at fenced code blocks: [{code: boolean, text}]. A fence still open runs to the end. */
function segments(text) {
  const parts = [];
  let fence = null;
  let lines = [];
  const close = () => {
    const joined = lines.join("\n");
    if (fence) parts.push({ code: true, text: joined });
    else if (joined.trim()) parts.push({ code: false, text: joined.replace(/^\n+/, "") });
    lines = [];
  };
  for (const line of text.split("\n")) {
    const mark = /^\s*(`{3,}|~{3,})\s*([^`\s]*)\s*$/.exec(line);
    const closes = fence && mark && !mark[2] && mark[1].startsWith(fence);
    if (!(fence ? closes : mark)) lines.push(line);
    else {
      close();
      fence = fence ? null : mark[1];
    }
  }
  close();
  return parts;
}

/** Makes `root` show `text`, touching only what changed, so that a selection in a growing answer survives. */
function showText(root, text) {
  const parts = segments(text);
  parts.forEach((part, i) => {
    const tag = part.code ? "PRE" : "P";
    let block = root.children[i];
    if (block?.tagName !== tag) {
      while (root.children.length > i) root.lastElementChild.remove();
      block = root.appendChild(document.createElement(tag));
      block.appendChild(document.createTextNode(""));
      if (part.code) block.tabIndex = 0; // a scroller must be reachable by keyboard
    }
    const node = block.firstChild;
    const grown = part.code ? part.text : part.text.trimEnd();
    if (grown.startsWith(node.data)) node.appendData(grown.slice(node.data.length));
    else node.data = grown;
  });
  while (root.children.length > parts.length) root.lastElementChild.remove();
}

function show(element, visible) {
  element.hidden = !visible;
}

export class View {
  #hooks;
  #items = new Map(); // turn id -> {element, turn}: the turn it shows, once that has ended
  #following = true;
  #top = 0;
  #frame = 0;
  #draw = () => {};

  /** Hooks: `send(text)`, `stop()`, `again()`, `reset()`, `key(text)`, `model(name)`. */
  constructor(hooks) {
    this.#hooks = hooks;
    this.#listen();
  }

  /** Draws at the next frame; `draw` calls `render`. */
  soon(draw) {
    this.#draw = draw;
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  /**
   * Shows `turns`. `streams` maps an answer's id to its JobStream, `delays` to the reason why its sending waits.
   * `keyPrompt`: null, or the reason why a key is required. `offered`: whether another key waits for a decision. `ready`: whether a
   * message could be sent.
   */
  render({ turns, streams, delays, keyPrompt, offered, ready }) {
    const last = turns.at(-1);
    const running = Boolean(last && last.role === "assistant" && !hasEnded(last));
    this.#renderTurns(turns, streams, delays);
    show(find("#welcome"), !turns.length);
    show(find("#examples"), !keyPrompt && !offered);
    show(find("#new"), turns.length > 0);
    show(find("#send"), !running);
    show(find("#stop"), running);
    find("#stop").disabled = last?.status === "stopping";
    find("#send").disabled = !ready;
    this.#renderKeyPrompt(keyPrompt, offered);
    const waiting = running ? waitingFor(last, streams.get(last.id), delays.get(last.id)) : "";
    const status = find("#status");
    const sentence = spoken(last, waiting);
    if (status.textContent !== sentence) status.textContent = sentence;
    if (this.#following) this.#toEnd();
  }

  /** Offers `names`; a single one needs no choice; without any, the name is typed. */
  offerModels(names, chosen) {
    const options = names.map((name) => new Option(name, name, name === chosen, name === chosen));
    find("#model").replaceChildren(...options);
    find("#model-name").value = chosen;
    show(find("#model"), names.length > 1);
    show(find("#model-name"), !names.length);
    show(find("#model-choice"), names.length !== 1);
  }

  /** A line above the composer, with an optional action; "" takes it away. */
  notify(text, action = "", act = null) {
    const notice = find("#notice");
    const button = find("button", notice);
    find("span", notice).textContent = text;
    button.textContent = action;
    button.onclick = act;
    show(button, Boolean(act));
    show(notice, Boolean(text));
  }

  /** Puts `text` into the composer. */
  draft(text) {
    const prompt = find("#prompt");
    prompt.value = text;
    this.#grow();
    prompt.focus();
  }

  follow() {
    this.#following = true;
    this.#toEnd();
  }

  #renderTurns(turns, streams, delays) {
    const list = find("#turns");
    const ids = new Set(turns.map(({ id }) => id));
    for (const [id, { element }] of this.#items) {
      if (ids.has(id)) continue;
      element.remove();
      this.#items.delete(id);
    }
    turns.forEach((turn, i) => {
      const isLast = i === turns.length - 1;
      const item = this.#items.get(turn.id) ?? this.#add(turn);
      if (list.children[i] !== item.element) list.insertBefore(item.element, list.children[i] ?? null);
      if (item.shown === turn && item.wasLast === isLast) return;
      if (turn.role === "user") showText(find(".words", item.element), turn.text);
      else this.#renderAnswer(item.element, turn, streams.get(turn.id), delays.get(turn.id), isLast);
      item.shown = turn.role === "user" || hasEnded(turn) ? turn : null;
      item.wasLast = isLast;
    });
  }

  #add(turn) {
    const template = find(turn.role === "user" ? "#question" : "#answer");
    const element = template.content.firstElementChild.cloneNode(true);
    const item = { element, shown: null, wasLast: false };
    this.#items.set(turn.id, item);
    if (turn.role === "assistant") {
      this.#acts(find(".again", element), this.#hooks.again);
      find(".copy", element).onclick = () => copy(item.shown.text, element);
    }
    return item;
  }

  #renderAnswer(element, turn, stream, delay, isLast) {
    const ended = hasEnded(turn);
    const { text, reasoning } = contents(turn, stream);
    const details = find(".reasoning", element);
    show(details, Boolean(reasoning));
    showText(find(".words", details), reasoning);
    find("summary", details).textContent = !ended && !text ? "Reasoning…" : "Reasoning";
    showText(find(":scope > .words", element), text);
    element.classList.toggle("live", !ended);

    const note = find(".note", element);
    note.textContent = ended ? remark(turn) : waitingFor(turn, stream, delay);
    show(note, Boolean(note.textContent));

    const problem = ended ? trouble(turn) : null;
    show(find(".trouble", element), Boolean(problem));
    find(".sentence", element).textContent = problem?.sentence ?? "";
    find(".code", element).textContent = problem?.code ?? "";
    show(find(".code", element), Boolean(problem?.code));
    show(find(".again", element), isLast);

    find(".figures", element).textContent = figures(turn, stream);
    show(find(".verified", element), turn.status === "completed" && turn.verified);
    show(find(".copy", element), ended && Boolean(text));
  }

  #renderKeyPrompt(keyPrompt, offered) {
    const form = find("#key-prompt");
    const composer = find("#composer");
    const asks = form.hidden && keyPrompt && !offered;
    const opens = composer.hidden && !keyPrompt && !offered;
    const offers = find("#switch").hidden && offered;
    // On a touch screen, focus at load would only bring up the keyboard.
    const focuses = opens && (!form.hidden || matchMedia("(pointer: fine)").matches);
    show(find("#switch"), offered);
    show(form, Boolean(keyPrompt) && !offered);
    show(composer, !keyPrompt && !offered);
    show(find("#hint"), !keyPrompt && !offered);
    if (keyPrompt) {
      find("#key-prompt-title").textContent = keyPrompt.title;
      find("#key-prompt-text").textContent = keyPrompt.text;
    }
    if (offers) find("#stay").focus();
    if (asks) find("#key").focus();
    if (focuses) find("#prompt").focus();
  }

  #listen() {
    const prompt = find("#prompt");
    prompt.addEventListener("input", () => this.#grow());
    prompt.addEventListener("keydown", (event) => {
      // Enter while an input method composes belongs to the input method.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      find("#composer").requestSubmit();
    });
    find("#composer").addEventListener("submit", (event) => {
      event.preventDefault();
      if (prompt.value.trim() && this.#hooks.send(prompt.value.trim())) this.draft("");
    });
    for (const button of document.querySelectorAll("#examples button")) {
      button.onclick = () => this.#hooks.send(button.textContent) || this.draft(button.textContent);
    }
    find("#key-prompt").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#hooks.key(find("#key").value.trim());
      find("#key").value = "";
    });
    find("#stay").onclick = () => this.#hooks.stay();
    find("#change").onclick = () => this.#hooks.change();
    find("#model-choice").addEventListener("input", (event) => this.#hooks.model(event.target.value.trim()));
    this.#acts(find("#stop"), this.#hooks.stop);
    this.#acts(find("#new"), this.#hooks.reset);
    find("#latest").onclick = () => this.follow();
    find("#scroller").addEventListener("scroll", () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => this.#following && this.#toEnd()).observe(find("#scroller"));
  }

  /** Any move up by the reader ends the following; reaching the end begins it again. */
  #scrolled() {
    const scroller = find("#scroller");
    const atEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 8;
    if (atEnd) this.#following = true;
    else if (scroller.scrollTop < this.#top) this.#following = false;
    this.#top = scroller.scrollTop;
    show(find("#latest"), !atEnd && !this.#following);
  }

  #toEnd() {
    const scroller = find("#scroller");
    scroller.scrollTop = scroller.scrollHeight;
    this.#top = scroller.scrollTop;
    show(find("#latest"), false);
  }

  /** A button that its own action removes: after a press by keyboard (detail 0) the focus moves to the composer. */
  #acts(button, act) {
    button.onclick = (event) => {
      act();
      if (event.detail === 0) find("#prompt").focus();
    };
  }

  #grow() {
    const prompt = find("#prompt");
    prompt.style.height = "auto";
    prompt.style.height = `${prompt.scrollHeight}px`;
  }
}

async function copy(text, element) {
  const button = find(".copy", element);
  if (navigator.clipboard) await navigator.clipboard.writeText(text);
  else {
    // Plain HTTP from another machine: no clipboard API, but the old command still works.
    getSelection().selectAllChildren(find(":scope > .words", element));
    document.execCommand("copy");
  }
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 1500);
}
