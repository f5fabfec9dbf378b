// The console's views in a real browser, Debian's Chromium (CHROMIUM names another one).
// With CONSOLE_SCREENSHOT=<file.png> a picture of the console is kept.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { chromium } from 'playwright-core';
import SockJS from 'sockjs-client';
import { Session } from './clients.mjs';
import { Node, PATIENCE, program } from './node.mjs';

const run = promisify(execFile);

// The sandbox wants a user that is not root; the rest keeps the browser from calling home.
const ARGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage',
];

/** The passcode "apple". */
const HASH = '$2b$04$npib60/0Y7vG7V76ZBtIbOYvNW2ErpoNL8oZzWGC5YJ6TvKbIu7qO';

let browser;
before(async () => {
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ARGS });
});
after(() => browser?.close());

/** A node, and a tab at its console; at the end the page has complained about nothing. */
async function setting(t, { env = {}, mayComplain = () => false, ...options } = {}) {
  const node = await Node.start({ env });
  t.after(() => node.stop());
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  t.after(() => context.close());
  context.setDefaultTimeout(PATIENCE);
  const complaints = [];
  const page = await context.newPage();
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type()) && !mayComplain(message.text())) complaints.push(message.text());
  });
  await page.goto(node.console);
  return { node, page, check: () => assert.deepEqual(complaints, []) };
}

const message = (page, text) => page.locator('#messages .message', { hasText: text }).first();

async function connect(page, login = '') {
  await page.locator('#login').fill(login);
  await page.getByRole('button', { name: 'Connect', exact: true }).click();
  await page.locator('#state[data-state=open]').waitFor();
}

async function subscribe(page, destination, ack = 'auto') {
  await page.locator('#subscribe-ack').selectOption(ack);
  await page.locator('#subscribe-destination').fill(destination);
  await page.locator('#subscribe-destination').press('Enter');
  await page.locator('#subscriptions li', { has: page.locator('code:not([data-waiting])', { hasText: destination }) }).waitFor();
}

async function send(page, destination, body) {
  await page.locator('#send-destination').fill(destination);
  await page.locator('#send-body').fill(body);
  await page.locator('#send-body').press('Enter');
}

/** Stores a message for a user, as a service does. */
function store(node, user, destination, body) {
  const args = ['send', '--grpc', node.said('gRPC'), '--user', user, '--durable', destination, body];
  return run(program(), args);
}

/** The node holds that many sessions, as its page shows. */
const sessions = (page, n) => page.locator('#node-session-count', { hasText: new RegExp(`^${n}$`) }).waitFor();

const row = (page, list, text) => page.locator(`#${list} tbody tr`, { hasText: text }).first();

test('what is acknowledged is gone, what is refused comes again, and an answer goes where it is wanted', async (t) => {
  const { node, page, check } = await setting(t);
  await connect(page);
  await subscribe(page, '/queue/work', 'client-individual');
  await send(page, '/queue/work', 'a task');
  await message(page, 'a task').getByRole('button', { name: 'nack', exact: true }).click();
  await page.locator('#messages .message', { hasText: 'a task' }).nth(1).waitFor();
  const again = message(page, 'a task');
  await again.getByRole('button', { name: 'ack', exact: true }).click();
  await again.getByText('ACK sent').waitFor();
  assert.equal(await again.getByRole('button', { name: 'ack', exact: true }).count(), 0);

  const asking = await Session.connect(t, node.url);
  await subscribe(page, '/topic/questions');
  await subscribe(page, '/topic/answers');
  await asking.publish('/topic/questions', 'well?', { 'reply-to': '/topic/answers', 'correlation-id': '7' });
  await message(page, 'well?').getByRole('button', { name: 'reply' }).click();
  await page.locator('#send-body').fill('well!');
  await page.locator('#send-body').press('Enter');
  const answer = message(page, 'well!');
  await answer.locator('.destination', { hasText: '/topic/answers' }).waitFor();
  await answer.getByRole('button', { name: 'header' }).click();
  await answer.locator('dt', { hasText: 'correlation-id' }).waitFor();
  check();
});

