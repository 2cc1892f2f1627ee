import test from 'node:test';
import assert from 'node:assert/strict';
import { Clock } from '../js/clock.js';

test('no sample, no time', () => {
  const clock = new Clock();
  assert.equal(clock.best, null);
  assert.ok(Number.isNaN(clock.at(1000)));
});

test('the quickest exchange wins', () => {
  const clock = new Clock();
  clock.sample(0, 100, 5000 + 90);    // asymmetric: 40 ms off
  clock.sample(1000, 1002, 6000 + 1); // offset 5000
  clock.sample(2000, 2050, 7000 + 5);
  assert.deepEqual(clock.best, { rtt: 2, offset: 5000 });
  assert.equal(clock.at(3000), 8000);
});

test('old samples are forgotten, so that a clock set right is followed', () => {
  const clock = new Clock();
  clock.sample(0, 1, 100.5);
  for (let i = 0; i < 12; i++) clock.sample(i * 1000, i * 1000 + 4, i * 1000 + 2 + 7000);
  assert.equal(clock.best.offset, 7000);
});

test('an answer without a time is no sample', () => {
  const clock = new Clock();
  clock.sample(0, 1, undefined);
  assert.equal(clock.best, null);
});

test('a box that restarted is a new clock', () => {
  const clock = new Clock();
  clock.sample(0, 1, 100);
  clock.reset();
  assert.equal(clock.best, null);
});
