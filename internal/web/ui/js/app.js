// The page: token, link, grid, the large camera, keys.

import { Clock } from './clock.js';
import { Link } from './link.js';
import { Tile } from './tile.js';

const MOST_VIEWS = 9;       // pictures at once
const SETTLE = 150;         // ms without scrolling before pictures are chosen
const TICK = 500, MEASURE = 1000;

const $ = (id) => document.getElementById(id);
const grid = $('grid');
const tiles = new Map();    // camera id → Tile, in the box's order
const clock = new Clock();
let link, iceServers = [], version = 0, overlay = false;

// ---- token -----------------------------------------------------------------

const KEY = 'edged.token';

// The token of this tab; kept over a reload where the browser lets it.
const store = {
  token: '',
  get() { try { return sessionStorage.getItem(KEY) ?? this.token; } catch { return this.token; } },
  set(token) {
    this.token = token;
    try { sessionStorage.setItem(KEY, token); } catch { /* storage is forbidden: memory has to do */ }
  },
};

// A token that came in the address goes from there: it must not be shared by
// copying the address, nor stay in the history.
function takeToken() {
  const here = new URL(location.href);
  const token = here.searchParams.get('token');
  if (token === null) return store.get();
  here.searchParams.delete('token');
  history.replaceState(history.state, '', here);
  store.set(token);
  return token;
}

function askToken(why, bad) {
  $('token-why').textContent = why;
  $('token').dataset.tone = bad ? 'bad' : '';
  $('token').hidden = false;
  grid.hidden = true;
  $('empty').hidden = true;
  $('leave').hidden = $('statistics').hidden = true;
  $('token-text').focus();
}

$('token').onsubmit = (event) => {
  event.preventDefault();
  const text = $('token-text').value.trim();
  const link = URL.canParse(text) ? new URL(text).searchParams.get('token') : null;
  store.set(link ?? text);
  $('token-text').value = '';
  $('token').hidden = true;
  begin();
};

$('leave').onclick = () => {
  store.set('');
  location.replace(location.pathname);
};

// ---- link ------------------------------------------------------------------

function begin() {
  const token = takeToken();
  say('wait', 'connecting…');
  const url = new URL('rpc', document.baseURI);
  url.protocol = url.protocol.replace('http', 'ws');
  link = new Link(url.href, token, clock, {
    up: (hello) => {
      iceServers = hello.ice_servers ?? [];
      version = hello.state_version ?? 0;
      $('box').textContent = document.title = name(hello.box);
      $('leave').hidden = !token;
      $('statistics').hidden = false;
      say('', '');
      grid.hidden = false;
      for (const tile of tiles.values()) tile.connected(true);
      show(hello.cameras ?? []);
    },
    down: (why) => {
      say('bad', `${why}; reconnecting`);
      for (const tile of tiles.values()) tile.connected(false);
    },
    denied: () => {
      show([]);
      askToken(token ? 'The box does not accept this token: it may have expired, been used up, or belong to another box.'
        : 'This box shows its cameras only to those who have a token.', Boolean(token));
      say('bad', token ? 'not accepted' : 'no token');
    },
    notify,
  });
  link.start();
}

const name = (box) => (typeof box === 'string' ? box : box?.name) || 'edged';

function say(tone, text) {
  $('status').dataset.tone = tone;
  $('status').textContent = text;
}

function notify(method, params) {
  switch (method) {
    case 'view.candidate':
      for (const { view } of tiles.values()) view.candidate(params.view, params.candidate);
      break;
    case 'view.closed':
      for (const { view } of tiles.values()) view.closed(params.view, params.reason);
      break;
    case 'session.expiring':
      say('wait', 'your token is about to expire');
      break;
  }
  if (params.state_version === undefined) return;
  const expected = version + 1;
  version = Math.max(version, params.state_version);
  if (params.state_version > expected) resync(expected - 1);
  else if (method === 'camera.changed') change(params.camera, params.removed);
}

// A notification is missing: ask for all that happened since.
async function resync(since) {
  try {
    const state = await link.call('state.get', { since });
    version = Math.max(version, state.state_version ?? 0);
    show(state.cameras ?? []);
  } catch { /* a lost link brings a new hello, with everything */ }
}

// ---- grid ------------------------------------------------------------------

// show makes the grid that of these cameras.
function show(cameras) {
  const ids = new Set(cameras.map((c) => c.id));
  for (const [id, tile] of tiles) {
    if (ids.has(id)) continue;
    watch.unobserve(tile.element);
    tile.view.want(false);
    tile.element.remove();
    tiles.delete(id);
  }
  for (const camera of cameras) {
    const known = tiles.get(camera.id);
    if (known) known.update(camera);
    else add(camera);
  }
  grid.classList.toggle('single', tiles.size === 1);
  grid.classList.toggle('two', tiles.size === 2);
  $('empty').hidden = tiles.size > 0 || !grid.checkVisibility?.();
  route();
}

