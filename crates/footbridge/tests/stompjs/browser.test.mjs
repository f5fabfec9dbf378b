// The console in a real browser, Debian's Chromium (CHROMIUM names another one).
// With SCREENSHOT=<file.png> a picture of the console is kept.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { chromium } from 'playwright-core';
import { Session } from './clients.mjs';
import { Node, PATIENCE, program } from './node.mjs';

// The sandbox wants a user that is not root; the rest keeps the browser from calling home.
const ARGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage',
];

let browser;
before(async () => {
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ARGS });
});
after(() => browser?.close());

/** A node, and tabs at its console; at the end the page has complained about nothing. */
async function setting(t, { mayComplain = () => false } = {}) {
  const node = await Node.start();
  t.after(() => node.stop());
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  t.after(() => context.close());
  context.setDefaultTimeout(PATIENCE);
  const complaints = [];
  const hosts = new Set();
  context.on('request', (request) => {
    const { protocol, host } = new URL(request.url());
    if (protocol !== 'data:') hosts.add(host);
  });
  const tab = async () => {
    const page = await context.newPage();
    page.on('websocket', (socket) => hosts.add(new URL(socket.url()).host));
    page.on('pageerror', (error) => complaints.push(error.message));
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type()) && !mayComplain(message.text())) complaints.push(message.text());
    });
    await page.goto(node.console);
    return page;
  };
  const check = () => {
    assert.deepEqual(complaints, []);
    assert.deepEqual([...hosts], [node.address]);
  };
  return { node, tab, check };
}

const state = (page, state) => page.locator(`#state[data-state=${state}]`).waitFor();
const message = (page, text) => page.locator('#messages .message', { hasText: text }).first();

async function connect(page) {
  await page.getByRole('button', { name: 'Connect', exact: true }).click();
  await state(page, 'open');
}

/** Subscribes with the keyboard alone, and waits for the receipt. */
async function subscribe(page, destination) {
  await page.locator('#subscribe-destination').fill(destination);
  await page.keyboard.press('Enter');
  await live(page, destination);
}

const live = (page, destination) => page
  .locator('#subscriptions li', { has: page.locator('code:not([data-waiting])', { hasText: destination }) })
  .first().waitFor();

async function send(page, destination, body) {
  await page.locator('#send-destination').fill(destination);
  await page.locator('#send-body').fill(body);
  await page.keyboard.press('Enter');
}

test('what one tab, and the command line, sends another tab shows', async (t) => {
  const { node, tab, check } = await setting(t);
  const [one, other] = [await tab(), await tab()];
  assert.equal(await one.locator('#url').inputValue(), node.url);
  await connect(one);
  await connect(other);
  await other.getByRole('button', { name: 'Subscribe to /topic/public' }).click();
  await live(other, '/topic/public');

  await send(one, '/topic/public', 'from the other tab');
  await message(other, 'from the other tab').waitFor();

  await one.locator('#send-body').fill('relayed by the example');
  await one.getByRole('button', { name: 'Send to /app/message' }).click();
  await message(other, 'relayed by the example').waitFor();
  await one.getByText('confirmed in').waitFor();

  await promisify(execFile)(program(), ['send', '--url', node.url, '/topic/public', 'from the command line']);
  await message(other, 'from the command line').waitFor();

  assert.equal(await other.locator('#messages .message').count(), 3);
  assert.equal(await one.locator('#messages .message').count(), 0);
  if (process.env.SCREENSHOT) await other.screenshot({ path: process.env.SCREENSHOT });
  check();
});

