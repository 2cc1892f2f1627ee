import test from 'node:test';
import assert from 'node:assert/strict';
import { Assembler, Data, unix } from '../js/data.js';

function fragment(id, part, of, bytes) {
  const b = new Uint8Array(8 + bytes.length), v = new DataView(b.buffer);
  v.setUint32(0, id);
  v.setUint16(4, part);
  v.setUint16(6, of);
  b.set(bytes, 8);
  return b.buffer;
}

const bytes = (text) => new TextEncoder().encode(text);

test('fragments are put together in order, whatever the order they come in', () => {
  const whole = bytes('{"a":"grün"}'), a = new Assembler();
  const cut = 9; // within the ü
  assert.equal(a.add(fragment(7, 1, 2, whole.slice(cut))), null);
  assert.equal(a.add(fragment(7, 1, 2, whole.slice(cut))), null, 'a part that comes twice is nothing new');
  assert.equal(a.add(fragment(8, 0, 1, bytes('x'))), 'x', 'another record may come between');
  assert.equal(a.add(fragment(7, 0, 2, whole.slice(0, cut))), '{"a":"grün"}');
});

test('what lacks a part is dropped, and so is nonsense', () => {
  const a = new Assembler();
  for (let id = 1; id <= 5; id++) assert.equal(a.add(fragment(id, 0, 2, bytes('a'))), null);
  assert.equal(a.add(fragment(1, 1, 2, bytes('b'))), null, 'the oldest was forgotten');
  assert.equal(a.add(fragment(5, 1, 2, bytes('b'))), 'ab');
  for (const bad of [new ArrayBuffer(0), new ArrayBuffer(8), fragment(9, 2, 2, bytes('x')), fragment(9, 0, 0, bytes('x')), fragment(9, 0, 33, bytes('x'))]) {
    assert.equal(a.add(bad), null);
  }
});

test('NTP time is Unix time and more', () => {
  assert.equal(unix([2208988800, 0]), 0);
  assert.equal(unix([2208988801, 2 ** 31]), 1500);
  assert.equal(unix([0, 0]), Date.UTC(2036, 1, 7, 6, 28, 16), 'the second era');
});

function connection() {
  const channels = {};
  return { channels, createDataChannel: (label, options) => channels[label] = { options } };
}

test('a record meets its frame, whichever comes first', () => {
  const pc = connection(), met = [];
  const data = new Data(pc, (record, at) => met.push([record.rtp, at]));
  assert.deepEqual(pc.channels.meta.options, { ordered: false, maxRetransmits: 0 });
  const say = (record) => pc.channels.meta.onmessage({ data: JSON.stringify(record) });
  say({ kind: 'frame', rtp: 1 });
  data.shown(1, 10);
  data.shown(2, 20);
  data.shown(undefined, 30);
  say({ kind: 'motion', rtp: 2 });
  say({ kind: 'frame', rtp: 2 });
  say({ kind: 'frame', rtp: 3 });
  assert.deepEqual(met, [[1, 10], [2, 20]]);
  assert.equal(data.records, 3);
  for (let rtp = 100; rtp < 200; rtp++) say({ kind: 'frame', rtp });
  data.shown(3, 40);
  assert.equal(data.matched, 2, 'old records are forgotten');
  pc.channels.meta.onmessage({ data: 'no JSON' });
  pc.channels.meta.onmessage({ data: new ArrayBuffer(3) });
  pc.channels.events.onmessage({ data: 'no JSON' });
  for (let i = 0; i < 30; i++) pc.channels.events.onmessage({ data: '{"method":"view.layer","params":{"from":0,"to":1,"why":"asked"}}' });
  assert.equal(data.events.length, 20);
  assert.equal(data.layer.to, 1);
});