test('keys change tabs, and the node shows its sessions, what they want, and its rates', async (t) => {
  const { node, page, check } = await setting(t);
  await connect(page, 'ann');
  await subscribe(page, '/topic/<b>bold');
  const other = await Session.connect(t, node.url, { connectHeaders: { login: 'bob' } });
  await page.locator('h1').click();
  await page.keyboard.press('2');
  await sessions(page, 2);
  await row(page, 'node-sessions', 'ann').locator('td[data-head=Transport]', { hasText: 'WebSocket' }).waitFor();
  await row(page, 'node-sessions', 'ann').locator('td[data-head=Subscriptions]', { hasText: /^1$/ }).waitFor();
  await row(page, 'node-destinations', '/topic/<b>bold').waitFor();
  assert.equal(await page.locator('#node-destinations b').count(), 0);
  await page.locator('.tile', { hasText: 'Messages in' }).locator('strong', { hasText: '/s' }).waitFor();
  await page.keyboard.press('/');
  await page.keyboard.type('bob');
  await sessions(page, 1);
  await page.keyboard.press('Escape');
  await page.keyboard.press('3');
  await row(page, 'users-list', 'bob').getByRole('button').click();
  await page.locator('#user-title', { hasText: 'bob' }).waitFor();
  await row(page, 'user-detail', '127.0.0.1').waitFor();
  await page.keyboard.press('4');
  await page.locator('#groups-filter').fill('staff');
  await page.keyboard.press('Enter');
  await page.locator('#group-title', { hasText: 'staff: 0 members' }).waitFor();
  await other.client.deactivate();
  check();
});

test('an inbox shows what was stored, and what is dropped is gone', async (t) => {
  const { node, page, check } = await setting(t);
  await store(node, 'ann', '/queue/news', 'for later');
  await page.locator('#tab-inboxes').click();
  await row(page, 'inboxes-users', 'ann').getByRole('button').click();
  const stored = row(page, 'inbox-messages', 'pending');
  await stored.waitFor();
  page.on('dialog', (dialog) => dialog.accept());
  await stored.locator('td[data-head=Body]', { hasText: 'for later' }).waitFor();
  const id = await stored.locator('code').first().textContent();
  await stored.getByRole('button', { name: /^Drop/ }).click();
  await page.locator('#inbox-messages', { hasText: 'Nothing waits.' }).waitFor();
  await page.locator('#status-id').fill(id);
  await page.locator('#status-id').press('Enter');
  await page.locator('#status-said', { hasText: 'dropped since' }).waitFor();
  await store(node, 'ann', '/queue/news', 'for now');
  await page.locator('#tab-client').click();
  await connect(page, 'ann');
  await subscribe(page, '/user/queue/news');
  await message(page, 'for now').waitFor();
  check();
});

for (const colorScheme of ['light', 'dark']) {
  test(`a narrow page in ${colorScheme} colours can be used and does not scroll sideways`, async (t) => {
    const viewport = { width: 360, height: 740 };
    const { node, page, check } = await setting(t, { viewport, colorScheme });
    await store(node, 'ann', '/queue/news', 'for later');
    await connect(page, 'ann');
    await subscribe(page, '/topic/a.very.long.name.of.a.topic.that.no.narrow.page.has.room.for');
    for (const tab of ['node', 'users', 'groups', 'inboxes', 'client']) {
      await page.locator(`#tab-${tab}`).click();
      if (tab === 'node') await row(page, 'node-sessions', 'ann').waitFor();
      if (tab === 'inboxes') await row(page, 'inboxes-users', 'ann').getByRole('button').click();
      if (tab === 'inboxes') await row(page, 'inbox-messages', 'pending').waitFor();
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), viewport.width, tab);
    }
    const [, ...rgb] = /(\d+), (\d+), (\d+)/.exec(await page.evaluate(() => getComputedStyle(document.body).backgroundColor));
    assert.equal(rgb.every((part) => Number(part) < 128), colorScheme === 'dark', String(rgb));
    check();
  });
}

