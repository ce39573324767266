// The panel of the followed agent: inventory, action, return, milestones and the outputs of its policy.
const byId = (id) => document.getElementById(id);
const element = (tag, words = "", name = "") => Object.assign(document.createElement(tag), { textContent: words, className: name });

function bar(share, color, name = "") {
  const outer = element("span", "", "bar"), inner = element("i", "", name);
  inner.style.width = `${100 * Math.max(0, Math.min(1, share))}%`;
  if (color) inner.style.background = color;
  outer.append(inner);
  return outer;
}

const RESOURCE_COLORS = { ...VIBE_COLORS, energy: VIBE_COLORS.charger };
function resourceColor(name) {
  const kind = facts.types.find((type) => type.does.length === 1 && type.does[0].includes(`→ 1 ${name}`));
  return RESOURCE_COLORS[name] ?? kind?.color;
}

function showAgent(episode, now, unseen) {
  const is = episode.agent(now.step, now.agent);
  byId("agent").value = now.agent;
  const dot = element("i");
  dot.style.background = vibeColor(is.vibe) ?? "";
  byId("vibe").hidden = facts.vibes.length < 2;
  byId("vibe").replaceChildren(dot, `vibe ${is.vibe}`);
  byId("unseen").textContent = unseen ? `; ${unseen} did not fit` : "";
  byId("action").textContent = is.action === null ? "none yet" : `${is.action} ${is.success ? "✓" : "✗ failed"}`;
  byId("action").className = is.action === null ? "" : is.success ? "done" : "failed";
  byId("reward").textContent = is.reward ? `${signed(is.reward)} now` : "";
  byId("return").textContent = short(is.return);
  byId("place").textContent = `${is.row}, ${is.column}`;
  showInventory(is.inventory);
}

function showInventory(amounts) {
  const cells = [];
  for (const r of facts.shown) {
    const limit = facts.limits[r] || NO_LIMIT, none = amounts[r] ? "" : "none", shared = facts.groups.filter((g) => g >= 0 && g === facts.groups[r]);
    const name = element("span", facts.resources[r], none);
    name.title = `${facts.resources[r]}: at most ${limit}${shared.length > 1 ? " together with others" : ""}`;
    cells.push(name, bar(amounts[r] / limit, resourceColor(facts.resources[r])), element("span", String(amounts[r]), none));
  }
  byId("inventory").replaceChildren(...cells);
}

function showPolicy(episode, now) {
  if (!episode.has("value")) return;
  byId("value-now").textContent = `${short(episode.at("value", now.step, now.agent))}`;
  const next = now.step < episode.last ? episode.at("action", now.step + 1, now.agent) : null, cells = [];
  const add = (name, thousandths, chosen) => {
    const mark = chosen ? "chosen" : "", label = element("span", name.replace("change_vibe_", "vibe "), mark);
    label.title = name;
    cells.push(label, bar(thousandths / 1000, null, mark), element("span", `${(thousandths / 10).toFixed(1)} %`, mark));
  };
  let rest = 1000, found = false;
  const { width } = episode.channels.choices;
  for (let k = 0; k < width; k++) {
    const action = episode.at("choices", now.step, now.agent, k), chance = episode.at("chances", now.step, now.agent, k);
    add(facts.actions[action], chance, action === next);
    rest -= chance;
    found ||= action === next;
  }
  if (width < facts.actions.length)
    add(found || next === null ? "others" : `others: ${facts.actions[next]}`, Math.max(0, rest), !found && next !== null);
  byId("chances").replaceChildren(...cells);
}

function showFunnel(now, seek) {
  const rows = facts.funnel.map((name, m) => {
    const mine = facts.milestones[now.agent][m], reached = mine >= 0 && mine <= now.step;
    const there = facts.milestones.filter((steps) => steps[m] >= 0 && steps[m] <= now.step).length;
    const row = element("li", "", `${reached ? "reached" : ""} ${mine >= 0 ? "ever" : ""}`);
    row.append(element("span", name), element("b", reached ? String(mine) : "–"), bar(there / facts.agents, null, reached ? "chosen" : ""));
    row.title = `${name}: ${there} of ${facts.agents} agents so far`;
    if (mine >= 0) row.onclick = () => seek(mine);
    return row;
  });
  byId("funnel").replaceChildren(...rows);
}

// Draws return so far and value of the followed agent over the episode, and marks the current step.
function drawCurves(canvas, episode, now) {
  const width = canvas.parentElement.clientWidth, height = episode.has("value") ? 112 : 64, g = surface(canvas, width, height);
  const names = episode.has("value") ? ["value", "return"] : ["return"];
  const curves = names.map((name) => [...episode.changes(name, now.agent)]);
  const all = curves.flat().map(([, value]) => value), low = Math.min(0, ...bounds(all)), high = Math.max(1e-9, ...bounds(all));
  const x = (step) => 4 + ((width - 8) * step) / Math.max(1, episode.last), y = (v) => height - 5 - ((height - 21) * (v - low)) / (high - low);
  curves.forEach((curve, i) => {
    g.strokeStyle = names[i] === "value" ? colors.value : colors.accent;
    g.lineWidth = names[i] === "value" ? 1 : 2;
    g.beginPath();
    let before = curve[0][1];
    for (const [step, value] of [...curve, [episode.last, curve.at(-1)[1]]]) {
      g.lineTo(x(step), y(before));
      g.lineTo(x(step), y((before = value)));
    }
    g.stroke();
  });
  g.fillStyle = colors.ink;
  g.fillRect(x(now.step) - 0.5, 0, 1, height);
  text(g, short(high), width - 5, 8, 10, colors.quiet, "right");
}

const bounds = (numbers) => numbers.reduce(([a, b], n) => [Math.min(a, n), Math.max(b, n)], [Infinity, -Infinity]);

function legendItem(name, draw, tip, aside = "") {
  const row = element("li"), canvas = element("canvas");
  draw(surface(canvas, 20, 20));
  row.append(canvas, element("span", name), element("small", aside));
  row.dataset.tip = tip;
  return row;
}

// The legend of object types; if there is one of each, with its effects.
function kindItems() {
  const counts = facts.types.map((_, type) => facts.objects.filter((object) => object[0] === type).length);
  const single = counts.every((count) => count <= 1);
  return facts.types.flatMap((kind, type) => {
    if (!counts[type]) return [];
    const tip = [kind.name, kind.max_uses ? `${kind.max_uses} uses` : "", ...kind.does].filter(Boolean).join("\n");
    const name = counts[type] > 1 ? `${kind.name} × ${counts[type]}` : kind.name;
    return [legendItem(name, (g) => drawKind(g, kind, 10, 10, 20), tip, single ? kind.does[0].split(", ")[0] : "")];
  });
}

function showLegend() {
  const plain = { shape: "hexagon", label: "", color: colors.quiet }, items = kindItems();
  const add = (name, draw, tip) => items.push(legendItem(name, draw, tip));
  if (facts.agents > 1) add("agent", (g) => drawAgent(g, "", 10, 10, 20), "A ring shows its vibe, \u2665 that it holds a heart.");
  add(facts.agents > 1 ? "followed" : "agent", (g) => drawAgent(g, "", 10, 10, 20, { followed: true }), "Dashed: what it sees.");
  add("cools down", (g) => drawKind(g, plain, 10, 10, 20, { cooling: 0.6 }), "The ring shrinks until it can be used again.");
  if (facts.types.some((kind) => kind.max_uses)) add("used up", (g) => drawKind(g, plain, 10, 10, 20, { usedUp: true }), "No uses left.");
  byId("legend").replaceChildren(...items);
}
