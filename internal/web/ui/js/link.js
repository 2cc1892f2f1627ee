// The one WebSocket to the box: JSON-RPC 2.0 over it, reopened for as long as
// the page is open.

import { local } from './clock.js';

export const UNAUTHORIZED = -32001, FORBIDDEN = -32002, UNKNOWN = -32003, NO_CODEC = -32004,
  OFFLINE = -32005, FULL = -32006, RATE_LIMITED = -32007, REPLAY = -32008;

const OPEN_TIMEOUT = 4000, CALL_TIMEOUT = 8000, PROBE_TIMEOUT = 2000, HEARTBEAT = 5000; // ms

/** What the box answered instead of a result. */
export class RpcError extends Error {
  constructor({ code, message, data }) {
    super(message);
    this.code = code;
    this.data = data;
  }
}

/** Milliseconds to wait before attempt n (from 0): 250 ms doubling to 3 s, of which half is left to chance. */
export function backoff(n, random = Math.random()) {
  return Math.min(3000, 250 * 2 ** n) * (0.5 + random / 2);
}

export class Link {
  #url; #token; #clock; #on;
  #socket = null; #calls = new Map(); #id = 0; #failures = 0;
  #retry = 0; #beat = 0; #deaf = 0; #up = false; #stopped = true;

  /**
   * on has up(hello) after each session.hello, down(why) when the socket is
   * lost, denied(error) when the box refuses the token (the link then stays
   * closed), and notify(method, params).
   */
  constructor(url, token, clock, on) {
    this.#url = url;
    this.#token = token;
    this.#clock = clock;
    this.#on = on;
    addEventListener('online', () => this.hurry());
    document.addEventListener('visibilitychange', () => { if (!document.hidden) this.hurry(); });
  }

  get up() { return this.#up; }

  start() {
    this.#stopped = false;
    this.#connect();
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#retry);
    this.#socket?.close(1000);
  }

  /** Tries at once if it is waiting for its next attempt; makes sure of the socket if it has one. */
  hurry() {
    if (this.#stopped) return;
    if (this.#socket) return this.probe();
    clearTimeout(this.#retry);
    this.#connect();
  }

  /** Calls a method; rejects with RpcError, or with Error when the link is lost or the box does not answer. */
  call(method, params, timeout = CALL_TIMEOUT) {
    const socket = this.#socket;
    if (socket?.readyState !== WebSocket.OPEN) return Promise.reject(new Error('not connected'));
    return new Promise((resolve, reject) => {
      const id = ++this.#id;
      const timer = setTimeout(() => this.#settle(id)?.reject(new Error(`no answer to ${method}`)), timeout);
      this.#calls.set(id, { resolve, reject, timer });
      socket.send(JSON.stringify({ jsonrpc: '2.0', id, method, params }));
    });
  }

  /** Asks for a sign of life, and for the box's clock; a box that gives none within 2 s has gone. */
  probe() {
    const socket = this.#socket;
    if (!socket || this.#deaf || !this.#up) return;
    this.#deaf = setTimeout(() => this.#lost(socket, 'the box does not answer'), PROBE_TIMEOUT);
    const asked = local();
    this.call('ping').then((result) => this.#clock.sample(asked, local(), result?.t), () => {});
  }

  #connect() {
    const socket = this.#socket = new WebSocket(this.#url);
    const timer = setTimeout(() => this.#lost(socket, 'the box does not answer'), OPEN_TIMEOUT);
    socket.onopen = () => {
      this.call('session.hello', { token: this.#token, version: 1 }).then(
        (hello) => { clearTimeout(timer); this.#begin(socket, hello); },
        (error) => { clearTimeout(timer); this.#refused(socket, error); });
    };
    socket.onmessage = ({ data }) => { if (socket === this.#socket) this.#receive(data); };
    socket.onclose = ({ reason }) => { clearTimeout(timer); this.#lost(socket, reason || 'the box is not reachable'); };
  }

  #begin(socket, hello) {
    if (socket !== this.#socket) return;
    this.#up = true;
    this.#failures = 0;
    this.#clock.reset();
    this.#on.up(hello);
    this.#beat = setInterval(() => this.probe(), HEARTBEAT);
    for (let i = 1; i <= 5; i++) setTimeout(() => this.probe(), 300 * i); // the clock, once the pictures are under way
  }

  #refused(socket, error) {
    if (socket !== this.#socket) return;
    if (![UNAUTHORIZED, FORBIDDEN, REPLAY].includes(error.code)) return this.#lost(socket, error.message);
    this.#stopped = true;
    this.#lost(socket, error.message);
    this.#on.denied(error);
  }

  #receive(data) {
    clearTimeout(this.#deaf);
    this.#deaf = 0;
    let message;
    try { message = JSON.parse(data); } catch { return; }
    if (message.method) return this.#on.notify(message.method, message.params ?? {});
    const call = this.#settle(message.id);
    if (message.error) call?.reject(new RpcError(message.error));
    else call?.resolve(message.result);
  }

  #settle(id) {
    const call = this.#calls.get(id);
    this.#calls.delete(id);
    clearTimeout(call?.timer);
    return call;
  }

  #lost(socket, why) {
    if (socket !== this.#socket) return;
    this.#socket = null;
    this.#up = false;
    socket.onclose = socket.onmessage = null;
    socket.close();
    clearInterval(this.#beat);
    clearTimeout(this.#deaf);
    this.#deaf = 0;
    for (const id of [...this.#calls.keys()]) this.#settle(id).reject(new Error(why));
    if (this.#stopped) return;
    this.#retry = setTimeout(() => this.#connect(), backoff(this.#failures++));
    this.#on.down(why);
  }
}
