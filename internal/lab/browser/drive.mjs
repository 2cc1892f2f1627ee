// Drives one browser page on behalf of a Go test: reads one JSON command a
// line from standard input, writes one JSON answer a line to standard output.
// The browser ends with standard input, or with this process.
//
//   {"op":"launch", "browser", "path", "width", "height", "dark", "camera"}
//   {"op":"goto", "url"}   {"op":"eval", "code"}   {"op":"wait", "code", "ms"}
//   {"op":"click", "code"}   {"op":"key", "code"}   {"op":"type", "code"}
//   {"op":"shot", "code"}   {"op":"said"}   {"op":"loss", "percent"}   {"op":"hide", "hidden"}
//
// "code" is an expression that may be a promise, a CSS selector, a key, or text.
// Answers: {"value": …} or {"error": "…"}.

import { createInterface } from 'node:readline';
import puppeteer from 'puppeteer-core';

const CHROMIUM = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update',
  '--disable-sync', '--disable-quic', '--no-first-run'];

const CAMERA = ['--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream'];

let browser, page, cdp, front;
const said = []; // what the page wrote to its console, and its uncaught errors

const operations = {
  async launch({ browser: kind, path, width, height, dark, camera }) {
    browser = await puppeteer.launch({
      browser: kind, executablePath: path, headless: true, acceptInsecureCerts: true,
      defaultViewport: kind === 'chrome' ? { width, height } : null,
      ...(kind === 'chrome' ? { args: [...CHROMIUM, ...(camera ? CAMERA : []), `--window-size=${width},${height}`], pipe: true }
        : { args: [`--width=${width}`, `--height=${height}`] }),
    });
    page = await browser.newPage();
    page.on('console', (m) => { said.push(`${m.type()}: ${m.text()}`); });
    page.on('pageerror', (e) => { said.push(`uncaught: ${e.message}`); });
    if (kind === 'chrome') await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: dark ? 'dark' : 'light' }]);
    return browser.version();
  },
  async goto({ url }) { await page.goto(url, { waitUntil: 'domcontentloaded' }); },
  eval: ({ code }) => page.evaluate(code),
  // Asked from outside: the page's policy forbids Firefox to evaluate a text inside it.
  async wait({ code, ms }) {
    for (const end = Date.now() + ms; ; await new Promise((resolve) => { setTimeout(resolve, 20); })) {
      const value = await page.evaluate(code);
      if (value) return value;
      if (Date.now() > end) throw new Error(`not within ${ms} ms`);
    }
  },
  click: ({ code }) => page.click(code),
  key: ({ code }) => page.keyboard.press(code),
  type: ({ code }) => page.keyboard.type(code),
  async shot({ code }) {
    const target = code ? await page.$(code) : page;
    if (!target) throw new Error(`no element ${code}`);
    return target.screenshot({ encoding: 'base64' });
  },
  // Only connections made after the first call are affected.
  async loss({ percent }) {
    cdp ??= await page.createCDPSession();
    await cdp.send('Network.enable');
    await cdp.send('Network.emulateNetworkConditions',
      { offline: false, latency: 1, downloadThroughput: 1e8, uploadThroughput: 1e8, packetLoss: percent, packetQueueLength: 1000 });
  },
  // As a person does it: by another tab, in front of the page's.
  async hide({ hidden }) {
    front ??= await browser.newPage();
    await (hidden ? front : page).bringToFront();
  },
  said: () => said,
};

async function answer(line) {
  try {
    const command = JSON.parse(line);
    return { value: await operations[command.op](command) ?? null };
  } catch (error) {
    return { error: error.message };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await answer(line))}\n`);
}
await browser?.close();