test('by SockJS the console speaks as it does by WebSocket', async (t) => {
  const { node, page, check } = await setting(t);
  await page.locator('#transport').selectOption('sockjs');
  assert.equal(await page.locator('#url').inputValue(), node.url.replace(/^ws/, 'http'));
  await connect(page, 'ann');
  await subscribe(page, '/topic/a');
  await send(page, '/topic/a', 'by another way');
  await message(page, 'by another way').waitFor();
  await page.getByRole('button', { name: 'Wire frames' }).click();
  await page.locator('#wire pre', { hasText: 'CONNECTED' }).waitFor();
  check();
});

test('where a role is needed the page asks for a login, and forgets it', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'console-'));
  t.after(() => rm(directory, { recursive: true }));
  const file = join(directory, 'users.toml');
  await writeFile(file, `[[users]]\nname = "ann"\nhash = "${HASH}"\nroles = ["operator"]\n`);
  const env = { FOOTBRIDGE_GATEWAY__CONSOLE_ROLE: 'operator', FOOTBRIDGE_ACCESS__USERS_FILE: file };
  // What is refused the browser itself reports.
  const { page, check } = await setting(t, { env, mayComplain: (text) => /status of 401/.test(text) });
  await page.locator('#tab-node').click();
  await page.locator('#entrance').waitFor();
  await page.locator('#entrance-login').fill('ann');
  await page.locator('#entrance-passcode').fill('pear');
  await page.keyboard.press('Enter');
  await page.locator('#entrance-problem').waitFor();
  await page.locator('#entrance-passcode').fill('apple');
  await page.keyboard.press('Enter');
  await sessions(page, 0);
  await page.locator('#log-out').click();
  await page.locator('#entrance').waitFor();
  check();
});

/** Keeps a picture where CONSOLE_SCREENSHOT=<file.png> says; it is taken in any case. */
async function keep(page, name) {
  const picture = await page.screenshot();
  const file = process.env.CONSOLE_SCREENSHOT?.replace('.png', `${name}.png`);
  if (file) await writeFile(file, picture);
  assert.ok(picture.length > 10_000, `${picture.length} bytes of a picture`);
}

test('the picture of the console is of real life', async (t) => {
  const { node, page, check } = await setting(t);
  await connect(page, 'ann');
  await subscribe(page, '/topic/prices.*');
  const names = ['bob', 'carol', 'dave', 'erin', 'frank', 'grace'];
  const sockjs = () => new SockJS(node.url.replace(/^ws/, 'http'), null, { transports: 'xhr-streaming' });
  const others = await Promise.all(names.map((login, n) => Session.connect(t, node.url, {
    connectHeaders: { login },
    ...(n % 3 === 2 ? { webSocketFactory: sockjs } : {}),
  })));
  for (const other of others) await other.subscribe('/topic/prices.eur');
  for (const [n, other] of others.entries()) await other.subscribe(n % 2 ? '/topic/news' : '/user/queue/orders');
  for (const n of [1, 2, 3]) await store(node, 'zoe', '/queue/orders', `order ${n}`);
  await page.locator('#tab-node').click();
  // As many points as make a line: one with each answer of the node.
  let answers = 0;
  page.on('response', (response) => { answers += Number(response.url().includes('/console/node')); });
  const enough = process.env.CONSOLE_SCREENSHOT ? 12 : 3;
  for (let n = 0; answers < enough; n += 1) {
    for (let sent = 0; sent < 6 + ((n * 7) % 20); sent += 1) {
      await others[sent % others.length].publish('/topic/prices.eur', JSON.stringify({ price: 100 + sent }));
    }
    const before = answers;
    while (answers === before) await page.waitForResponse((response) => response.url().includes('/console/node'));
  }
  await row(page, 'node-sessions', 'SockJS').first().waitFor();
  await keep(page, '');
  await page.locator('#tab-inboxes').click();
  await row(page, 'inboxes-users', 'zoe').getByRole('button').click();
  await row(page, 'inbox-messages', 'pending').waitFor();
  await keep(page, '-inbox');
  await page.locator('#tab-client').click();
  await keep(page, '-client');
  await page.setViewportSize({ width: 360, height: 740 });
  await page.locator('#tab-node').click();
  await keep(page, '-narrow');
  await page.emulateMedia({ colorScheme: 'dark' });
  await keep(page, '-dark');
  check();
});
