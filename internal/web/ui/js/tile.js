// One camera on the page: its element, what it says, its picture.

import { View } from './view.js';
import { choices, quality, several } from './quality.js';
import { rows } from './stats.js';

const REST = 5000;      // ms out of sight, then no media: a keyframe brings the picture back
const KEPT = 60_000;    // ms out of sight, then no connection: the box's places are for those who watch

const PHASES = { starting: 'starting', live: 'live', stalled: 'stalled', offline: 'offline', unmet: 'not possible', waiting: 'waiting' };

/** What a tile says: tone for the dot, state for the caption, notice over the picture (or ''). */
export function describe(camera, view, connected) {
  const phase = PHASES[camera.state] ?? camera.state;
  if (!connected) return { tone: 'wait', state: 'reconnecting', notice: view.frames ? '' : 'connecting…' };
  if (camera.state !== 'live') {
    const why = camera.last_error?.detail ? `${phase}: ${camera.last_error.detail}` : phase;
    return { tone: camera.state === 'starting' || camera.state === 'waiting' ? 'wait' : 'bad', state: why, notice: camera.placeholder && view.frames ? '' : why };
  }
  switch (view.state) {
    case 'live': return { tone: 'live', state: 'live', notice: view.text };
    case 'refused': return { tone: 'bad', state: 'cannot be shown here', notice: view.text };
    case 'recovering': return { tone: 'wait', state: view.text, notice: view.text };
    case 'connecting': return { tone: 'wait', state: 'connecting', notice: view.frames ? '' : 'connecting…' };
    default: return { tone: 'live', state: 'live', notice: 'not playing: too many pictures at once' };
  }
}

export class Tile {
  camera; view; element;
  sight = 0; // how much of it can be seen, 0..1
  seenAt = 0; // when it was last among those watched, in ms
  #connected = true; #watched = false; #alone = false; #choice; #parts;

