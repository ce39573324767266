// The episode: the facts in the page, and every number at every step (see memexp/replay/changes.py).
const facts = JSON.parse(document.getElementById("facts").textContent);
const MAP = { rows: facts.map.length, columns: facts.map[0].length };
const NO_LIMIT = 65535;

class Episode {
  constructor(bytes) {
    this.last = facts.last;
    this.channels = {};
    let size = 0;
    for (const [name, shape] of facts.channels) {
      const width = shape.slice(1).reduce((a, b) => a * b, 1);
      this.channels[name] = { start: size, width, count: shape[0], float: facts.floats.includes(name) };
      size += shape[0] * width;
    }
    const counts = fromPlanes(bytes.subarray(0, 4 * size));
    const half = (bytes.length - 4 * size) / 2;
    this.first = sums(counts, new Int32Array(size + 1), 1);
    const steps = fromPlanes(bytes.subarray(4 * size, 4 * size + half));
    const values = fromPlanes(bytes.subarray(4 * size + half));
    this.steps = sums(steps, steps, 0);
    this.values = sums(values, values, 0);
    this.reals = new Float32Array(this.values.buffer);
  }

  // Index of the latest change of number m up to a step.
  change(m, step) {
    let low = this.first[m], high = this.first[m + 1] - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.steps[middle] <= step) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  has(name) { return name in this.channels; }

  // Number [i, j] of a channel at a step.
  at(name, step, i, j = 0) {
    const channel = this.channels[name];
    const change = this.change(channel.start + i * channel.width + j, step);
    return channel.float ? this.reals[change] : this.values[change];
  }

  // The step at which number [i] of a channel got its current value.
  since(name, step, i) { return this.steps[this.change(this.channels[name].start + i, step)]; }

  // All changes of number [i] of a channel as [step, value].
  *changes(name, i) {
    const channel = this.channels[name], numbers = channel.float ? this.reals : this.values;
    const m = channel.start + i;
    for (let k = this.first[m]; k < this.first[m + 1]; k++) yield [this.steps[k], numbers[k]];
  }

  place(step, agent) {
    const cell = this.at("cell", step, agent);
    return [Math.floor(cell / MAP.columns), cell % MAP.columns];
  }

  inventory(step, agent) { return facts.resources.map((_, r) => this.at("inventory", step, agent, r)); }

  meanReturn(step) {
    let sum = 0;
    for (let a = 0; a < facts.agents; a++) sum += this.at("return", step, a);
    return sum / facts.agents;
  }

  // An object at a step.
  object(step, o) {
    const [type, cell, chest] = facts.objects[o], kind = facts.types[type];
    const left = Math.max(0, this.at("end", step, o) - step), since = this.since("end", step, o);
    return {
      kind, chest, left, row: Math.floor(cell / MAP.columns), column: cell % MAP.columns,
      cooling: left ? left / (this.at("end", step, o) - since) : 0,
      usesLeft: kind.max_uses ? kind.max_uses - this.at("uses", step, o) : null,
      contents: chest < 0 ? [] : facts.resources.map((_, r) => this.at("chest", step, chest, r)),
    };
  }

  // Everything about an agent at a step, for the panel and for scripts.
  agent(step, a) {
    const [row, column] = this.place(step, a), action = this.at("action", step, a);
    return {
      row, column, inventory: this.inventory(step, a), vibe: facts.vibes[this.at("vibe", step, a)],
      action: action < 0 ? null : facts.actions[action] ?? `${action}: no such action`,
      success: Boolean(this.at("success", step, a)), cut: this.at("cut", step, a),
      reward: this.at("reward", step, a), return: this.at("return", step, a),
    };
  }
}

// Int32 numbers from their bytes: the lowest byte of all numbers first, then the second of all, ...
function fromPlanes(planes) {
  const count = planes.length / 4, numbers = new Int32Array(count);
  for (let i = 0; i < count; i++)
    numbers[i] = planes[i] | (planes[i + count] << 8) | (planes[i + 2 * count] << 16) | (planes[i + 3 * count] << 24);
  return numbers;
}

function sums(differences, out, from) {
  let sum = 0;
  for (let i = 0; i < differences.length; i++) out[i + from] = sum = (sum + differences[i]) | 0;
  return out;
}

async function loadEpisode() {
  const packed = Uint8Array.from(atob(document.getElementById("data").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Episode(new Uint8Array(await new Response(stream).arrayBuffer()));
}

// A number as text: at most three decimals, without trailing zeros.
const short = (x) => (Math.abs(x) < 1e-9 ? "0" : Number(x.toPrecision(4)).toLocaleString("en", { maximumFractionDigits: 3 }));
const signed = (x) => (x > 0 ? "+" : "") + short(x);
const held = (amounts) => amounts.map((n, r) => [n, r]).filter(([n]) => n).map(([n, r]) => `${n} ${facts.resources[r]}`).join(", ");
