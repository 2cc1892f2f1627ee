import test from 'node:test';
import assert from 'node:assert/strict';
import { rows, summarize } from '../js/stats.js';

function report({ frames = 0, bytes = 0, packets = 0, lost = 0, delay = 0, emitted = 0, local = 'host', remote = 'host', transport = true } = {}) {
  const entries = [
    { id: 'v', type: 'inbound-rtp', kind: 'video', codecId: 'c', framesDecoded: frames, bytesReceived: bytes, packetsReceived: packets, packetsLost: lost, jitter: 0.0042, jitterBufferDelay: delay, jitterBufferEmittedCount: emitted, frameWidth: 1280, frameHeight: 720 },
    { id: 'a', type: 'inbound-rtp', kind: 'audio', framesDecoded: 99 },
    { id: 'c', type: 'codec', mimeType: 'video/H264' },
    { id: 'p1', type: 'candidate-pair', state: 'failed' },
    { id: 'p2', type: 'candidate-pair', state: 'succeeded', nominated: true, currentRoundTripTime: 0.012, localCandidateId: 'l', remoteCandidateId: 'r' },
    { id: 'l', type: 'local-candidate', candidateType: local, protocol: 'udp' },
    { id: 'r', type: 'remote-candidate', candidateType: remote, protocol: 'udp' },
    ...transport ? [{ id: 't', type: 'transport', selectedCandidatePairId: 'p2' }] : [],
  ];
  return new Map(entries.map((e) => [e.id, e]));
}

test('rates come from two reports', () => {
  const first = summarize(report({ frames: 10, bytes: 1000, packets: 10 }), null);
  assert.equal(first.frames, 10);
  assert.equal(first.fps, undefined);
  const second = summarize(report({ frames: 40, bytes: 251_000, packets: 100, lost: 10, delay: 0.3, emitted: 30 }), { ...first, at: performance.now() - 1000 });
  assert.ok(Math.abs(second.fps - 30) < 1, second.fps);
  assert.ok(Math.abs(second.bitrate - 2e6) < 1e5, second.bitrate);
  assert.ok(Math.abs(second.loss - 0.1) < 1e-9, second.loss);
  assert.ok(Math.abs(second.buffer - 10) < 1e-9, second.buffer);
  assert.equal(second.jitter, 4.2);
  assert.equal(second.codec, 'H264');
  assert.equal(second.rtt, 12);
});

test('a late packet that was counted as lost is no negative loss', () => {
  const before = summarize(report({ packets: 10, lost: 5 }), null);
  assert.equal(summarize(report({ packets: 20, lost: 4 }), before).loss, 0);
});

test('the path is that of the weaker end', () => {
  assert.equal(summarize(report(), null).path, 'host udp');
  assert.equal(summarize(report({ remote: 'srflx' }), null).path, 'srflx udp');
  assert.equal(summarize(report({ local: 'relay', remote: 'srflx' }), null).path, 'relay udp');
  assert.equal(summarize(report({ transport: false }), null).path, 'host udp', 'Firefox has no transport statistics');
  assert.equal(summarize(new Map(), null).path, undefined);
});

test('rows are for people, and a dash where nothing is known', () => {
  const text = Object.fromEntries(rows({ fps: 29.7, bitrate: 2_512_345, loss: 0.0123, rtt: 3.21, jitter: 4.2, buffer: 7.5, width: 1280, height: 720, codec: 'H264', path: 'host udp' }, 51.2, 48.7, { from: 0, to: 1, why: 'asked' }));
  assert.equal(text.latency, '51 ms');
  assert.equal(text['shown after'], '49 ms');
  assert.equal(text.layer, '2 (asked)');
  assert.equal(text.frames, '30 /s');
  assert.equal(text.bitrate, '2.5 Mbit/s');
  assert.equal(text.loss, '1.2 %');
  assert.equal(text['round trip'], '3.2 ms');
  assert.equal(text.picture, '1280×720');
  const none = Object.fromEntries(rows({}, undefined));
  assert.ok(!('latency' in none), 'only a picture with a clock has a latency');
  assert.ok(!('shown after' in none) && !('layer' in none), 'without data channels nothing is known');
  assert.ok(Object.values(none).every((t) => t === '–'), JSON.stringify(none));
  assert.equal(Object.fromEntries(rows({ bitrate: 64_000 }))['bitrate'], '64 kbit/s');
});
