import test from 'node:test';
import assert from 'node:assert/strict';
import { CHOICES, choices, quality, several } from '../js/quality.js';

const gate = { id: 'gate', layers: [{ width: 1280, height: 720 }, { width: 640, height: 360 }] };
const plain = { id: 'plain', layers: [{ width: 1280, height: 720 }] };
const grid = (camera, pixels) => quality(camera, { alone: false, choice: 'high', pixels });

test('in the grid the size decides, whatever was chosen for the large view', () => {
  assert.equal(grid(gate, 639), 'low');
  assert.equal(grid(gate, 640), 'auto', 'half as wide shows more than the low layer has');
  assert.equal(grid(gate, 3840), 'auto');
  assert.equal(grid({ layers: [{}, {}] }, 10), 'auto', 'a width not known yet is no reason');
});

test('alone, the person decides', () => {
  for (const choice of CHOICES) assert.equal(quality(gate, { alone: true, choice, pixels: 10 }), choice);
});

test('where there is one layer, there is nothing to choose', () => {
  for (const camera of [plain, { id: 'new' }, { id: 'off', layers: [] }]) {
    assert.equal(several(camera), false);
    assert.equal(grid(camera, 10), 'auto');
    assert.equal(quality(camera, { alone: true, choice: 'low', pixels: 10 }), 'auto');
  }
  assert.equal(several(gate), true);
});

test('a choice is kept for each camera, and what is none is auto', (t) => {
  const kept = new Map();
  globalThis.sessionStorage = { getItem: (k) => kept.get(k) ?? null, setItem: (k, v) => { kept.set(k, v); } };
  t.after(() => { delete globalThis.sessionStorage; });
  assert.equal(choices.get('gate'), 'auto');
  choices.set('gate', 'low');
  assert.equal(choices.get('gate'), 'low');
  assert.equal(choices.get('plain'), 'auto');
  for (const k of kept.keys()) kept.set(k, 'off');
  assert.equal(choices.get('gate'), 'auto', 'off is no choice');
});

test('without storage there is still a page', () => {
  const refuse = () => { throw new Error('denied'); };
  globalThis.sessionStorage = { getItem: refuse, setItem: refuse };
  try {
    choices.set('gate', 'low');
    assert.equal(choices.get('gate'), 'auto');
  } finally { delete globalThis.sessionStorage; }
});
