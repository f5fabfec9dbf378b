// The chat's two pages in a real browser, Debian's Chromium (CHROMIUM names another one).

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { chromium } from 'playwright-core';
import { unique } from './clients.mjs';
import { Node, PATIENCE, Process, built } from './node.mjs';

let browser;
let chat;
let node;
before(async () => {
  // The sandbox wants a user that is not root; the rest keeps the browser from calling home.
  const args = [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage',
  ];
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args });
  chat = await new Process().spawn(built('chat'), ['127.0.0.1:0'], ['Chat']);
  node = await Node.start({ options: ['--application', chat.said('Chat')] });
});
after(async () => {
  await browser?.close();
  await node?.stop();
  await chat?.kill();
});

/** The page of that name from the repository, whose user has entered as `name`. */
async function enter(context, file, name) {
  const page = await context.newPage();
  const url = new URL(`../../../chat/page/${file}`, import.meta.url);
  url.searchParams.set('node', node.url);
  await page.goto(url.href);
  await page.locator('#enter input').fill(name);
  await page.keyboard.press('Enter');
  return page;
}

const line = (page, text) => page.locator('#lines > *', { hasText: text }).first().waitFor();

/** Says something until it shows: the page tells nobody when it has subscribed. */
async function say(page, text, seen) {
  for (let shown = false; !shown;) {
    await page.locator('#say [aria-label="What to say"]').fill(text);
    await page.locator('#say button').click();
    shown = await seen.locator('#lines > *', { hasText: text }).first().waitFor({ timeout: PATIENCE / 10 }).then(() => true, () => false);
  }
}

test('both pages talk to each other, whisper, and read what was said before', async (t) => {
  const context = await browser.newContext();
  t.after(() => context.close());
  context.setDefaultTimeout(PATIENCE);
  const complaints = [];
  context.on('weberror', (error) => complaints.push(error.error().message));
  const [ann, bob] = [unique('ann'), unique('bob')];
  const modern = await enter(context, 'index.html', ann);
  const classic = await enter(context, 'classic.html', bob);
  const [first, second] = [unique('<b>hello</b>'), unique('hello back')];
  await say(modern, first, modern);
  await say(classic, second, modern);
  await line(modern, `${bob}: ${second}`);
  await modern.locator('#say [name=to]').fill(bob);
  await modern.locator('#say [name=content]').fill('psst');
  await modern.locator('#say button').click();
  await line(classic, `${ann}: psst`);
  const late = await enter(context, 'classic.html', unique('late'));
  await line(late, `${ann}: ${first}`);
  await modern.locator('#say [name=content]').fill('x'.repeat(5000));
  await modern.locator('#say button').click();
  await line(modern, 'bad_message');
  assert.deepEqual(complaints, []);
});
