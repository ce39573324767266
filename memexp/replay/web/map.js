// The map and the followed agent's view of it.
const RADIUS = 5;
const isWall = (row, column) => facts.map[row]?.[column] !== ".";

// Draws a window of the map: top, left in cells (fractions allowed), s pixels per cell.
function drawWorld(g, episode, now, { top, left, rows, columns, s }) {
  g.fillStyle = colors.floor;
  g.fillRect(0, 0, columns * s, rows * s);
  const x = (column) => (column - left + 0.5) * s, y = (row) => (row - top + 0.5) * s;
  const inside = (row, column) => row > top - 1 && row < top + rows && column > left - 1 && column < left + columns;
  drawWalls(g, { top, left, rows, columns, s });
  for (let o = 0; o < facts.objects.length; o++) {
    const thing = episode.object(now.step, o);
    if (!inside(thing.row, thing.column)) continue;
    drawKind(g, thing.kind, x(thing.column), y(thing.row), s, { cooling: thing.cooling, usedUp: thing.usesLeft === 0 });
    const hearts = thing.contents[HEART];
    if (hearts && s >= 8) badge(g, String(hearts), x(thing.column) + 0.32 * s, y(thing.row) - 0.32 * s, s, "#d55e00");
  }
  for (let a = facts.agents - 1; a >= -1; a--) {
    const agent = a < 0 ? now.agent : a; // the followed one is drawn again, on top
    const [row, column] = placeBetween(episode, now, agent);
    if (!inside(row, column)) continue;
    const is = episode.agent(now.step, agent), moved = episode.since("cell", now.step, agent) === now.step;
    if (!now.fraction) drawDeed(g, is.action, is.success, moved, x(column), y(row), s);
    const look = { followed: agent === now.agent, vibe: is.vibe, hearts: is.inventory[HEART] };
    drawAgent(g, String(agent), x(column), y(row), s, look);
  }
}

function drawWalls(g, { top, left, rows, columns, s }) {
  g.fillStyle = colors.wall;
  for (let row = Math.floor(top); row < top + rows; row++)
    for (let column = Math.floor(left); column < left + columns; column++)
      if (isWall(row, column)) g.fillRect((column - left) * s, (row - top) * s, s + 0.3, s + 0.3);
  if (s < 12) return;
  g.strokeStyle = colors.soft;
  g.lineWidth = 1;
  g.beginPath();
  for (let row = Math.ceil(top); row < top + rows; row++) g.moveTo(0, (row - top) * s), g.lineTo(columns * s, (row - top) * s);
  for (let column = Math.ceil(left); column < left + columns; column++)
    g.moveTo((column - left) * s, 0), g.lineTo((column - left) * s, rows * s);
  g.stroke();
}

// The position of an agent; while the episode plays slowly, between this step and the next.
function placeBetween(episode, now, agent) {
  const [row, column] = episode.place(now.step, agent);
  if (!now.fraction || now.step >= episode.last) return [row, column];
  const [nextRow, nextColumn] = episode.place(now.step + 1, agent), f = now.fraction;
  return [row + f * (nextRow - row), column + f * (nextColumn - column)];
}

class MapView {
  constructor(canvas, episode) {
    Object.assign(this, { canvas, episode, zoom: 1 });
  }

  // The shown part of the map: all of it, or the part around the followed agent.
  window(now) {
    const stage = this.canvas.parentElement, width = stage.clientWidth - 20, height = stage.clientHeight - 20;
    const whole = Math.min(width / MAP.columns, height / MAP.rows, 64), s = Math.max(2, Math.min(64, whole * this.zoom));
    const rows = Math.min(MAP.rows, height / s), columns = Math.min(MAP.columns, width / s);
    const [row, column] = placeBetween(this.episode, now, now.agent);
    const hold = (middle, shown, all) => Math.max(0, Math.min(all - shown, middle + 0.5 - shown / 2));
    return { s, rows, columns, top: hold(row, rows, MAP.rows), left: hold(column, columns, MAP.columns) };
  }

  draw(now) {
    const part = (this.part = this.window(now));
    const g = surface(this.canvas, part.columns * part.s, part.rows * part.s);
    drawWorld(g, this.episode, now, part);
    const [row, column] = placeBetween(this.episode, now, now.agent), { s, top, left } = part;
    g.strokeStyle = colors.accent;
    g.lineWidth = 1.5;
    g.setLineDash([5, 4]);
    g.strokeRect((column - left - RADIUS) * s, (row - top - RADIUS) * s, 11 * s, 11 * s);
    g.setLineDash([]);
    g.beginPath();
    g.arc((column - left + 0.5) * s, (row - top + 0.5) * s, Math.max(5.5, 0.52 * s), 0, 2 * Math.PI);
    g.stroke();
  }

  cellAt(event) {
    const { s, top, left } = this.part;
    return [Math.floor(event.offsetY / s + top), Math.floor(event.offsetX / s + left)];
  }

  agentAt(step, row, column) {
    for (let a = 0; a < facts.agents; a++)
      if (this.episode.at("cell", step, a) === row * MAP.columns + column) return a;
    return null;
  }

  // The contents of a cell in words.
  words(step, row, column) {
    const a = this.agentAt(step, row, column), cell = row * MAP.columns + column;
    if (a !== null) {
      const is = this.episode.agent(step, a);
      return `Agent ${a}, vibe ${is.vibe}, return ${short(is.return)}\n${held(is.inventory) || "holds nothing"}`;
    }
    const o = facts.objects.findIndex((object) => object[1] === cell);
    if (o < 0) return isWall(row, column) ? "wall" : null;
    const thing = this.episode.object(step, o), lines = [thing.kind.name];
    if (thing.left) lines.push(`cools down for ${thing.left} more steps`);
    if (thing.usesLeft !== null) lines.push(`${thing.usesLeft} of ${thing.kind.max_uses} uses left`);
    if (thing.chest >= 0) lines.push(`holds ${held(thing.contents) || "nothing"}`);
    return [...lines, ...does(thing.kind, 4)].join("\n");
  }
}

const does = (kind, most) => (kind.does.length > most ? [...kind.does.slice(0, most), `and ${kind.does.length - most} more`] : kind.does);

// The view of the followed agent: its window, without the cells that its observation was too short for.
function drawView(canvas, episode, now) {
  const side = 198, s = side / (2 * RADIUS + 1), g = surface(canvas, side, side);
  const [row, column] = episode.place(now.step, now.agent), still = { ...now, fraction: 0 };
  drawWorld(g, episode, still, { top: row - RADIUS, left: column - RADIUS, rows: 11, columns: 11, s });
  const unseen = cellsCutOff(episode.at("cut", now.step, now.agent));
  g.fillStyle = colors.card;
  g.globalAlpha = 0.8;
  for (const [r, c] of unseen) g.fillRect((c + RADIUS) * s, (r + RADIUS) * s, s, s);
  g.globalAlpha = 1;
  return unseen.length;
}

const ORDER = [];
for (let r = -RADIUS; r <= RADIUS; r++) for (let c = -RADIUS; c <= RADIUS; c++) ORDER.push([r, c]);
ORDER.sort(([r, c], [q, d]) => Math.abs(r) + Math.abs(c) - Math.abs(q) - Math.abs(d) || r - q || c - d);

// The cells after the one at which an observation was cut off, in token order.
function cellsCutOff(cut) {
  if (!cut) return [];
  const row = ((cut - 1) >> 4) - RADIUS, column = ((cut - 1) & 15) - RADIUS;
  return ORDER.slice(ORDER.findIndex(([r, c]) => r === row && c === column) + 1);
}
