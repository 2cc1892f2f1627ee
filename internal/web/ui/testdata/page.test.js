import test from 'node:test';
import assert from 'node:assert/strict';
import { backoff, RpcError } from '../js/link.js';
import { codecsOf, refusal } from '../js/view.js';
import { describe } from '../js/tile.js';

test('the back-off doubles from 250 ms to 3 s, half of it by chance', () => {
  assert.deepEqual([0, 1, 2, 3, 4, 9].map((n) => backoff(n, 1)), [250, 500, 1000, 2000, 3000, 3000]);
  assert.deepEqual([0, 9].map((n) => backoff(n, 0)), [125, 1500]);
});

const sdp = ['v=0', 'm=audio 9 UDP/TLS/RTP/SAVPF 111', 'a=rtpmap:111 opus/48000/2', 'm=video 9 UDP/TLS/RTP/SAVPF 96 97',
  'a=rtpmap:96 VP8/90000', 'a=rtpmap:97 rtx/90000', 'a=rtpmap:98 VP9/90000', 'a=rtpmap:99 VP9/90000', 'a=rtpmap:45 AV1/90000',
  'a=rtpmap:123 red/90000', 'a=rtpmap:35 flexfec-03/90000', ''].join('\r\n');

test('an offer names its video codecs once, without the repair formats', () => {
  assert.deepEqual(codecsOf(sdp), ['VP8', 'VP9', 'AV1']);
});

test('a refusal says what to do, and whether to try again', () => {
  const of = (code, message = 'm', data) => refusal(new RpcError({ code, message, data }), codecsOf(sdp));
  const text = 'this browser cannot decode H264; it offers VP8, VP9, AV1';
  assert.deepEqual(of(-32004, 'no common codec: camera has H264; viewer offers VP8, VP9, AV1'), { text, final: true });
  assert.deepEqual(of(-32004, 'x', { camera: ['H264'] }), { text, final: true });
  assert.deepEqual(of(-32004, 'no common codec'), { text: 'no common codec', final: true });
  assert.equal(of(-32005).final, false);
  assert.equal(of(-32006).final, false);
  assert.equal(of(-32003).final, true);
  assert.equal(of(-32002).final, true);
  assert.deepEqual(of(-32603, 'internal error'), { text: 'internal error', final: false });
});

test('a tile says why it is not live: the camera first, then the view', () => {
  const live = { id: 'dock', state: 'live' }, view = { state: 'live', text: '', frames: 9 };
  assert.deepEqual(describe(live, view, true), { tone: 'live', state: 'live', notice: '' });
  const far = { id: 'far', state: 'offline', last_error: { code: 'unreachable', detail: 'no route to host' } };
  assert.deepEqual(describe(far, { state: 'recovering', text: 'x', frames: 0 }, true),
    { tone: 'bad', state: 'offline: no route to host', notice: 'offline: no route to host' });
  assert.equal(describe({ ...far, state: 'stalled', last_error: undefined }, view, true).notice, 'stalled');
  assert.equal(describe({ state: 'starting' }, view, true).tone, 'wait');
  assert.equal(describe(live, { state: 'refused', text: 'no codec', frames: 0 }, true).notice, 'no codec');
  assert.equal(describe(live, { state: 'connecting', text: '', frames: 9 }, true).notice, '', 'the last picture stays visible');
  assert.match(describe(live, { state: 'off', text: '', frames: 0 }, true).notice, /^not playing/);
  assert.equal(describe(live, view, false).state, 'reconnecting');
  assert.equal(describe(live, { state: 'live', text: 'tap to play', frames: 0 }, true).notice, 'tap to play');
});