function add(camera) {
  const tile = new Tile(camera, { link, clock, ice: () => iceServers });
  tiles.set(camera.id, tile);
  grid.append(tile.element);
  tile.element.dataset.camera = camera.id;
  tile.sight = tile.element.getBoundingClientRect().top < innerHeight ? 1 : 0; // at once; the observer corrects it
  watch.observe(tile.element);
}

// change takes one camera's new state, or that it has gone.
function change(camera, removed) {
  const others = [...tiles.values()].map((t) => t.camera).filter((c) => c.id !== camera.id);
  if (removed) show(others);
  else if (tiles.has(camera.id)) tiles.get(camera.id).update(camera);
  else show([...others, camera]);
}

let settling = 0;

const watch = new IntersectionObserver((entries) => {
  for (const { target, intersectionRatio } of entries) {
    const tile = tiles.get(target.dataset.camera);
    if (tile) tile.sight = intersectionRatio;
  }
  clearTimeout(settling);
  settling = setTimeout(choose, SETTLE);
}, { rootMargin: '60px', threshold: [0, 0.25, 0.5, 0.75, 1] });

// choose has the pictures most in sight played at once; a hidden page has
// none in sight. The others rest and keep their connection for a while, so
// that who comes back waits for a keyframe and not for a new connection, but
// never more than MOST_VIEWS in all: those seen last.
function choose() {
  const now = performance.now(), all = [...tiles.values()];
  const seen = document.hidden ? [] : all.filter((t) => t.sight > 0).sort((a, b) => b.sight - a.sight);
  const wanted = new Set(seen.slice(0, MOST_VIEWS));
  const others = all.filter((t) => t.view.wanted && !wanted.has(t)).sort((a, b) => b.seenAt - a.seenAt);
  for (const { view } of others.slice(MOST_VIEWS - wanted.size)) view.want(false);
  for (const tile of all) tile.watched(wanted.has(tile), now);
}

document.addEventListener('visibilitychange', () => {
  if (!document.hidden) for (const { view } of tiles.values()) view.resume(performance.now());
  choose();
});

setInterval(() => {
  const now = performance.now();
  for (const tile of tiles.values()) {
    tile.adjust(now);
    if (!document.hidden) tile.view.tick(now, tile.live);
  }
}, TICK);

setInterval(() => {
  for (const tile of tiles.values()) tile.view.measure().then(() => tile.statistics(overlay), () => {});
}, MEASURE);

// ---- one camera large ------------------------------------------------------

let chosen = null;

const asked = () => location.hash.replace(/^#\/?/, '');

function route() {
  const before = chosen;
  chosen = tiles.get(asked()) ?? null;
  for (const tile of tiles.values()) {
    tile.enlarge(tile === chosen, tile === chosen || tiles.size === 1);
    if (chosen) tile.sight = tile === chosen ? 1 : 0;
  }
  grid.classList.toggle('large', Boolean(chosen));
  if (before !== chosen && grid.contains(document.activeElement)) (chosen ?? before).focus();
  choose();
}

addEventListener('hashchange', route);

function neighbour(step) {
  const all = [...tiles.values()];
  return all[(all.indexOf(chosen) + step + all.length) % all.length];
}

const alone = () => chosen ?? (tiles.size === 1 ? [...tiles.values()][0] : null);

const keys = {
  s: () => $('statistics').click(),
  f: () => alone()?.fullScreen(),
  m: () => alone()?.sound(),
  Escape: () => { if (chosen && !document.fullscreenElement) location.hash = '#/'; },
  ArrowLeft: () => { if (chosen) location.hash = `#/${neighbour(-1).camera.id}`; },
  ArrowRight: () => { if (chosen) location.hash = `#/${neighbour(1).camera.id}`; },
};

addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest('input, select')) return;
  keys[event.key]?.();
});

$('statistics').onclick = () => {
  overlay = !overlay;
  $('statistics').setAttribute('aria-pressed', String(overlay));
  for (const tile of tiles.values()) tile.statistics(overlay);
};

// ---- for those who look from outside: support, and the tests ----------------

Object.defineProperty(window, 'edged', {
  value: Object.freeze({
    get connected() { return Boolean(link?.up); },
    get clock() { return clock.best; },
    get cameras() { return Object.fromEntries([...tiles].map(([id, tile]) => [id, tile.diagnosis])); },
  }),
});

begin();
