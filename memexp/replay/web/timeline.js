// The timeline: one lane for each milestone, a mark where an agent reached it, and behind it the mean return.
const LANE = 6, TRACK = 6;

class Timeline {
  constructor(canvas, episode) {
    Object.assign(this, { canvas, episode });
    this.height = LANE * facts.funnel.length + TRACK + 6;
    this.events = facts.milestones.flatMap((steps, agent) =>
      steps.map((step, lane) => ({ step, agent, lane })).filter(({ step }) => step >= 0 && step <= episode.last));
    this.events.sort((a, b) => a.step - b.step);
    this.returns = Array.from({ length: 401 }, (_, i) => episode.meanReturn(Math.round((i * episode.last) / 400)));
    canvas.setAttribute("aria-valuemax", episode.last);
  }

  x(step) { return 5 + ((this.width - 10) * step) / Math.max(1, this.episode.last); }
  y(lane) { return LANE * (facts.funnel.length - 1 - lane) + LANE / 2 + 2; }
  stepAt(x) { return Math.round((Math.max(0, Math.min(1, (x - 5) / (this.width - 10)))) * this.episode.last); }

  draw(now) {
    this.width = this.canvas.parentElement.clientWidth - 28;
    const g = surface(this.canvas, this.width, this.height), bottom = this.height - TRACK;
    this.drawReturns(g, bottom - 2);
    g.fillStyle = colors.soft;
    for (let lane = 0; lane < facts.funnel.length; lane++) g.fillRect(0, this.y(lane), this.width, 0.5);
    g.fillRect(0, bottom, this.width, TRACK);
    g.fillStyle = colors.accent;
    g.fillRect(0, bottom, this.x(now.step), TRACK);
    for (const mine of [false, true])
      for (const event of this.events) if ((event.agent === now.agent) === mine) this.drawEvent(g, event, mine);
    g.fillStyle = colors.ink;
    g.fillRect(this.x(now.step) - 1, 0, 2, this.height);
    this.canvas.setAttribute("aria-valuenow", now.step);
  }

  drawEvent(g, { step, lane }, mine) {
    g.fillStyle = mine ? colors.accent : colors.quiet;
    g.globalAlpha = mine ? 1 : 0.55;
    g.beginPath();
    g.arc(this.x(step), this.y(lane), mine ? 3.2 : 2, 0, 2 * Math.PI);
    g.fill();
    g.globalAlpha = 1;
  }

  drawReturns(g, floor) {
    const [low, high] = bounds([0, ...this.returns]);
    if (high - low < 1e-9) return;
    g.fillStyle = colors.soft;
    g.beginPath();
    g.moveTo(this.x(0), floor);
    this.returns.forEach((value, i) => g.lineTo(this.x((i * this.episode.last) / 400), floor - (floor - 2) * ((value - low) / (high - low))));
    g.lineTo(this.x(this.episode.last), floor);
    g.fill();
  }

  // The marks near a point, those of the followed agent first.
  near(x, y, now) {
    const close = this.events.filter((e) => Math.abs(this.x(e.step) - x) < 5 && Math.abs(this.y(e.lane) - y) < LANE);
    return close.sort((a, b) => (b.agent === now.agent) - (a.agent === now.agent));
  }

  words(x, y, now) {
    const marks = this.near(x, y, now);
    if (!marks.length) return `step ${this.stepAt(x)}`;
    const lines = marks.slice(0, 6).map((e) => `step ${e.step}: agent ${e.agent} · ${facts.funnel[e.lane]}`);
    return [...lines, ...(marks.length > 6 ? [`and ${marks.length - 6} more`] : [])].join("\n");
  }

  // The next (way 1) or previous (-1) milestone of the followed agent from a step, or null.
  next(now, way) {
    const mine = this.events.filter((e) => e.agent === now.agent && (e.step - now.step) * way > 0);
    return mine.length ? mine.at(way > 0 ? 0 : -1).step : null;
  }
}
