// The explorer of sampled groups. Every string of a data set goes through textContent or an attribute, never through markup.

const SVG = "http://www.w3.org/2000/svg";

function element(kind, attributes = {}, ...children) {
  const made = ["svg", "rect", "circle", "polygon", "text", "title", "g", "line"].includes(kind)
    ? document.createElementNS(SVG, kind) : document.createElement(kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);                                   // strings become text nodes
  return made;
}

const signed = value => (value >= 0 ? "+" : "") + value.toFixed(3);

// What a token is coloured by: a number in [-1, 1] for each step of an answer.
const COLOURINGS = {
  "advantage (reward less the other answers' mean)": one => one.logp.map(() => one.advantage ?? 0),
  "advantage by prefix (worth still to come less that mean)": one => one.worth.map((_, step) =>
    one.advantage === null ? 0 : one.advantage - (step ? one.worth[step - 1] : 0)),
  "change of worth (reward of the prefix)": one => one.worth.map((worth, step) => worth - (step ? one.worth[step - 1] : 0)),
  "surprise (-log-probability)": one => one.logp.map(logp => Math.max(-1, logp / 5)),
};

function wordAt(group, answer, step) {
  if (answer.words === null) return `#${step + 1}`;
  return answer.words[step] ?? (step === answer.words.length ? "STOP" : "…");
}

function tokens(group, answer, colouring) {
  const numbers = COLOURINGS[colouring](answer);
  const apart = answer.words === null || !answer.words.some(word => word.startsWith(" "));
  return numbers.map((number, step) => {
    const word = wordAt(group, answer, step), stop = step === (answer.words?.length ?? -1);
    const token = element("bdi", {class: apart || stop ? "token apart" : "token"}, word);
    const strength = Math.min(0.75, 0.75 * Math.abs(number)).toFixed(3);
    token.style.background = `rgb(var(--${number >= 0 ? "up" : "down"}) / ${strength})`;
    token.title = `step ${step + 1}: log p ${answer.logp[step].toFixed(2)}, prefix worth ${answer.worth[step].toFixed(3)}`;
    return token;
  });
}

// Attention or pointer: steps down, source positions across; of a long source those alone that some step looks at.
function heat(group, answer) {
  if (!answer.map) return element("p", {class: "soft"}, "no map was kept for this answer");
  const seen = new Set(answer.map.flatMap(step => step.filter((_, i) => i % 2 === 0)));
  const all = [...Array(group.size).keys(), ...(group.head === "pointer" ? [-1] : [])];
  const columns = all.length > 40 ? all.filter(place => seen.has(place)) : all;
  const name = place => place < 0 ? "STOP" : group.source ? group.source[place].trim() : String(place + 1);
  const rows = answer.map.map((_, step) => shorten(wordAt(group, answer, step).trim(), 14));
  const cell = 17, left = 14 + 7.5 * Math.max(...rows.map(row => row.length));
  const top = 14 + 6.5 * Math.max(...columns.map(place => shorten(name(place), 12).length));
  const width = left + cell * columns.length, height = top + cell * rows.length;
  const svg = element("svg", {class: "heat", role: "img", "aria-label": "weights of source positions at every step",
    width: width + top * 0.6, height: height + 4});
  svg.append(element("rect", {class: "ground", x: left, y: top, width: width - left, height: height - top}));
  columns.forEach((place, column) => {
    const x = left + cell * column + cell / 2 + 4;
    svg.append(element("text", {x, y: top - 6, transform: `rotate(-60 ${x} ${top - 6})`}, shorten(name(place), 12)));
  });
  answer.map.forEach((step, row) => {
    const y = top + cell * row;
    svg.append(element("text", {x: left - 6, y: y + cell - 5, "text-anchor": "end"}, rows[row]));
    for (let i = 0; i < step.length; i += 2) {
      const weight = (step[i + 1] / 255).toFixed(2);
      svg.append(element("rect", {x: left + cell * columns.indexOf(step[i]), y, width: cell - 1, height: cell - 1,
        "fill-opacity": weight}, element("title", {}, `step ${row + 1}, ${name(step[i])}: ${weight}`)));
    }
  });
  const note = columns.length < all.length ? [element("p", {class: "soft"},
    `${all.length - columns.length} source positions that no step looks at are left out`)] : [];
  return element("div", {class: "look", tabindex: 0, role: "region", "aria-label": "map"}, svg, ...note);
}

const shorten = (text, most) => text.length > most ? text.slice(0, most - 1) + "…" : text;

// Points in the plane with the reference's line and the answer's.
function plane(group, answer) {
  const size = 320, room = 12;
  const xs = group.points.map(([x]) => x), ys = group.points.map(([, y]) => y);
  const low = [Math.min(...xs), Math.min(...ys)], span = Math.max(Math.max(...xs) - low[0], Math.max(...ys) - low[1]) || 1;
  const place = ([x, y]) => [room + (x - low[0]) / span * (size - 2 * room), size - room - (y - low[1]) / span * (size - 2 * room)];
  const corners = positions => positions.filter(at => group.points[at]).map(at => place(group.points[at]).join(",")).join(" ");
  const svg = element("svg", {class: "plane", viewBox: `0 0 ${size} ${size}`, role: "img",
    "aria-label": "the points, the reference's line and the answer's"});
  svg.append(element("polygon", {class: "truth", points: corners(group.positions)}));
  svg.append(element("polygon", {class: "answer", points: corners(answer.positions)}));
  group.points.forEach((point, at) => {
    const [cx, cy] = place(point), named = answer.positions.includes(at);
    svg.append(element("circle", {cx, cy, r: named ? 4 : 2.5, ...(named ? {class: "named"} : {})},
      element("title", {}, `point ${at}`)));
  });
  return element("div", {}, svg, element("p", {class: "soft"}, element("span", {class: "key truth"}, "reference"),
    element("span", {class: "key"}, "answer")));
}

