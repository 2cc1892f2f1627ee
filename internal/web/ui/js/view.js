// One camera's picture: one RTCPeerConnection, kept alive while it is wanted.
//
//   off ─want→ connecting ─frame→ live ─no frame for 3 s→ recovering ─frame→ live
//                  ↑ refused, or not back 2 s after an ICE restart: again, later │
//                  └─────────────────────────────────────────────────────────────┘

import { local } from './clock.js';
import { readVideo } from './code.js';
import { Data, unix } from './data.js';
import { RpcError, UNKNOWN, FORBIDDEN, NO_CODEC, OFFLINE, FULL } from './link.js';
import { summarize } from './stats.js';

const STALL = 3000;       // ms without a new frame before a view is restarted
const BROKEN = 2000;      // ms that a connection may stay 'disconnected'
const RESTART = 2000;     // ms for an ICE restart to bring a frame
const FIRST = 6000;       // ms for a new connection to bring its first frame
const READ_CODE = 240, READ_CODE_SELDOM = 5000; // ms between readings of the pattern's clock
const CODE_MISSES = 8;    // readings without a clock before they become seldom
const LATENCIES = 240;    // readings kept
const RETRY_MOST = 5000;  // ms

/** How a view refused by the box may go on: what to tell, and whether trying again can help. */
export function refusal(error, codecs) {
  switch (error.code) {
    case NO_CODEC: return { text: codecText(error, codecs), final: true };
    case UNKNOWN: return { text: 'the box has no such camera any more', final: true };
    case FORBIDDEN: return { text: 'this token does not allow this camera', final: true };
    case OFFLINE: return { text: 'no picture yet', final: false };
    case FULL: return { text: 'the box is full; trying again', final: false };
    default: return { text: error.message, final: false };
  }
}

function codecText({ data, message }, offered) {
  const camera = data?.camera ?? /camera has (.+?);/.exec(message)?.[1].split(', ');
  if (!camera) return message;
  return `this browser cannot decode ${[].concat(camera).join(', ')}; it offers ${offered.join(', ')}`;
}

/** The video codecs of an SDP, without the repair formats. */
export function codecsOf(sdp) {
  const names = [...sdp.matchAll(/^a=rtpmap:\d+ ([^/\r\n]+)\/90000/gm)].map((m) => m[1]);
  return [...new Set(names)].filter((n) => !/^(rtx|red|ulpfec|flexfec-03)$/i.test(n));
}

export class View {
  state = 'off';          // off, connecting, live, recovering, refused
  text = '';              // why it is not live, for people
  frames = 0;             // shown since the page opened
  joinMs = null;          // open → first frame, of the newest connection
  firstAt = null;         // ms from the page's start to its first frame ever
  latency = undefined;    // ms, glass to glass, where the picture carries a clock
  latencies = [];         // the newest of them
  delay = undefined;      // ms, a frame's capture to its display, by the box's records; smoothed
  data = null;            // of the newest connection, see data.js
  stats = null;           // of the newest connection, see stats.js
  opens = 0; restarts = 0;
  wanted = false;
  quality = 'auto';       // to ask the box for; off: connected, without media

  #camera; #link; #clock; #video; #audio = false; #changed; #ice = () => [];
  #pc = null; #id = ''; #shownBy = null; #old = null; #waiting = []; #early = [];
  #asked = ''; #opened = 0; #progress = 0; #brokenAt = 0; #failures = 0; #retry = 0;
  #codeAt = 0; #codeMisses = 0;