test('messages show destination, headers on demand, JSON indented, and markup as text', async (t) => {
  const { node, tab, check } = await setting(t);
  const page = await tab();
  await connect(page);
  await subscribe(page, '/topic/json');
  await subscribe(page, '/topic/markup.*');
  const sender = await Session.connect(t, node.url);
  await sender.publish('/topic/json', '{"a":[1]}', { 'content-type': 'application/json', note: 'two: colons' });
  await sender.publish('/topic/markup.x', '<img src=x onerror=alert(1)>');
  await sender.publish('/topic/markup.y', Uint8Array.of(0xff, 0x00, 0x41));

  const json = message(page, '/topic/json');
  await json.waitFor();
  assert.equal(await json.locator('.body').textContent(), '{\n  "a": [\n    1\n  ]\n}');
  assert.equal(await json.locator('.headers').isVisible(), false);
  await json.getByRole('button', { name: 'headers' }).click();
  await json.getByText('two: colons').waitFor();

  const markup = message(page, '/topic/markup.x');
  await markup.waitFor();
  assert.equal(await markup.locator('.body').textContent(), '<img src=x onerror=alert(1)>');
  const binary = message(page, '/topic/markup.y');
  await binary.waitFor();
  assert.equal(await binary.locator('.body').textContent(), 'ff 00 41');

  await page.getByRole('button', { name: 'Wire frames' }).click();
  await page.locator('#wire pre', { hasText: 'CONNECTED' }).waitFor();
  await page.locator('#wire pre', { hasText: 'content-type:application/json' }).waitFor();
  check();
});

test('an ERROR is shown with its close code, and the rest of the subscriptions come back', async (t) => {
  const { tab, check } = await setting(t);
  const page = await tab();
  await connect(page);
  await subscribe(page, '/topic/good');
  await page.locator('#subscribe-destination').fill('/topic/a..b');
  await page.keyboard.press('Enter');
  await page.locator('#problem', { hasText: 'empty word' }).waitFor();
  await page.locator('#problem', { hasText: 'close code 1002' }).waitFor();
  await state(page, 'open');
  await live(page, '/topic/good');
  assert.equal(await page.locator('#subscriptions li').count(), 1);
  await send(page, '/topic/good', 'still here');
  await message(page, 'still here').waitFor();
  check();
});

test('the console reconnects and subscribes again after the node was killed', async (t) => {
  // A refused connection is what the browser itself reports.
  const { node, tab, check } = await setting(t, { mayComplain: (text) => /WebSocket connection to .* failed/.test(text) });
  const page = await tab();
  await connect(page);
  await subscribe(page, '/topic/public');
  await node.kill();
  await state(page, 'waiting');
  await page.locator('#problem', { hasText: 'close code 1006' }).waitFor();
  const next = await Node.start({ listen: node.address });
  t.after(() => next.stop());
  await state(page, 'open');
  await live(page, '/topic/public');
  await send(page, '/app/message', 'after the kill');
  await message(page, 'after the kill').waitFor();
  check();
});

test('UNSUBSCRIBE ends one subscription, and Disconnect the session', async (t) => {
  const { tab, check } = await setting(t);
  const page = await tab();
  await connect(page);
  await subscribe(page, '/topic/one');
  await subscribe(page, '/topic/two');
  await page.getByRole('button', { name: 'Unsubscribe from /topic/one' }).click();
  await send(page, '/topic/one', 'unheard');
  await page.getByText('confirmed in').waitFor();
  await send(page, '/topic/two', 'heard');
  await message(page, 'heard').waitFor();
  assert.deepEqual(await page.locator('#messages .body').allTextContents(), ['heard']);
  await page.getByRole('button', { name: 'Disconnect' }).click();
  await state(page, 'closed');
  await page.locator('#messages .event', { hasText: /close code (1000|1005)/ }).waitFor();
  assert.equal(await page.locator('#problem').isVisible(), false);
  check();
});

test('the last 500 messages are kept', async (t) => {
  const { node, tab, check } = await setting(t);
  const page = await tab();
  await connect(page);
  await subscribe(page, '/topic/many');
  const sender = await Session.connect(t, node.url);
  for (let n = 0; n < 620; n += 1) sender.client.publish({ destination: '/topic/many', body: `number ${n}` });
  await message(page, 'number 619').waitFor();
  assert.equal(await page.locator('#messages > li').count(), 500);
  assert.equal(await page.locator('#message-count').textContent(), '620');
  check();
});

test('the example is of this node', async (t) => {
  const { node, tab, check } = await setting(t);
  const page = await tab();
  const example = await page.locator('#example').textContent();
  assert.ok(example.includes(`brokerURL: ${JSON.stringify(node.url)}`));
  await page.locator('#copy').click();
  await page.getByRole('button', { name: /Copied|Selected/ }).waitFor();
  check();
});
