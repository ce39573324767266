// The player: current step and agent, clock, buttons, keys, and the address (#step=120&agent=3 opens there).
const SPEEDS = [1, 2, 5, 10, 20, 50, 100, 200, 500];
const SMOOTH = 20; // up to this many steps per second agents move smoothly from cell to cell

async function start() {
  const episode = await loadEpisode();
  const now = { step: 0, agent: 0, fraction: 0, playing: false, speed: episode.last > 600 ? 20 : 5 };
  const map = new MapView(byId("map"), episode), timeline = new Timeline(byId("timeline"), episode);
  const still = window.matchMedia("(prefers-reduced-motion: reduce)");

  const shown = {};
  function draw() {
    map.draw(now);
    if (shown.step === now.step && shown.agent === now.agent && shown.fresh) return;
    Object.assign(shown, { step: now.step, agent: now.agent, fresh: true });
    showAgent(episode, now, drawView(byId("view"), episode, now));
    showPolicy(episode, now);
    showFunnel(now, (step) => seek(step));
    drawCurves(byId("curve"), episode, now);
    timeline.draw(now);
    byId("step").textContent = now.step.toLocaleString("en");
    byId("mean-return").textContent = short(episode.meanReturn(now.step));
  }

  let asked = false;
  function redraw() {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; draw(); });
  }
  function redrawAll() {
    shown.fresh = false;
    readColors();
    showLegend();
    redraw();
  }

  function seek(step, pause = true) {
    now.step = Math.max(0, Math.min(episode.last, step));
    now.fraction = 0;
    if (pause) play(false);
    redraw();
  }
  function follow(agent) {
    now.agent = (agent + facts.agents) % facts.agents;
    rememberPlace();
    redraw();
  }
  function setSpeed(speed) {
    now.speed = speed;
    byId("speed").value = speed;
  }
  const changeSpeed = (way) => setSpeed(SPEEDS[Math.max(0, Math.min(SPEEDS.length - 1, SPEEDS.indexOf(now.speed) + way))]);
  function jump(way) {
    const step = timeline.next(now, way);
    if (step !== null) seek(step);
  }

  // While the episode is paused, the address names the step and agent.
  function rememberPlace() {
    if (!now.playing) history.replaceState(null, "", `#step=${now.step}&agent=${now.agent}`);
  }
  function readPlace() {
    const asked = new URLSearchParams(location.hash.slice(1)), number = (name) => parseInt(asked.get(name) ?? "0", 10) || 0;
    now.agent = Math.max(0, Math.min(facts.agents - 1, number("agent")));
    if (SPEEDS.includes(number("speed"))) setSpeed(number("speed"));
    if (asked.has("zoom")) map.zoom = Math.max(1, Math.min(16, number("zoom")));
    seek(number("step"));
  }

  let before = null, clock = 0; // time of the last picture, and fractional step
  function play(on) {
    now.playing = on;
    byId("play").textContent = on ? "❚❚" : "▶";
    byId("play").setAttribute("aria-label", on ? "Pause" : "Play");
    if (!on) return rememberPlace();
    if (now.step >= episode.last) now.step = 0;
    before = null;
    clock = now.step;
    return requestAnimationFrame(tick);
  }
  function tick(time) {
    if (!now.playing) return;
    if (before !== null) clock += (now.speed * (time - before)) / 1000;
    before = time;
    now.step = Math.min(episode.last, Math.floor(clock));
    now.fraction = now.speed <= SMOOTH && !still.matches ? clock - now.step : 0;
    if (now.step >= episode.last) seek(episode.last);
    else requestAnimationFrame(tick);
    draw();
  }

  connect();
  byId("last").textContent = episode.last.toLocaleString("en");
  byId("mean-name").textContent = facts.agents > 1 ? `mean return of ${facts.agents} agents` : "return";
  if (!episode.has("value")) {
    for (const hidden of [byId("policy"), document.querySelector(".with-policy")]) hidden.hidden = true;
    byId("policy").parentElement.classList.add("alone");
  }
  setSpeed(now.speed);
  readColors();
  showLegend();
  readPlace();
  draw();
  window.replay = { episode, facts, now, seek, follow };
  document.body.dataset.ready = "yes";

  function connect() {
    byId("agent").append(...facts.milestones.map((_, a) => Object.assign(element("option", String(a)), { value: a })));
    byId("speed").append(...SPEEDS.map((n) => Object.assign(element("option", n === 1 ? "1 step/s" : `${n} steps/s`), { value: n })));
    const buttons = {
      play: () => play(!now.playing), back: () => seek(now.step - 1), forward: () => seek(now.step + 1),
      first: () => seek(0), end: () => seek(episode.last), "next-event": () => jump(1), "previous-event": () => jump(-1),
      "next-agent": () => follow(now.agent + 1), "previous-agent": () => follow(now.agent - 1),
    };
    for (const [id, press] of Object.entries(buttons)) byId(id).onclick = press;
    byId("agent").onchange = (event) => follow(Number(event.target.value));
    byId("speed").onchange = (event) => setSpeed(Number(event.target.value));
    document.addEventListener("keydown", pressKey);
    connectMap();
    connectTimeline();
    new ResizeObserver(redrawAll).observe(map.canvas.parentElement);
    window.addEventListener("hashchange", readPlace);
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
  }

  function pressKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
    const far = event.shiftKey ? 10 : 1;
    const keys = {
      " ": () => play(!now.playing), ArrowLeft: () => seek(now.step - far), ArrowRight: () => seek(now.step + far),
      Home: () => seek(0), End: () => seek(episode.last), ArrowUp: () => follow(now.agent - 1), ArrowDown: () => follow(now.agent + 1),
      e: () => jump(1), E: () => jump(-1), "<": () => changeSpeed(-1), ">": () => changeSpeed(1),
      "+": () => zoomBy(1.25), "=": () => zoomBy(1.25), "-": () => zoomBy(0.8),
    };
    if (!(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  }

  function zoomBy(factor) {
    map.zoom = Math.max(1, Math.min(16, map.zoom * factor));
    redraw();
  }

  function connectMap() {
    const canvas = map.canvas;
    canvas.onclick = (event) => {
      const agent = map.agentAt(now.step, ...map.cellAt(event));
      if (agent !== null) follow(agent);
    };
    canvas.onmousemove = (event) => tip(map.words(now.step, ...map.cellAt(event)), event);
    canvas.onmouseleave = () => tip(null);
    canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoomBy(event.deltaY < 0 ? 1.1 : 1 / 1.1); }, { passive: false });
    byId("legend").onmousemove = (event) => tip(event.target.closest("li")?.dataset.tip, event);
    byId("legend").onmouseleave = () => tip(null);
  }

  function connectTimeline() {
    const canvas = timeline.canvas;
    canvas.onpointerdown = (event) => {
      canvas.setPointerCapture(event.pointerId);
      const mark = timeline.near(event.offsetX, event.offsetY, now)[0];
      if (mark) follow(mark.agent);
      seek(mark ? mark.step : timeline.stepAt(event.offsetX));
    };
    canvas.onpointermove = (event) => {
      if (event.buttons) seek(timeline.stepAt(event.offsetX));
      tip(timeline.words(event.offsetX, event.offsetY, now), event);
    };
    canvas.onpointerleave = () => tip(null);
    byId("curve").onclick = (event) => seek(Math.round((event.offsetX / event.target.clientWidth) * episode.last));
  }
}

function tip(words, event) {
  const box = byId("tip");
  box.hidden = !words;
  if (!words) return;
  box.textContent = words;
  const right = event.clientX + 14 + box.offsetWidth > innerWidth, below = event.clientY + 18 + box.offsetHeight > innerHeight;
  box.style.left = `${right ? event.clientX - 10 - box.offsetWidth : event.clientX + 14}px`;
  box.style.top = `${below ? event.clientY - 12 - box.offsetHeight : event.clientY + 18}px`;
}

start();
