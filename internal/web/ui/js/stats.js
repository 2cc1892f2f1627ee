// What the browser knows about a connection, made short.

/**
 * Sums up an RTCStatsReport (a Map of id → statistics). before is the last
 * summary of the same connection, or null; rates need it. Units: bitrate in
 * bits/s, loss 0..1 since before, the rest in ms.
 */
export function summarize(report, before) {
  let video, transport;
  for (const s of report.values()) {
    if (s.type === 'inbound-rtp' && s.kind === 'video') video = s;
    if (s.type === 'transport') transport = s;
  }
  const pair = selectedPair(report, transport);
  const now = { at: performance.now(), path: path(report, pair), rtt: ms(pair?.currentRoundTripTime) };
  if (video) Object.assign(now, picture(report, video, before, now.at));
  return now;
}

function picture(report, video, before, at) {
  const now = {
    frames: video.framesDecoded ?? 0,
    bytes: video.bytesReceived ?? 0,
    packets: video.packetsReceived ?? 0,
    lost: Math.max(0, video.packetsLost ?? 0),
    delay: video.jitterBufferDelay ?? 0,
    emitted: video.jitterBufferEmittedCount ?? 0,
    jitter: ms(video.jitter),
    width: video.frameWidth,
    height: video.frameHeight,
    codec: report.get(video.codecId)?.mimeType?.replace(/^video\//i, ''),
  };
  if (before?.frames === undefined) return now;
  const since = (key) => Math.max(0, now[key] - before[key]);
  const seconds = (at - before.at) / 1000;
  const lost = since('lost'), emitted = since('emitted');
  now.fps = since('frames') / seconds;
  now.bitrate = since('bytes') * 8 / seconds;
  now.loss = lost ? lost / (lost + since('packets')) : 0;
  now.buffer = emitted ? since('delay') / emitted * 1000 : undefined;
  return now;
}

function selectedPair(report, transport) {
  const named = report.get(transport?.selectedCandidatePairId);
  if (named) return named;
  for (const s of report.values()) { // Firefox names the pair on the pair itself
    if (s.type === 'candidate-pair' && (s.selected || s.nominated && s.state === 'succeeded')) return s;
  }
}

// path is "host", "srflx" or "relay", and the transport: the weaker end names it.
function path(report, pair) {
  if (!pair) return undefined;
  const mine = report.get(pair.localCandidateId), theirs = report.get(pair.remoteCandidateId);
  const rank = ['host', 'srflx', 'prflx', 'relay'];
  const worst = [mine, theirs].map((c) => rank.indexOf(c?.candidateType)).reduce((a, b) => Math.max(a, b), -1);
  return worst < 0 ? undefined : `${rank[worst]} ${mine?.protocol ?? ''}`.trim();
}

const ms = (seconds) => seconds === undefined ? undefined : seconds * 1000;

/** The summary as [label, text] rows for people. latency, and delay from capture to display, in ms; layer, { to, why }, of several; or undefined. */
export function rows(s, latency, delay, layer) {
  const number = (x, unit, digits = 0) => x === undefined || Number.isNaN(x) ? '–' : `${x.toFixed(digits)}${unit}`;
  const clock = latency === undefined ? [] : [['latency', number(latency, ' ms')]];
  return [
    ...clock,
    ...delay === undefined ? [] : [['shown after', number(delay, ' ms')]],
    ['picture', s.width ? `${s.width}×${s.height}` : '–'],
    ...layer ? [['layer', `${layer.to + 1}${layer.why ? ` (${layer.why})` : ''}`]] : [],
    ['frames', number(s.fps, ' /s')],
    ['bitrate', s.bitrate >= 1e6 ? number(s.bitrate / 1e6, ' Mbit/s', 1) : number(s.bitrate === undefined ? undefined : s.bitrate / 1e3, ' kbit/s')],
    ['loss', number(s.loss === undefined ? undefined : s.loss * 100, ' %', 1)],
    ['round trip', number(s.rtt, ' ms', s.rtt < 10 ? 1 : 0)],
    ['jitter', number(s.jitter, ' ms', 1)],
    ['buffer', number(s.buffer, ' ms')],
    ['codec', s.codec ?? '–'],
    ['path', s.path ?? '–'],
  ];
}
