// The test pattern's block code: 32 × 18 cells; rows 0..3 and columns 3..28
// hold 104 bits, row by row, the most significant bit first, white = 1.

const COLUMNS = 32, ROWS = 18, LEFT = 3, WIDE = 26, HIGH = 4;
const CELL = 8; // pixels a cell in the strip that is sampled
const MAGIC = 0xa7;

/** Size in pixels of the strip that `read` wants. */
export const STRIP = { width: WIDE * CELL, height: HIGH * CELL };

/** The part of a picture of w × h pixels that holds the code: [x, y, width, height]. */
export function region(w, h) {
  return [w * LEFT / COLUMNS, 0, w * WIDE / COLUMNS, h * HIGH / ROWS];
}

/** CRC-16/CCITT-FALSE. */
export function crc16(bytes) {
  let crc = 0xffff;
  for (const b of bytes) {
    crc ^= b << 8;
    for (let i = 0; i < 8; i++) crc = crc & 0x8000 ? (crc << 1 ^ 0x1021) & 0xffff : crc << 1;
  }
  return crc;
}

/**
 * Reads the code from RGBA pixels of a strip: {frame, time} with time in Unix
 * milliseconds, or null where there is no code.
 */
export function read(rgba) {
  const bytes = new Uint8Array(13);
  for (let bit = 0; bit < 104; bit++) {
    if (bright(rgba, bit % WIDE, Math.floor(bit / WIDE))) bytes[bit >> 3] |= 0x80 >> (bit & 7);
    if (bit === 7 && bytes[0] !== MAGIC) return null; // most pictures end here
  }
  const view = new DataView(bytes.buffer);
  if (crc16(bytes.subarray(0, 11)) !== view.getUint16(11)) return null;
  return { frame: view.getUint32(1), time: view.getUint16(5) * 2 ** 32 + view.getUint32(7) };
}

// bright takes the mean luma of the centre half of a cell.
function bright(rgba, column, row) {
  let sum = 0;
  for (let y = row * CELL + CELL / 4; y < row * CELL + CELL * 3 / 4; y++) {
    for (let x = column * CELL + CELL / 4; x < column * CELL + CELL * 3 / 4; x++) {
      const i = (y * STRIP.width + x) * 4;
      sum += rgba[i] * 299 + rgba[i + 1] * 587 + rgba[i + 2] * 114;
    }
  }
  return sum > 128 * 1000 * (CELL / 2) ** 2;
}

let canvas; // one for the page: frames are read one after the other

/** Reads the code from the frame that a video element shows now. */
export function readVideo(video) {
  const { videoWidth: w, videoHeight: h } = video;
  if (!w || !h) return null;
  canvas ??= Object.assign(document.createElement('canvas'), STRIP).getContext('2d', { willReadFrequently: true });
  canvas.drawImage(video, ...region(w, h), 0, 0, STRIP.width, STRIP.height);
  return read(canvas.getImageData(0, 0, STRIP.width, STRIP.height).data);
}
