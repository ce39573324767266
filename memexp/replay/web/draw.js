// Draws one cell: walls, objects, agents. Sizes are in CSS pixels; canvases have the resolution of the screen.
const VIBE_COLORS = {
  charger: "#009e73", carbon: "#8a929a", oxygen: "#56b4e9", germanium: "#cc79a7", silicon: "#f0e442", heart: "#d55e00",
  gear: "#e69f00",
};
const HEART = facts.resources.indexOf("heart");

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
let colors = {};
function readColors() {
  for (const name of ["floor", "wall", "agent", "accent", "card", "ink", "quiet", "line", "soft", "value", "bad", "good"])
    colors[name] = css(`--${name}`);
}

function vibeColor(vibe) {
  return VIBE_COLORS[vibe.replace(/_[ab]$/, "")] ?? (vibe === "default" ? null : colors.quiet);
}

// Sets the size of a canvas in CSS pixels; returns its context, scaled to CSS pixels.
function surface(canvas, width, height) {
  const fine = window.devicePixelRatio || 1, w = Math.round(width * fine), h = Math.round(height * fine);
  if (canvas.width !== w || canvas.height !== h) {
    Object.assign(canvas, { width: w, height: h });
    Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
  }
  const g = canvas.getContext("2d");
  g.setTransform(fine, 0, 0, fine, 0, 0);
  g.clearRect(0, 0, width, height);
  return g;
}

// The text colour, dark or light, with more contrast on a colour.
function lettersOn(color) {
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(color.slice(i, i + 2), 16) / 255);
  return 0.3 * r + 0.59 * g + 0.11 * b > 0.5 ? "#16191c" : "#ffffff";
}

function shapePath(g, shape, x, y, r) {
  g.beginPath();
  if (shape === "hexagon" || shape === "diamond" || shape === "cross") {
    const corners = { hexagon: 6, diamond: 4, cross: 8 }[shape], turn = shape === "cross" ? Math.PI / 8 : Math.PI / 2;
    for (let i = 0; i < corners; i++) {
      const angle = turn + (2 * Math.PI * i) / corners;
      g.lineTo(x + r * Math.cos(angle), y + r * Math.sin(angle));
    }
    g.closePath();
  } else if (shape === "chest") g.roundRect(x - r, y - 0.72 * r, 2 * r, 1.5 * r, r * 0.25);
  else g.roundRect(x - 0.85 * r, y - 0.85 * r, 1.7 * r, 1.7 * r, r * 0.25);
}

// Draws a type of object in a cell of side s with centre x, y. Cooling: faded, with a shrinking ring; used up: hollow.
function drawKind(g, kind, x, y, s, { cooling = 0, usedUp = false } = {}) {
  const r = 0.44 * s;
  shapePath(g, kind.shape, x, y, r);
  g.globalAlpha = cooling ? 0.35 : 1;
  g.fillStyle = g.strokeStyle = kind.color;
  g.lineWidth = Math.max(1, 0.09 * s);
  if (usedUp) g.stroke();
  else g.fill();
  if (kind.shape === "chest" && s > 7) {
    g.fillStyle = lettersOn(kind.color);
    g.fillRect(x - r, y - 0.2 * r, 2 * r, Math.max(1, 0.1 * r));
    g.fillRect(x - 0.15 * r, y - 0.32 * r, 0.3 * r, 0.4 * r);
  }
  g.globalAlpha = 1;
  if (kind.label && s >= 10) text(g, kind.label, x, y, 0.56 * s, usedUp || cooling ? colors.ink : lettersOn(kind.color));
  if (cooling) {
    g.beginPath();
    g.arc(x, y, 0.45 * s, -Math.PI / 2, -Math.PI / 2 + 2 * Math.PI * cooling);
    g.strokeStyle = colors.ink;
    g.lineWidth = Math.max(1, 0.07 * s);
    g.stroke();
  }
}

function drawAgent(g, label, x, y, s, { followed = false, vibe = "default", hearts = 0 } = {}) {
  const ring = vibeColor(vibe), r = Math.max(4, 0.36 * s);
  g.beginPath();
  g.arc(x, y, r + 1.2, 0, 2 * Math.PI);
  g.fillStyle = colors.floor;
  g.fill();
  g.beginPath();
  g.arc(x, y, r, 0, 2 * Math.PI);
  g.fillStyle = followed ? colors.accent : colors.agent;
  g.fill();
  if (ring) {
    g.strokeStyle = ring;
    g.lineWidth = Math.max(1.8, 0.11 * s);
    g.beginPath();
    g.arc(x, y, r + 0.04 * s, 0, 2 * Math.PI);
    g.stroke();
  }
  if (s >= 13) text(g, label, x, y, Math.min(15, 0.42 * s), colors.card);
  if (hearts && s >= 8) badge(g, "\u2665", x + 0.32 * s, y - 0.32 * s, s, "#d55e00");
}

function badge(g, label, x, y, s, color) {
  g.beginPath();
  g.arc(x, y, 0.19 * s, 0, 2 * Math.PI);
  g.fillStyle = color;
  g.fill();
  text(g, label, x, y, 0.28 * s, "#ffffff");
}

// Draws the result of an action: a line to the used object, or a bar where a move failed.
function drawDeed(g, action, success, moved, x, y, s) {
  const way = { move_north: [0, -1], move_south: [0, 1], move_west: [-1, 0], move_east: [1, 0] }[action];
  if (!way || moved || s < 5) return;
  const [dx, dy] = way, far = 0.5 * s;
  g.strokeStyle = success ? colors.good : colors.bad;
  g.lineWidth = Math.max(1.5, 0.12 * s);
  g.lineCap = "round";
  g.beginPath();
  if (success) {
    g.moveTo(x + 0.36 * s * dx, y + 0.36 * s * dy);
    g.lineTo(x + 0.66 * s * dx, y + 0.66 * s * dy);
  } else {
    g.moveTo(x + far * dx - 0.22 * s * dy, y + far * dy - 0.22 * s * dx);
    g.lineTo(x + far * dx + 0.22 * s * dy, y + far * dy + 0.22 * s * dx);
  }
  g.stroke();
}

function text(g, words, x, y, size, color, align = "center") {
  g.font = `600 ${size}px system-ui, sans-serif`;
  g.textAlign = align;
  g.textBaseline = "middle";
  g.fillStyle = color;
  g.fillText(words, x, y + 0.04 * size);
}