  /** context: link, clock and ice for the view. */
  constructor(camera, context) {
    this.camera = camera;
    this.element = document.getElementById('tile').content.firstElementChild.cloneNode(true);
    const part = (selector) => this.element.querySelector(selector);
    this.#parts = {
      picture: part('.picture'), video: part('video'), notice: part('.notice'), statistics: part('.statistics'),
      name: part('h2'), state: part('.state'), quality: part('.quality'), choice: part('select'), sound: part('.sound'), full: part('.full'), back: part('.back'),
    };
    this.#parts.video.muted = true; // a cloned element does not take it from its attribute everywhere
    this.#parts.video.setAttribute('aria-label', `Live picture of ${camera.id}`);
    this.#parts.name.textContent = camera.id;
    this.view = new View({ ...context, camera: camera.id, video: this.#parts.video, changed: () => this.#show() });
    this.#parts.picture.onclick = () => { this.#parts.video.play().catch(() => {}); };
    this.#choice = this.#parts.choice.value = choices.get(camera.id);
    this.#parts.choice.onchange = ({ target }) => this.#choose(target.value);
    this.#parts.sound.onclick = () => this.sound();
    this.#parts.full.onclick = () => this.fullScreen();
    this.enlarge(false);
    this.update(camera);
  }

  get live() { return this.camera.state === 'live'; }

  /** Takes the camera's new state. */
  update(camera) {
    const before = this.camera;
    this.camera = camera;
    if (camera.state !== before.state || camera.codec !== before.codec) this.view.cameraChanged();
    this.#offerSound();
    this.#offer();
    this.#show();
  }

  /** The page has, or has lost, its link to the box. */
  connected(is) {
    this.#connected = is;
    if (is) this.view.linkUp();
    else this.view.linkDown();
    this.#show();
  }

  /** Shows it alone, or in the grid; one camera on the box is alone without being large. */
  enlarge(large, alone = large) {
    const { picture, full, back } = this.#parts;
    this.element.classList.toggle('chosen', large);
    picture.href = large ? '#/' : `#/${this.camera.id}`;
    picture.setAttribute('aria-label', large ? 'All cameras' : `Enlarge ${this.camera.id}`);
    full.hidden = !large || !document.fullscreenEnabled;
    back.hidden = !large;
    this.#alone = alone;
    this.#offer();
  }

  /** Somebody can see it, and it is among those that play; or not any more. */
  watched(is, now) {
    if (this.#watched) this.seenAt = now;
    this.#watched = is;
    this.adjust(now);
  }

  /** To be called twice a second or so, hidden or not: its quality follows its size, and whether it is watched. */
  adjust(now) {
    if (this.#watched) {
      const pixels = this.element.clientWidth * devicePixelRatio;
      this.seenAt = now;
      this.view.ask(quality(this.camera, { alone: this.#alone, choice: this.#choice, pixels }));
      this.view.want(true);
    } else if (now - this.seenAt > KEPT) this.view.want(false);
    else if (now - this.seenAt > REST) this.view.ask('off');
  }

  focus() { this.#parts.picture.focus({ preventScroll: true }); }

  fullScreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.element.requestFullscreen?.().catch(() => {});
  }

  /** Writes the statistics over the picture, or hides them. */
  statistics(shown) {
    const { statistics } = this.#parts;
    const { stats, latency, delay, data } = this.view;
    statistics.hidden = !shown || !stats || !this.#parts.notice.hidden;
    if (statistics.hidden) return;
    statistics.replaceChildren(...rows(stats, latency, delay, several(this.camera) && data?.layer).flatMap(([label, text]) => [element('dt', label), element('dd', text)]));
  }

  /** What the page tells of this camera to whoever looks from outside. */
  get diagnosis() {
    const { view } = this;
    return {
      state: view.state, text: view.text, camera: this.camera.state,
      frames: view.stats?.frames ?? 0, shown: view.frames, quality: view.quality, fps: view.stats?.fps, latency: view.latency,
      latencies: [...view.latencies], joinMs: view.joinMs, firstMs: view.firstAt, opens: view.opens, restarts: view.restarts,
      stats: { ...view.stats }, delay: view.delay,
      data: view.data && { records: view.data.records, matched: view.data.matched, last: view.data.last, events: [...view.data.events] },
    };
  }

  #offer() {
    const offered = this.#alone && several(this.camera);
    this.#parts.quality.hidden = !offered;
    this.element.classList.toggle('offers', offered);
  }

  #choose(choice) {
    this.#choice = choice;
    choices.set(this.camera.id, choice);
    this.adjust(performance.now());
  }

  /** Turns the sound on, or off again; nothing where there is none. */
  sound() {
    const { video, sound } = this.#parts;
    if (sound.hidden || sound.disabled) return;
    video.muted = !video.muted;
    sound.setAttribute('aria-pressed', String(!video.muted));
    this.view.listen(!video.muted);
  }

  // offerSound shows the control where there is sound, or says why there is none though there should be.
  #offerSound() {
    const { sound } = this.#parts;
    const has = Boolean(this.camera.audio), why = this.camera.audio_error?.detail;
    sound.hidden = !has && !why;
    sound.disabled = !has;
    sound.textContent = has ? 'Sound' : 'No sound';
    sound.title = has ? 'Sound (m)' : why ?? '';
    sound.setAttribute('aria-label', has ? `Sound of ${this.camera.id}` : `No sound of ${this.camera.id}: ${why}`);
  }

  #show() {
    if (!this.view) return; // called while the view is being made
    const { tone, state, notice } = describe(this.camera, this.view, this.#connected);
    this.element.dataset.tone = tone;
    this.element.toggleAttribute('data-placeholder', Boolean(this.camera.placeholder) && !notice); // it is to be read
    this.#parts.state.textContent = state;
    this.#parts.state.title = state;
    this.#parts.notice.textContent = notice;
    this.#parts.notice.hidden = !notice;
  }
}

function element(name, text) {
  const e = document.createElement(name);
  e.textContent = text;
  return e;
}