// All numbers of one answer, a step a row.
function steps(group, answer) {
  const rows = answer.logp.map((logp, step) => {
    const most = answer.map?.[step] ?? [];
    const seen = most.length ? `${most[0] < 0 ? "STOP" : group.source ? group.source[most[0]].trim() : most[0]} ` +
      `${(most[1] / 255).toFixed(2)}` : "-";
    const told = [String(step + 1), wordAt(group, answer, step), Math.exp(logp).toFixed(3), answer.worth[step].toFixed(3), seen];
    return element("tr", {}, ...told.map((text, i) => element("td", {class: i === 1 || i === 4 ? "" : "number"},
      element("bdi", {}, text))));
  });
  const heads = ["step", "word", "probability", "worth if ended here", "looks most at"];
  return element("div", {class: "scroll steps", tabindex: 0, role: "region", "aria-label": "steps of the answer"},
    element("table", {}, element("thead", {}, element("tr", {}, ...heads.map((one, i) =>
      element("th", {scope: "col", class: i === 1 || i === 4 ? "" : "number"}, one)))), element("tbody", {}, ...rows)));
}

function choice(label, names, change) {
  const select = element("select", {}, ...names.map((name, i) => element("option", {value: i}, name)));
  select.addEventListener("change", change);
  return [element("label", {}, label, select), select];
}

class Explorer {
  constructor(stage, runs) {
    const draw = () => this.draw();
    this.runs = runs;
    this.place = [];                                          // stage and number of the chosen answer
    const [system, ofSystem] = choice("system", runs.map(run => run.name), draw);
    const [problem, ofProblem] = choice("problem", runs[0].groups.map(group => `${group.split} ${group.index + 1}`), draw);
    const [colour, ofColour] = choice("colour", Object.keys(COLOURINGS), draw);
    Object.assign(this, {ofSystem, ofProblem, ofColour, shown: element("div")});
    stage.append(element("div", {class: "picks"}, system, problem, colour), this.shown);
    this.draw();
  }

  draw() {
    const groups = this.runs[this.ofSystem.value].groups;
    const group = groups[Math.min(this.ofProblem.value, groups.length - 1)];
    const stages = Object.keys(group.stages);
    if (!group.stages[this.place[0]]?.[this.place[1]]) this.place = [stages.at(-1), 0];
    const told = (name, words) => element("p", {class: "told"}, element("b", {}, name),
      element("bdi", {}, words === null ? "not kept: the texts of this task are other people's"
        : words.join(words.some(word => word.startsWith(" ")) ? "" : " ").trim()));
    this.shown.replaceChildren(...(group.points ? [] : [told("source", group.source)]), told("reference", group.reference),
      element("div", {class: "stages"}, ...stages.map(stage => this.answers(group, stage))), this.look(group));
  }

  answers(group, stage) {
    const items = group.stages[stage].map((answer, number) => {
      const drawn = answer.advantage === null ? "greedy" : `drawn ${number + 1}`;
      const worth = `${drawn} · reward ${answer.reward.toFixed(3)}` +
        (answer.advantage === null ? "" : ` · advantage ${signed(answer.advantage)}`) +
        ` · log p ${answer.logp.reduce((a, b) => a + b, 0).toFixed(2)}`;
      const chosen = this.place[0] === stage && this.place[1] === number;
      const button = element("button", {type: "button", "aria-pressed": chosen, "data-answer": `${stage} ${number}`},
        element("span", {class: "worth"}, worth), ...tokens(group, answer, Object.keys(COLOURINGS)[this.ofColour.value]));
      button.addEventListener("click", () => {
        this.place = [stage, number];
        this.draw();
        this.shown.querySelector(`[data-answer="${CSS.escape(`${stage} ${number}`)}"]`)?.focus();
      });
      return element("li", {}, button);
    });
    return element("div", {}, element("h4", {}, `${stage} fine-tuning`), element("ol", {class: "answers"}, ...items));
  }

  look(group) {
    const answer = group.stages[this.place[0]][this.place[1]];
    const pictures = group.points && answer.positions ? [plane(group, answer)] : [];
    const heading = `${this.place[0]} fine-tuning, ${answer.advantage === null ? "greedy" : `drawn ${this.place[1] + 1}`}: ` +
      `${group.head === "pointer" ? "where the pointer pointed" : "where it attended"}`;
    return element("div", {}, element("h4", {}, heading), element("div", {class: "looks"}, ...pictures, heat(group, answer)),
      steps(group, answer));
  }
}

function openExplorer(details) {
  const stage = details.querySelector(".stage");
  if (!details.open || stage.hasChildNodes()) return;         // made when first opened: a page may hold many
  new Explorer(stage, JSON.parse(document.getElementById(details.dataset.from).textContent));
}

for (const details of document.querySelectorAll("details.explorer")) {
  details.addEventListener("toggle", () => openExplorer(details));
  openExplorer(details);
}
