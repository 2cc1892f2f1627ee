// The box's clock, as the page can know it: the browser's monotonic clock
// plus an offset measured by questions and answers.

const KEEP = 12; // samples; the box's clock may be set while the page is open

/** Milliseconds since the Unix epoch by the browser's own steady clock. */
export const local = () => performance.timeOrigin + performance.now();

export class Clock {
  #samples = [];

  /**
   * Takes one exchange: asked and answered by the local clock, box = the
   * box's time in between, all in Unix milliseconds.
   */
  sample(asked, answered, box) {
    if (!Number.isFinite(box)) return;
    this.#samples.push({ rtt: answered - asked, offset: box - (asked + answered) / 2 });
    if (this.#samples.length > KEEP) this.#samples.shift();
  }

  /** Forgets all: the box has restarted, or is another. */
  reset() { this.#samples = []; }

  /** The best estimate so far, {offset, rtt} in ms, or null. The quickest exchange is the surest. */
  get best() {
    return this.#samples.reduce((a, b) => a && a.rtt <= b.rtt ? a : b, null);
  }

  /** Box time in Unix ms at a local time; NaN before the first sample. */
  at(time) {
    const best = this.best;
    return best ? time + best.offset : NaN;
  }
}
