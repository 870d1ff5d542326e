// Asks for the boards once a second while the page is seen; all that boards say goes in as text, never as markup.
const PERIOD_MS = 1000;
const WIDTH = 300, HEIGHT = 60;
const SERIES = 4;
const SVG = "http://www.w3.org/2000/svg";
const NO_POWER = "No power is read on this board: phasewatt-agent doctor says why.";
const items = new Map();  // boards by name
const keys = new WeakMap();  // what a part of a card said
let timer = null, asking = false;

function made(name, text, className) {
  const element = document.createElement(name);
  if (text !== undefined && text !== null) element.textContent = text;
  if (className) element.className = className;
  return element;
}

function drawn(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function watts(value) {
  return `${value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)} W`;
}

// A course from zero up, so that half the height is half the power; a gap where a value is missing.
function course(line, at, historySeconds) {
  const known = line.power_w.filter(value => value !== null);
  const most = Math.max(...known, 0);
  const picture = drawn("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img",
    "aria-label": known.length ? `${line.scope} power, at most ${watts(most)} in the last ${historySeconds / 60} minutes`
      : `${line.scope} power is not known`,
  });
  picture.append(drawn("line", {x1: 0, x2: WIDTH, y1: HEIGHT - .5, y2: HEIGHT - .5}));
  let path = "", before = null;
  line.power_w.forEach((value, index) => {
    const ago = line.ago_s[index];
    if (value !== null && ago <= historySeconds && most > 0) {
      const x = WIDTH * (1 - ago / historySeconds), y = (HEIGHT - 2) * (1 - value / most) + 1;
      path += `${before === null || before - ago > 5 ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`;
      before = ago;
    } else before = null;
  });
  if (path) picture.append(drawn("path", {d: path, class: `series${at % SERIES}`}));
  const item = made("li"), head = made("div", null, "head");
  head.append(made("span", line.scope), made("b", line.now ?? "—"));
  item.append(head, picture);
  if (known.length) {
    const scale = made("div", null, "scale");
    scale.append(made("span", `${historySeconds / 60} min ago`), made("span", `0 to ${watts(most)}`), made("span", "now"));
    item.append(scale);
  }
  return item;
}

function pairs(found) {
  const list = made("ul", null, "figures");
  for (const [name, value] of found) {
    const item = made("li");
    item.append(made("span", `${name} `), made("b", value));
    list.append(item);
  }
  return list;
}

function state(card) {
  if (card.presence === null) return ["not announced", ""];
  if (card.presence !== "online") return [card.presence, "off"];
  if (card.age === null) return ["online, nothing shown yet", ""];
  return card.age === "now" ? ["online", "online"] : [`online, ${card.age}`, "off"];
}

// What a part of a card says now; a part that says the same as before stays, so that its text can be selected.
function parts(card, historySeconds) {
  const [words, kind] = state(card);
  return [
    [[card.board, card.simulated, words, kind], () => {
      const head = made("header");
      head.append(made("h2", card.simulated ? `${card.board} (simulated)` : card.board), made("span", words, `state ${kind}`));
      return head;
    }],
    [card.model, () => made("p", card.model, "muted model")],
    [card.lines, () => {
      const lines = made("ul", null, "lines");
      card.lines.forEach((line, at) => lines.append(course(line, at, historySeconds)));
      return lines;
    }],
    [card.age !== null && !card.lines.length, said => made("p", said ? NO_POWER : "", "muted")],
    [card.figures, () => pairs(card.figures)],
    [card.held, () => pairs(card.held)],
    [card.remarks, () => {
      const remarks = made("ul", null, "remarks");
      card.remarks.forEach(remark => remarks.append(made("li", remark)));
      return remarks;
    }],
  ];
}

function renew(item, card, historySeconds) {
  parts(card, historySeconds).forEach(([said, make], at) => {
    const key = JSON.stringify(said), before = item.children[at];
    if (before && keys.get(before) === key) return;
    const part = make(said);
    part.hidden = said === null || said === false || (Array.isArray(said) && !said.length);
    keys.set(part, key);
    if (before) before.replaceWith(part); else item.append(part);
  });
  return item;
}

function showBoards(cards, historySeconds) {
  const list = document.getElementById("boards"), wanted = new Map(cards.map(card => [card.board, card]));
  for (const [name, item] of items) if (!wanted.has(name)) { item.remove(); items.delete(name); }
  cards.forEach((card, at) => {
    const item = items.get(card.board) ?? made("li", null, "board");
    items.set(card.board, renew(item, card, historySeconds));
    if (list.children[at] !== item) list.insertBefore(item, list.children[at] ?? null);
  });
}

function told(text) {
  const summary = document.getElementById("summary");
  if (summary.textContent !== text) summary.textContent = text;
}

function show(answer) {
  const online = answer.boards.filter(card => card.presence === "online").length;
  told(answer.boards.length ? `${online} of ${answer.boards.length} boards online.`
    : "No board has sent anything yet. Start one: phasewatt-agent serve --broker ADDRESS");
  document.getElementById("troubles").replaceChildren(...answer.trouble.map(words => made("li", words)));
  showBoards(answer.boards, answer.history_s);
}

async function ask() {
  asking = true;
  try {
    const said = await fetch("boards.json", {cache: "no-store", signal: AbortSignal.timeout(10 * PERIOD_MS)});
    if (!said.ok) throw new Error(`the collector answers ${said.status}`);
    show(await said.json());
  } catch (error) {
    showBoards([], 0);
    document.getElementById("troubles").replaceChildren(made("li", `Nothing new: ${error.message}. Is the collector running?`));
    told("Trying again…");
  }
  asking = false;
  timer = document.hidden ? null : setTimeout(ask, PERIOD_MS);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && timer === null && !asking) ask();
});
ask();
