// What a view's data channels say: on `meta` a record for each frame, on
// `events` what happens to the camera and to the view.

const KEPT = 64;                            // records, or frames shown, that wait for the other
const HEADER = 8, PARTS = 32, UNDER_WAY = 4; // of records in fragments
const EVENTS = 20;                          // kept, for those who look from outside

/** Puts records together that came in fragments; one that lacks a part is forgotten when newer ones come. */
export class Assembler {
  #records = new Map(); // number → { parts, lacks }, oldest first

  /** Takes an ArrayBuffer; gives the text of the record that it completes, or null. */
  add(buffer) {
    if (buffer.byteLength <= HEADER) return null;
    const view = new DataView(buffer);
    const id = view.getUint32(0), part = view.getUint16(4), of = view.getUint16(6);
    if (of > PARTS || part >= of) return null;
    let record = this.#records.get(id);
    if (!record) {
      if (this.#records.size === UNDER_WAY) this.#records.delete(this.#records.keys().next().value);
      this.#records.set(id, record = { parts: new Array(of).fill(null), lacks: of });
    }
    if (record.parts.length !== of || record.parts[part]) return null;
    record.parts[part] = new Uint8Array(buffer, HEADER);
    if (--record.lacks) return null;
    this.#records.delete(id);
    const text = new TextDecoder();
    return record.parts.map((p) => text.decode(p, { stream: true })).join('') + text.decode();
  }
}

/** Unix ms of an NTP timestamp, [seconds, fraction], between 1968 and 2104. */
export const unix = ([seconds, fraction]) => (seconds + (seconds < 2 ** 31 ? 2 ** 32 : 0) - 2208988800 + fraction / 2 ** 32) * 1000;

export class Data {
  records = 0; matched = 0;
  last = null;  // the record of the newest frame that was shown
  events = [];  // the newest, as they came
  layer = null; // { from, to, why } of the newest change

  #frames = new Map(); // RTP time → record
  #shown = new Map();  // RTP time → when, of frames whose record has not come
  #pieces = new Assembler(); #met;

  /** Opens the channels on a connection that has made no offer yet. met(record, at) is called for each frame shown that has a record. */
  constructor(pc, met) {
    this.#met = met;
    const meta = pc.createDataChannel('meta', { ordered: false, maxRetransmits: 0 });
    meta.binaryType = 'arraybuffer';
    meta.onmessage = ({ data }) => this.#record(typeof data === 'string' ? data : this.#pieces.add(data));
    pc.createDataChannel('events').onmessage = ({ data }) => this.#event(data);
  }

  /** A frame of an RTP time was shown; record and frame may come in either order. */
  shown(rtp, at) {
    if (rtp === undefined) return; // this browser does not say
    const record = this.#frames.get(rtp);
    if (record) this.#match(record, at);
    else keep(this.#shown, rtp, at);
  }

  #record(text) {
    if (text === null) return;
    let record;
    try { record = JSON.parse(text); } catch { return; }
    if (record.kind !== 'frame') return;
    this.records++;
    keep(this.#frames, record.rtp, record);
    const at = this.#shown.get(record.rtp);
    if (at === undefined) return;
    this.#shown.delete(record.rtp);
    this.#match(record, at);
  }

  #match(record, at) {
    this.matched++;
    this.last = record;
    this.#met(record, at);
  }

  #event(text) {
    let event;
    try { event = JSON.parse(text); } catch { return; }
    this.events.push(event);
    if (this.events.length > EVENTS) this.events.shift();
    if (event.method === 'view.layer') this.layer = event.params;
  }
}

// keep adds to a map and forgets the oldest.
function keep(map, key, value) {
  map.set(key, value);
  if (map.size > KEPT) map.delete(map.keys().next().value);
}
