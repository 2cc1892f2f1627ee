import test from 'node:test';
import assert from 'node:assert/strict';
import { STRIP, crc16, read, region } from '../js/code.js';

// draw makes the strip of a code the long way round: bytes, bits, cells, pixels.
function draw(bytes, { black = 16, white = 235 } = {}) {
  const rgba = new Uint8ClampedArray(STRIP.width * STRIP.height * 4).fill(255);
  for (let y = 0; y < STRIP.height; y++) {
    for (let x = 0; x < STRIP.width; x++) {
      const bit = Math.floor(y / (STRIP.height / 4)) * 26 + Math.floor(x / (STRIP.width / 26));
      const value = bytes[bit >> 3] >> (7 - (bit & 7)) & 1 ? white : black;
      rgba.fill(value, (y * STRIP.width + x) * 4, (y * STRIP.width + x) * 4 + 3);
    }
  }
  return rgba;
}

// frame 0x01020304, and a time of which every byte differs.
const bytes = [0xa7, 1, 2, 3, 4, 0x01, 0x9a, 0xa1, 0x78, 0x92, 0x7b, 0, 0];
const crc = crc16(bytes.slice(0, 11));
bytes[11] = crc >> 8;
bytes[12] = crc & 255;

test('the CRC is CRC-16/CCITT-FALSE', () => {
  assert.equal(crc16(new TextEncoder().encode('123456789')), 0x29b1); // the catalogue's check value
  assert.equal(crc16([]), 0xffff);
});

test('a code is read back', () => {
  assert.deepEqual(read(draw(bytes)), { frame: 0x01020304, time: 0x019aa178927b });
});

test('48 bits of time do not lose their upper part', () => {
  const far = [0xa7, 255, 255, 255, 255, 255, 255, 255, 255, 255, 254];
  const c = crc16(far);
  assert.deepEqual(read(draw([...far, c >> 8, c & 255])), { frame: 0xffffffff, time: 2 ** 48 - 2 });
});

test('weak contrast is enough, and noise outside the middle of a cell is ignored', () => {
  assert.equal(read(draw(bytes, { black: 100, white: 150 })).frame, 0x01020304);
  const noisy = draw(bytes);
  for (let i = 0; i < STRIP.height; i++) noisy.fill(i % 2 * 255, i * STRIP.width * 4, (i * STRIP.width + 2) * 4);
  assert.equal(read(noisy).frame, 0x01020304);
});

test('what is no code is null', () => {
  const strip = STRIP.width * STRIP.height * 4;
  assert.equal(read(new Uint8ClampedArray(strip)), null);
  assert.equal(read(new Uint8ClampedArray(strip).fill(255)), null);
  for (let bit = 0; bit < 104; bit++) { // any one bit wrong
    const wrong = [...bytes];
    wrong[bit >> 3] ^= 0x80 >> (bit & 7);
    assert.equal(read(draw(wrong)), null, `bit ${bit}`);
  }
});

test('the region is rows 0..3 and columns 3..28 of 32 × 18 cells', () => {
  assert.deepEqual(region(1280, 720), [120, 0, 1040, 160]);
});