  /** ice gives the ICE servers to use now; changed is called when state or text change. */
  constructor({ camera, link, clock, video, ice, changed }) {
    this.#camera = camera;
    this.#link = link;
    this.#clock = clock;
    this.#video = video;
    this.#ice = ice;
    this.#changed = changed;
    const shown = (now, frame) => { this.#shown(frame); video.requestVideoFrameCallback(shown); };
    video.requestVideoFrameCallback?.(shown);
  }

  /** Asks for the picture, or lets it go. */
  want(wanted) {
    if (wanted === this.wanted) return;
    this.wanted = wanted;
    if (wanted) this.open();
    else this.close();
  }

  /**
   * Asks for a quality. After off the picture comes back over the same
   * connection with the next keyframe; until then it does not count as live.
   */
  ask(quality) {
    if (quality === this.quality) return;
    if (this.quality === 'off') {
      this.resume(performance.now());
      if (this.state === 'live') this.#set('connecting', '');
    }
    this.quality = quality;
    this.#tell();
  }

  /** Opens, or opens anew. What was shown stays until the new connection has a picture. */
  open() {
    clearTimeout(this.#retry);
    this.#retry = 0;
    if (!this.wanted || !this.#link.up) return;
    this.#set('connecting', '');
    this.#forget(this.#pc);
    const pc = this.#pc = new RTCPeerConnection({ iceServers: this.#ice(), bundlePolicy: 'max-bundle' });
    this.#connect(pc).catch((error) => { if (pc === this.#pc) this.#failed(error); });
  }

  /** Ends the connection. */
  close() {
    clearTimeout(this.#retry);
    this.#retry = 0;
    this.#forget(this.#pc);
    this.#drop(this.#old);
    this.#old = this.#shownBy = null;
    this.#video.srcObject = null;
    this.latency = this.delay = undefined;
    this.#set('off', '');
  }

  /** The camera's state or codec changed: what was refused may be possible now. */
  cameraChanged() {
    if (this.wanted && (this.state === 'refused' || this.#retry)) this.#again(0);
  }

  /**
   * Has the sound come too, or not any more, over a new connection; the picture
   * stays. Sound that nobody hears would cost bits, and delay: browsers let
   * the picture wait for it.
   */
  listen(is) {
    if (is === this.#audio) return;
    this.#audio = is;
    this.open();
  }

  /** The box lost its link to the page, or has a new one (which knows nothing of older views). */
  linkDown() { clearTimeout(this.#retry); this.#retry = 0; }

  linkUp() {
    this.#id = '';
    this.#failures = 0;
    this.open();
  }

  /** Takes a notification that names this view. */
  candidate(id, candidate) {
    if (!this.#id && this.#pc) this.#early.push([id, candidate]);
    else if (id === this.#id) this.#remote(candidate);
  }

  closed(id, reason) {
    if (!id || id !== this.#id) return;
    this.#id = '';
    this.#later(reason || 'closed by the box');
  }

  /** To be called twice a second or so while the page is visible: notices what has stopped. */
  tick(now, cameraLive) {
    this.#tell();
    if (!cameraLive || this.quality === 'off') this.#progress = now; // nothing can be expected
    if (!this.#pc || this.#retry || !this.#link.up) return;
    const idle = now - this.#progress;
    const broken = this.#brokenAt && now - this.#brokenAt > BROKEN;
    if (this.state === 'connecting' && idle > FIRST) this.#later('no picture arrives; trying again');
    else if (this.state === 'live' && (broken || idle > STALL)) this.#recover();
    else if (this.state === 'recovering' && idle > RESTART) this.#later('the picture stopped; trying again');
  }

  /** Gives it time again, after the page was hidden. */
  resume(now) {
    this.#progress = now;
    this.#brokenAt &&= now;
  }

  /** Reads the connection's statistics. */
  async measure() {
    const pc = this.#pc;
    if (!pc) return;
    const stats = summarize(await pc.getStats(), this.stats);
    if (pc !== this.#pc) return;
    if (stats.frames > (this.stats?.frames ?? 0)) this.#alive();
    this.stats = stats;
  }

  async #connect(pc) {
    this.#id = '';
    this.#waiting = [];
    this.#early = [];
    this.#brokenAt = 0;
    this.#opened = this.#progress = performance.now();
    this.opens++;
    this.data = new Data(pc, ({ ntp }, at) => this.#met(at - unix(ntp)));
    const live = new MediaStream();
    for (const kind of this.#audio ? ['video', 'audio'] : ['video']) {
      prompt(pc.addTransceiver(kind, { direction: 'recvonly' }).receiver);
    }
    pc.ontrack = ({ track }) => { live.addTrack(track); if (track.kind === 'video') this.#attach(pc, live, track); };
    pc.onicecandidate = ({ candidate }) => { if (candidate?.candidate) this.#local(pc, candidate.candidate); };
    pc.onconnectionstatechange = () => this.#connection(pc);
    await pc.setLocalDescription();
    const { quality } = this;
    const { view, sdp } = await this.#link.call('view.open', { camera: this.#camera, sdp: pc.localDescription.sdp, quality });
    if (pc !== this.#pc) {
      this.#link.call('view.close', { view }).catch(() => {});
      return;
    }
    this.#id = view;
    this.#asked = quality;
    this.#tell();
    for (const candidate of this.#waiting.splice(0)) this.#send(candidate);
    await pc.setRemoteDescription({ type: 'answer', sdp });
    for (const [id, candidate] of this.#early.splice(0)) if (id === view) this.#remote(candidate);
  }

  // tell asks the box for the quality, unless it was told already.
  #tell() {
    const { quality } = this, view = this.#id;
    if (!view || quality === this.#asked) return;
    this.#asked = quality;
    this.#link.call('view.quality', { view, quality }).catch(() => { if (view === this.#id) this.#asked = ''; }); // the next tick tells again
  }

  // An ICE restart keeps the decoder and its picture; the other way is a new connection.
  async #recover() {
    if (!this.#link.up) return; // linkUp opens it again
    const pc = this.#pc, id = this.#id;
    this.#set('recovering', 'the picture stopped; restarting');
    this.#progress = performance.now();
    this.#brokenAt = 0;
    this.restarts++;
    this.#link.probe();
    if (!id) return this.open();
    try {
      await pc.setLocalDescription(await pc.createOffer({ iceRestart: true }));
      const { sdp } = await this.#link.call('view.restart', { view: id, sdp: pc.localDescription.sdp });
      if (pc === this.#pc) await pc.setRemoteDescription({ type: 'answer', sdp });
    } catch {
      if (pc === this.#pc && this.#link.up) this.open();
    }
  }

  #failed(error) {
    if (!this.#link.up) return; // linkUp opens it again
    if (!(error instanceof RpcError)) return this.#later(error.message);
    const { text, final } = refusal(error, codecsOf(this.#pc.localDescription?.sdp ?? ''));
    if (!final) return this.#later(text);
    this.#forget(this.#pc);
    this.#set('refused', text);
  }

  #later(text) {
    this.#forget(this.#pc);
    this.#set('recovering', text);
    this.#again(Math.min(RETRY_MOST, 250 * 2 ** this.#failures++));
  }

  #again(wait) {
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.open(), wait);
  }

  #attach(pc, stream, track) {
    const show = () => {
      if (pc !== this.#pc || this.#video.srcObject === stream) return;
      this.#video.srcObject = stream;
      this.#shownBy = pc;
      this.#video.play().catch(() => {}); // a browser that forbids it is told of in alive
      this.#drop(this.#old);
      this.#old = null;
    };
    if (this.#old) track.onunmute = show; // the last picture stays until the next one is on its way
    else show();
  }

  #shown(frame) {
    this.frames++;
    if (!this.#pc || this.#shownBy !== this.#pc) return;
    const now = performance.now();
    this.joinMs ??= now - this.#opened;
    this.firstAt ??= now;
    this.#alive();
    const seen = Math.max(local(), performance.timeOrigin + (frame.expectedDisplayTime ?? 0));
    this.data.shown(frame.rtpTimestamp, this.#clock.at(seen));
    if (now - this.#codeAt > (this.#codeMisses > CODE_MISSES ? READ_CODE_SELDOM : READ_CODE)) {
      this.#codeAt = now;
      this.#readCode(seen);
    }
  }

  #alive() {
    this.#progress = performance.now();
    this.#failures = 0;
    this.#set('live', this.#video.paused ? 'tap to play' : '');
  }

  #met(delay) { if (Number.isFinite(delay)) this.delay = delay + ((this.delay ?? delay) - delay) * 0.9; } // not before the box's clock is known

  #readCode(seen) {
    const code = readVideo(this.#video);
    if (!code) {
      if (++this.#codeMisses > CODE_MISSES) this.latency = undefined;
      return;
    }
    this.#codeMisses = 0;
    const latency = this.#clock.at(seen) - code.time;
    if (!Number.isFinite(latency)) return;
    this.latency = latency;
    this.latencies.push(latency);
    if (this.latencies.length > LATENCIES) this.latencies.shift();
  }

  #connection(pc) {
    if (pc !== this.#pc) return;
    switch (pc.connectionState) {
      case 'connected': this.#brokenAt = 0; break;
      case 'disconnected': this.#brokenAt ||= performance.now(); break;
      case 'failed':
        if (this.state === 'live') this.#recover();
        else if (this.state === 'connecting') this.#later('the connection failed; trying again');
    }
  }

  #local(pc, candidate) {
    if (pc !== this.#pc) return;
    if (this.#id) this.#send(candidate);
    else this.#waiting.push(candidate);
  }

  #send(candidate) { this.#link.call('view.candidate', { view: this.#id, candidate }).catch(() => {}); }

  // remote takes an RTCIceCandidateInit, or only its text.
  #remote(candidate) {
    const init = typeof candidate === 'string' ? { candidate, sdpMLineIndex: 0 } : candidate;
    if (init?.candidate) this.#pc?.addIceCandidate(init).catch(() => {});
  }

  // forget sets a connection aside: its last picture stays on the screen
  // until the next one comes.
  #forget(pc) {
    if (!pc) return;
    if (this.#id) this.#link.call('view.close', { view: this.#id }).catch(() => {});
    this.#id = '';
    this.#pc = null;
    this.joinMs = null;
    this.stats = null;
    if (pc !== this.#shownBy) return this.#drop(pc);
    silence(pc);
    this.#drop(this.#old);
    this.#old = pc;
  }

  #drop(pc) {
    if (!pc) return;
    silence(pc);
    pc.close();
  }

  #set(state, text) {
    if (state === this.state && text === this.text) return;
    this.state = state;
    this.text = text;
    this.#changed();
  }
}

function silence(pc) {
  pc.ontrack = pc.onicecandidate = pc.onconnectionstatechange = null;
}

// A picture is shown when it is there: no buffer beyond what jitter asks for.
function prompt(receiver) {
  if ('jitterBufferTarget' in receiver) receiver.jitterBufferTarget = 0;
  if ('playoutDelayHint' in receiver) receiver.playoutDelayHint = 0;
}
